// The whole architectural state of one vCPU, in terms of the manual and of no engine: what one engine saves, another resumes.
#pragma once

#include <array>

#include "x86/registers.hpp"

namespace anyhyve {

// What the vCPU is doing between instructions (SDM vol. 3A 9.4, 10.4.7).
enum class Activity : u8 { running, halted, wait_for_sipi, stopped };

struct CpuState {
    static constexpr unsigned xsave_size = 4096;

    std::array<u64, 16> gpr {};
    u64 rip = 0xfff0;
    u64 rflags = x86::rflags::fixed;
    std::array<x86::SegmentRegister, 6> segments {}; // indexed by x86::Segment
    x86::SegmentRegister ldtr, tr;
    x86::TableRegister gdtr, idtr;
    u64 cr0 = 0x60000010, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
    u64 xcr0 = 1;
    u32 pkru = 0, pkrs = 0; // rights by protection key, of user and of supervisor pages
    std::array<u64, 4> pdpte {}; // PAE paging: the cached page-directory-pointer entries
    std::array<u64, 4> dr {};
    u64 dr6 = 0xffff0ff0, dr7 = 0x400;

    u64 efer = 0, star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0, tsc_aux = 0;
    u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
    u64 pat = 0x0007040600070406, misc_enable = 1, xss = 0, spec_ctrl = 0;
    u64 tsc_offset = 0; // added to the machine clock's TSC
    u64 tsc_adjust = 0;
    u64 mtrr_def_type = 0;
    std::array<u64, 11> mtrr_fixed {};
    std::array<u64, 20> mtrr_variable {}; // base, mask of ten ranges

    // x87, SSE, AVX, AVX-512 in the standard XSAVE format (SDM vol. 1 13.4); XSTATE_BV says what is not in its initial state.
    // PKRU is not here, though guests' own images have it.
    alignas(64) std::array<u8, xsave_size> xsave {};

    Activity activity = Activity::running;
    bool interrupt_shadow = false; // after STI or MOV SS
    bool nmi_blocked = false;
    bool nmi_pending = false;

    // The state after power-up or INIT (SDM vol. 3A table 9-1). `bsp` starts at the reset vector, the others wait for SIPI.
    static CpuState after_reset(bool bsp);
};

} // namespace anyhyve
