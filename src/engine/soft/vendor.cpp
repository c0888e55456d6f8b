// Finds out the host CPU's vendor once, at program start (CPUID leaf 0; Intel SDM vol. 2A CPUID, AMD APM vol. 3 appendix E).
#include "engine/soft/vendor.hpp"

#include <cpuid.h>

#include "base/integer.hpp"

namespace anyhyve::soft {

namespace {

Vendor detect_vendor()
{
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx))
        return Vendor::intel;
    bool const amd = ebx == signature_AMD_ebx && ecx == signature_AMD_ecx && edx == signature_AMD_edx;
    constexpr u32 hygo = 0x6f677948, ngen = 0x6e65476e, uine = 0x656e6975; // "HygonGenuine"
    bool const hygon = ebx == hygo && edx == ngen && ecx == uine;
    return amd || hygon ? Vendor::amd : Vendor::intel;
}

Vendor const s_vendor = detect_vendor();

} // namespace

Vendor cpu_vendor()
{
    return s_vendor;
}

} // namespace anyhyve::soft
