// The feature bits of CPUID that a guest may see, one row each. What has no row is hidden: TSX, MPX, AMX, CET, UINTR, MOVDIR64B, 3DNow!,
// VMX, SVM, performance counters, WAITPKG, ENQCMD, Key Locker, SGX, LA57, and whatever comes in the future. MONITOR: Cpuid::add_identity.
// Source: Intel SDM vol. 2A CPUID tables 3-8, 3-10, 3-11; AMD APM vol. 3 appendix E.
#pragma once

#include "engine/soft/host_vector_unit.hpp"
#include "x86/instruction.hpp"

namespace anyhyve::soft {

// When a guest gets a feature bit.
enum class Offer : u8 {
    host,     // when the host has it: the instructions run on the host
    always,   // the engine does it all by itself (given the components, if any)
    amd,      // always, with an AMD host
    intel,    // always, with another one
    amd_host, // when the host has it and is AMD's
};
enum class CpuidRegister : u8 { eax, ebx, ecx, edx };

struct CpuidFeature {
    u32 leaf;
    u8 subleaf;
    CpuidRegister where;
    u8 bit;
    Offer offer;
    x86::Feature feature = x86::Feature::base; // instructions that come with it
    u64 xcr0_needed = 0;                       // the host's operating system must have enabled these components
};

namespace cpuid_tables {
using enum CpuidRegister;
using F = x86::Feature;

constexpr u32 ext1 = 0x80000001, ext8 = 0x80000008, ext21 = 0x80000021;
constexpr u64 ymm = xcr0::avx, zmm = xcr0::avx | xcr0::avx512;

constexpr CpuidFeature features[] = {
    // Leaf 1, EDX
    { 1, 0, edx, 0, Offer::host, F::x87 },
    { 1, 0, edx, 1, Offer::always },                 // VME
    { 1, 0, edx, 2, Offer::always },                 // DE
    { 1, 0, edx, 3, Offer::always },                 // PSE
    { 1, 0, edx, 4, Offer::always },                 // TSC
    { 1, 0, edx, 5, Offer::always },                 // MSR
    { 1, 0, edx, 6, Offer::always },                 // PAE
    { 1, 0, edx, 7, Offer::always },                 // MCE
    { 1, 0, edx, 8, Offer::host, F::cmpxchg8b },
    { 1, 0, edx, 9, Offer::always },                 // APIC
    { 1, 0, edx, 11, Offer::always, F::sysenter },
    { 1, 0, edx, 12, Offer::always },                // MTRR
    { 1, 0, edx, 13, Offer::always },                // PGE
    { 1, 0, edx, 14, Offer::always },                // MCA
    { 1, 0, edx, 15, Offer::host, F::cmov },
    { 1, 0, edx, 16, Offer::always },                // PAT
    { 1, 0, edx, 17, Offer::always },                // PSE-36
    { 1, 0, edx, 19, Offer::host, F::clflush },
    { 1, 0, edx, 23, Offer::host, F::mmx },
    { 1, 0, edx, 24, Offer::host, F::fxsr },
    { 1, 0, edx, 25, Offer::host, F::sse },
    { 1, 0, edx, 26, Offer::host, F::sse2 },
    { 1, 0, edx, 27, Offer::always },                // self snoop
    // Leaf 1, ECX
    { 1, 0, ecx, 0, Offer::host, F::sse3 },
    { 1, 0, ecx, 1, Offer::host, F::pclmulqdq },
    { 1, 0, ecx, 9, Offer::host, F::ssse3 },
    { 1, 0, ecx, 12, Offer::host, F::fma, ymm },
    { 1, 0, ecx, 13, Offer::host, F::cmpxchg16b },
    { 1, 0, ecx, 17, Offer::always },                // PCID
    { 1, 0, ecx, 19, Offer::host, F::sse4_1 },
    { 1, 0, ecx, 20, Offer::host, F::sse4_2 },
    { 1, 0, ecx, 22, Offer::host, F::movbe },
    { 1, 0, ecx, 23, Offer::host, F::popcnt },
    { 1, 0, ecx, 24, Offer::always },                // TSC deadline
    { 1, 0, ecx, 25, Offer::host, F::aes },
    { 1, 0, ecx, 26, Offer::host, F::xsave, xcr0::x87 | xcr0::sse },
    { 1, 0, ecx, 28, Offer::host, F::avx, ymm },
    { 1, 0, ecx, 29, Offer::host, F::f16c, ymm },
    { 1, 0, ecx, 30, Offer::host, F::rdrand },
    { 1, 0, ecx, 31, Offer::always },                // a hypervisor is present
    // Leaf 6: the APIC timer never stops
    { 6, 0, eax, 2, Offer::always },
    // Leaf 7
    { 7, 0, ebx, 0, Offer::always, F::fsgsbase },
    { 7, 0, ebx, 1, Offer::always },                 // IA32_TSC_ADJUST
    { 7, 0, ebx, 3, Offer::host, F::bmi1 },
    { 7, 0, ebx, 5, Offer::host, F::avx2, ymm },
    { 7, 0, ebx, 6, Offer::always },                 // x87 data pointer only on exceptions
    { 7, 0, ebx, 7, Offer::always },                 // SMEP
    { 7, 0, ebx, 8, Offer::host, F::bmi2 },
    { 7, 0, ebx, 9, Offer::always },                 // ERMS
    { 7, 0, ebx, 10, Offer::always, F::invpcid },
    { 7, 0, ebx, 13, Offer::always },                // x87 CS and DS are gone
    { 7, 0, ebx, 16, Offer::host, F::avx512f, zmm },
    { 7, 0, ebx, 17, Offer::host, F::avx512dq, zmm },
    { 7, 0, ebx, 18, Offer::host, F::rdseed },
    { 7, 0, ebx, 19, Offer::host, F::adx },
    { 7, 0, ebx, 20, Offer::always, F::smap },
    { 7, 0, ebx, 21, Offer::host, F::avx512_ifma, zmm },
    { 7, 0, ebx, 23, Offer::host, F::clflushopt },
    { 7, 0, ebx, 24, Offer::host, F::clwb },
    { 7, 0, ebx, 28, Offer::host, F::avx512cd, zmm },
    { 7, 0, ebx, 29, Offer::host, F::sha },
    { 7, 0, ebx, 30, Offer::host, F::avx512bw, zmm },
    { 7, 0, ebx, 31, Offer::host, F::avx512vl, zmm },
    { 7, 0, ecx, 1, Offer::host, F::avx512_vbmi, zmm },
    { 7, 0, ecx, 2, Offer::always },                 // UMIP
    { 7, 0, ecx, 3, Offer::always, F::pku, xcr0::x87 | xcr0::sse }, // protection keys of user pages: the engine's, but XSAVE moves PKRU
    { 7, 0, ecx, 6, Offer::host, F::avx512_vbmi2, zmm },
    { 7, 0, ecx, 8, Offer::host, F::gfni },
    { 7, 0, ecx, 9, Offer::host, F::vaes, ymm },
    { 7, 0, ecx, 10, Offer::host, F::vpclmulqdq, ymm },
    { 7, 0, ecx, 11, Offer::host, F::avx512_vnni, zmm },
    { 7, 0, ecx, 12, Offer::host, F::avx512_bitalg, zmm },
    { 7, 0, ecx, 14, Offer::host, F::avx512_vpopcntdq, zmm },
    { 7, 0, ecx, 22, Offer::always, F::rdpid },
    { 7, 0, ecx, 25, Offer::host, F::cldemote },
    { 7, 0, ecx, 27, Offer::host, F::movdiri },
    { 7, 0, ecx, 31, Offer::always },                // protection keys of supervisor pages
    { 7, 0, edx, 4, Offer::always },                 // FSRM
    { 7, 0, edx, 8, Offer::host, F::avx512_vp2intersect, zmm },
    { 7, 0, edx, 10, Offer::host },                  // VERW clears buffers
    { 7, 0, edx, 14, Offer::host, F::serialize },
    { 7, 0, edx, 23, Offer::host, F::avx512_fp16, zmm },
    { 7, 0, edx, 26, Offer::intel },                 // IA32_SPEC_CTRL, IA32_PRED_CMD
    { 7, 0, edx, 27, Offer::intel },                 // STIBP
    { 7, 0, edx, 29, Offer::always },                // IA32_ARCH_CAPABILITIES: says what guests need not work around
    { 7, 0, edx, 31, Offer::intel },                 // SSBD
    { 7, 1, eax, 4, Offer::host, F::avx_vnni, ymm },
    { 7, 1, eax, 5, Offer::host, F::avx512_bf16, zmm },
    // Leaf 0DH, sub-leaf 1
    { 0xd, 1, eax, 0, Offer::host, F::xsaveopt, xcr0::x87 },
    { 0xd, 1, eax, 1, Offer::host, F::xsavec, xcr0::x87 },
    { 0xd, 1, eax, 2, Offer::host, F::base, xcr0::x87 }, // XGETBV with ECX = 1
    // Leaf 80000001H
    { ext1, 0, ecx, 0, Offer::host, F::lahf64 },
    { ext1, 0, ecx, 5, Offer::host, F::lzcnt },
    { ext1, 0, ecx, 6, Offer::amd_host, F::sse4a },
    { ext1, 0, ecx, 8, Offer::host, F::prefetchw },
    { ext1, 0, ecx, 22, Offer::amd_host },           // topology extensions
    { ext1, 0, edx, 11, Offer::always, F::syscall },
    { ext1, 0, edx, 20, Offer::always },             // NX
    { ext1, 0, edx, 22, Offer::amd_host },           // AMD's MMX extensions, part of SSE
    { ext1, 0, edx, 26, Offer::always },             // 1 GiB pages
    { ext1, 0, edx, 27, Offer::always, F::rdtscp },
    { ext1, 0, edx, 29, Offer::always },             // long mode
    // Leaf 80000007H: the TSC never stops nor changes its rate
    { 0x80000007, 0, edx, 8, Offer::always },
    // Leaf 80000008H
    { ext8, 0, ebx, 2, Offer::amd },                 // error pointers are always saved (as zero)
    { ext8, 0, ebx, 9, Offer::host, F::wbnoinvd },
    { ext8, 0, ebx, 12, Offer::amd },                // IBPB
    { ext8, 0, ebx, 14, Offer::amd },                // IBRS
    { ext8, 0, ebx, 15, Offer::amd },                // STIBP
    { ext8, 0, ebx, 24, Offer::amd },                // SSBD
    { ext8, 0, ebx, 26, Offer::always },             // no speculative store bypass
    { ext8, 0, ebx, 29, Offer::always },             // no branch type confusion
    // Leaf 80000021H
    { ext21, 0, eax, 2, Offer::amd },                // LFENCE serializes
    { ext21, 0, eax, 6, Offer::amd },                // a null selector clears the base
    { ext21, 0, eax, 29, Offer::amd },               // no speculative return stack overflow
    { ext21, 0, ecx, 1, Offer::amd },                // no transient scheduler attack through the store queue
    { ext21, 0, ecx, 2, Offer::amd },                // nor through the L1 cache
};

} // namespace cpuid_tables
} // namespace anyhyve::soft
