// Finds out once, at program start, what the host's vector unit looks like.
#include "engine/soft/host_vector_unit.hpp"

#include <algorithm>
#include <cpuid.h>

#include "base/bits.hpp"

namespace anyhyve::soft {

namespace {

u64 read_xcr(u32 index)
{
    u32 low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return (u64 { high } << 32) | low;
}

// MXCSR bits that the host has (SDM vol. 1 11.6.6); 0 in the image means the first processors' 0FFBFH.
u32 read_mxcsr_mask()
{
    alignas(16) std::array<u8, xsave_image::legacy_size> image {};
    asm volatile("fxsave64 %0" : "=m"(image));
    u32 mask = 0;
    for (unsigned i = 0; i < 4; ++i)
        mask |= u32 { image[xsave_image::mxcsr_mask + i] } << (8 * i);
    return mask != 0 ? mask : 0xffbf;
}

HostVectorUnit detect()
{
    HostVectorUnit unit;
    unit.mxcsr_mask = read_mxcsr_mask();
    unit.components[0] = { .offset = 0, .size = xsave_image::xmm, .aligned = false };
    unit.components[1] = { .offset = xsave_image::xmm, .size = 256, .aligned = false };
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
        return unit;
    unit.xsave = true;
    u64 mask = read_xcr(0) & xcr0::offered;
    if ((mask & xcr0::avx512) != xcr0::avx512 || !(mask & xcr0::avx))
        mask &= ~xcr0::avx512;
    unit.mask = mask;
    __cpuid_count(0xd, 1, eax, ebx, ecx, edx);
    unit.xsaveopt = eax & bit(0);
    unit.xsavec = eax & bit(1);
    unit.xgetbv1 = eax & bit(2);
    for (unsigned n = 2; n < xcr0::component_count; ++n) {
        if (!(mask & bit(n)))
            continue;
        __cpuid_count(0xd, n, eax, ebx, ecx, edx);
        unit.components[n] = { .offset = ebx, .size = eax, .aligned = (ecx & 2) != 0 };
    }
    u32 end = xsave_image::extended;
    for (auto const& component : unit.components)
        end = std::max(end, component.offset + component.size);
    unit.components[xcr0::pkru_component] = { .offset = static_cast<u32>(align_up(end, 8)), .size = 8, .aligned = false };
    return unit;
}

HostVectorUnit const s_unit = detect();

} // namespace

HostVectorUnit const& host_vector_unit()
{
    return s_unit;
}

} // namespace anyhyve::soft
