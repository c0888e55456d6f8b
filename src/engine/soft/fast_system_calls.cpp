// SYSCALL, SYSRET, SYSENTER, SYSEXIT: flat segments without a look at the descriptor tables.
// Source: Intel SDM vol. 2B SYSCALL, SYSRET, SYSENTER, SYSEXIT, vol. 3A 5.8.7 and 5.8.8; AMD APM vol. 3 for other modes than 64-bit.
#include "engine/soft/fast_system_calls.hpp"

#include "engine/soft/flag_register.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/vendor.hpp"

namespace anyhyve::soft {

using x86::Instruction;
using x86::Segment;
using x86::SegmentRegister;
namespace access = x86::access;
namespace rflags = x86::rflags;

namespace {

enum class CodeKind : u8 { bits32, bits64 };

SegmentRegister flat_code(u64 selector, u8 cpl, CodeKind kind)
{
    u32 const size = kind == CodeKind::bits64 ? access::long_mode : access::big;
    return { .selector = static_cast<u16>((selector & 0xfffc) | cpl),
             .access = access::present | access::non_system | access::code | access::readable | access::accessed | access::granular | size
                       | u32 { cpl } << access::dpl_shift,
             .limit = 0xffffffff,
             .base = 0 };
}

SegmentRegister flat_stack(u64 selector, u8 cpl)
{
    return { .selector = static_cast<u16>((selector & 0xfffc) | cpl),
             .access = access::present | access::non_system | access::writable | access::accessed | access::granular | access::big
                       | u32 { cpl } << access::dpl_shift,
             .limit = 0xffffffff,
             .base = 0 };
}

void enter(Cpu& cpu, u64 code_selector, u64 stack_selector, u8 cpl, CodeKind kind)
{
    cpu.segment(Segment::cs) = flat_code(code_selector, cpl, kind);
    cpu.segment(Segment::ss) = flat_stack(stack_selector, cpl);
    cpu.cpl = cpl;
}

// IA32_STAR: the selectors of SYSCALL, of SYSRET, and the 32-bit entry point (AMD).
u64 star_syscall(Cpu const& cpu) { return (cpu.star >> 32) & 0xffff; }
u64 star_sysret(Cpu const& cpu) { return cpu.star >> 48; }

// Intel has SYSCALL and SYSRET in 64-bit code only, AMD in all of protected mode.
bool has_syscall(Cpu const& cpu)
{
    if (!(cpu.efer & x86::efer::sce))
        return false;
    return cpu.code64() || (cpu_vendor() == Vendor::amd && cpu.protected_mode() && !cpu.virtual_8086());
}

// AMD has SYSENTER and SYSEXIT outside long mode only.
bool has_sysenter(Cpu const& cpu)
{
    return cpu_vendor() == Vendor::intel || !cpu.long_mode();
}

} // namespace

// Other than after POPF or IRET, TF as the instruction leaves it decides about a trap behind it (SDM vol. 2B SYSRET; AMD APM vol. 3).
static void trap_as_now(Cpu& cpu)
{
    cpu.step_trap = (cpu.rflags & rflags::tf) != 0;
    cpu.stepping |= cpu.step_trap;
}

Outcome execute_syscall(Cpu& cpu, Instruction const&)
{
    if (!has_syscall(cpu))
        return raise_ud(cpu);
    u64 const selector = star_syscall(cpu);
    cpu.gpr[x86::rcx] = cpu.next_rip;
    if (cpu.long_mode()) {
        cpu.rip = cpu.code64() ? cpu.lstar : cpu.cstar;
        cpu.gpr[x86::r11] = cpu.rflags & ~rflags::rf;
        cpu.rflags = (cpu.rflags & ~(cpu.sfmask | rflags::rf)) | rflags::fixed;
        enter(cpu, selector, selector + 8, 0, CodeKind::bits64);
    } else {
        cpu.rip = static_cast<u32>(cpu.star);
        cpu.rflags &= ~(rflags::interrupt | rflags::rf | rflags::vm);
        enter(cpu, selector, selector + 8, 0, CodeKind::bits32);
    }
    trap_as_now(cpu);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome execute_sysret(Cpu& cpu, Instruction const& insn)
{
    if (!has_syscall(cpu))
        return raise_ud(cpu);
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    u64 const selector = star_sysret(cpu);
    bool const to_64 = insn.operand_size == 8 && cpu.code64();
    // Intel checks before the level changes; a guest cannot tell from AMD's later fault unless it lives off the difference.
    if (to_64 && !is_canonical(cpu.gpr[x86::rcx]))
        return raise_gp(cpu);
    cpu.rip = to_64 ? cpu.gpr[x86::rcx] : static_cast<u32>(cpu.gpr[x86::rcx]);
    if (cpu.long_mode()) {
        constexpr u64 restored = rflags::writable & ~(rflags::rf | rflags::vm);
        set_flags(cpu, cpu.gpr[x86::r11] & restored);
    } else
        set_flags(cpu, cpu.rflags | rflags::interrupt);
    enter(cpu, to_64 ? selector + 16 : selector, selector + 8, 3, to_64 ? CodeKind::bits64 : CodeKind::bits32);
    trap_as_now(cpu);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome execute_sysenter(Cpu& cpu, Instruction const&)
{
    if (!has_sysenter(cpu))
        return raise_ud(cpu);
    if (!cpu.protected_mode() || is_null(static_cast<u16>(cpu.sysenter_cs)))
        return raise_gp(cpu);
    u64 const selector = cpu.sysenter_cs & 0xfffc;
    cpu.gpr[x86::rsp] = cpu.long_mode() ? cpu.sysenter_esp : static_cast<u32>(cpu.sysenter_esp);
    cpu.rip = cpu.long_mode() ? cpu.sysenter_eip : static_cast<u32>(cpu.sysenter_eip);
    cpu.rflags &= ~(rflags::vm | rflags::interrupt | rflags::rf);
    enter(cpu, selector, selector + 8, 0, cpu.long_mode() ? CodeKind::bits64 : CodeKind::bits32);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome execute_sysexit(Cpu& cpu, Instruction const& insn)
{
    if (!has_sysenter(cpu))
        return raise_ud(cpu);
    if (!cpu.protected_mode() || cpu.virtual_8086() || cpu.cpl != 0 || is_null(static_cast<u16>(cpu.sysenter_cs)))
        return raise_gp(cpu);
    u64 const selector = cpu.sysenter_cs & 0xfffc;
    bool const to_64 = insn.operand_size == 8 && cpu.code64();
    u64 const rip = cpu.gpr[x86::rdx], rsp = cpu.gpr[x86::rcx];
    if (to_64 && (!is_canonical(rip) || !is_canonical(rsp)))
        return raise_gp(cpu);
    cpu.rip = to_64 ? rip : static_cast<u32>(rip);
    cpu.gpr[x86::rsp] = to_64 ? rsp : static_cast<u32>(rsp);
    enter(cpu, selector + (to_64 ? 32 : 16), selector + (to_64 ? 40 : 24), 3, to_64 ? CodeKind::bits64 : CodeKind::bits32);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

} // namespace anyhyve::soft
