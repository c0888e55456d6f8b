// Names of the architecture's registers and their bits.
// Source: Intel SDM volume 3A chapter 2 (control registers, EFER), volume 1 chapter 3 (RFLAGS), volume 4 (MSRs).
#pragma once

#include "base/integer.hpp"

namespace anyhyve::x86 {

enum GeneralRegister : u8 { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };

namespace rflags {
constexpr u64 cf = 1 << 0, fixed = 1 << 1, pf = 1 << 2, af = 1 << 4, zf = 1 << 6, sf = 1 << 7, tf = 1 << 8, interrupt = 1 << 9, df = 1 << 10,
              of = 1 << 11, iopl = 3 << 12, nt = 1 << 14, rf = 1 << 16, vm = 1 << 17, ac = 1 << 18, vif = 1 << 19, vip = 1 << 20, id = 1 << 21;
constexpr u64 arithmetic = cf | pf | af | zf | sf | of;
constexpr u64 writable = arithmetic | tf | interrupt | df | iopl | nt | rf | vm | ac | vif | vip | id;
} // namespace rflags

namespace cr0 {
constexpr u64 pe = 1 << 0, mp = 1 << 1, em = 1 << 2, ts = 1 << 3, et = 1 << 4, ne = 1 << 5, wp = 1 << 16, am = 1 << 18, nw = 1 << 29, cd = 1 << 30,
              pg = u64 { 1 } << 31;
} // namespace cr0

namespace cr4 {
constexpr u64 vme = 1 << 0, pvi = 1 << 1, tsd = 1 << 2, de = 1 << 3, pse = 1 << 4, pae = 1 << 5, mce = 1 << 6, pge = 1 << 7, pce = 1 << 8, osfxsr = 1 << 9,
              osxmmexcpt = 1 << 10, umip = 1 << 11, la57 = 1 << 12, vmxe = 1 << 13, fsgsbase = 1 << 16, pcide = 1 << 17, osxsave = 1 << 18, smep = 1 << 20,
              smap = 1 << 21, pke = 1 << 22, pks = 1 << 24;
} // namespace cr4

namespace efer {
constexpr u64 sce = 1 << 0, lme = 1 << 8, lma = 1 << 10, nxe = 1 << 11;
} // namespace efer

namespace vector {
constexpr u8 divide_error = 0, debug = 1, nmi = 2, breakpoint = 3, overflow = 4, bound = 5, invalid_opcode = 6, device_not_available = 7, double_fault = 8,
             invalid_tss = 10, segment_not_present = 11, stack_fault = 12, general_protection = 13, page_fault = 14, x87_error = 16, alignment_check = 17,
             machine_check = 18, simd_error = 19;
} // namespace vector

// Model-specific registers by their SDM volume 4 names.
namespace msr {
constexpr u32 tsc = 0x10, apic_base = 0x1b, feature_control = 0x3a, tsc_adjust = 0x3b, spec_ctrl = 0x48, pred_cmd = 0x49, bios_sign_id = 0x8b, mtrr_cap = 0xfe,
              arch_capabilities = 0x10a, sysenter_cs = 0x174, sysenter_esp = 0x175, sysenter_eip = 0x176, mcg_cap = 0x179, mcg_status = 0x17a, misc_enable = 0x1a0,
              mtrr_phys_base0 = 0x200, mtrr_fix64k = 0x250, mtrr_fix16k = 0x258, mtrr_fix4k = 0x268, pat = 0x277, mtrr_def_type = 0x2ff, tsc_deadline = 0x6e0, pkrs = 0x6e1,
              x2apic_first = 0x800, x2apic_last = 0x8ff, xss = 0xda0, efer = 0xc0000080, star = 0xc0000081, lstar = 0xc0000082, cstar = 0xc0000083,
              sfmask = 0xc0000084, fs_base = 0xc0000100, gs_base = 0xc0000101, kernel_gs_base = 0xc0000102, tsc_aux = 0xc0000103;
} // namespace msr

// Segment attributes in the layout of the VMX access-rights field (SDM vol. 3C 24.4.1), as bhyve's tools show them.
namespace access {
constexpr u32 accessed = 1 << 0, writable = 1 << 1, expand_down = 1 << 2, code = 1 << 3, readable = 1 << 1, conforming = 1 << 2, non_system = 1 << 4,
              dpl_mask = 3 << 5, present = 1 << 7, available = 1 << 12, long_mode = 1 << 13, big = 1 << 14, granular = 1 << 15, unusable = 1 << 16;
constexpr unsigned dpl_shift = 5;
constexpr u8 dpl(u32 rights) { return (rights >> dpl_shift) & 3; }
constexpr u8 type(u32 rights) { return rights & 15; }
} // namespace access

// A segment register with its hidden part. The limit is in bytes (granularity already applied), inclusive.
struct SegmentRegister {
    u16 selector = 0;
    u32 access = 0;
    u32 limit = 0;
    u64 base = 0;
};

// GDTR and IDTR.
struct TableRegister {
    u64 base = 0;
    u16 limit = 0;
};

} // namespace anyhyve::x86
