// CLI, STI, CLD, STD, CLAC, STAC (Intel SDM vol. 2).
#include "engine/soft/flag_operations.hpp"

#include "engine/soft/flag_register.hpp"
#include "engine/soft/mmu.hpp"

namespace anyhyve::soft {

using x86::Instruction;
namespace cr4 = x86::cr4;
namespace rflags = x86::rflags;

namespace {

// Real mode has CPL 0, so this covers it.
bool may_change_interrupt_flag(Cpu const& cpu)
{
    return cpu.cpl <= io_privilege(cpu.rflags);
}

// Whether CLI and STI act on VIF instead: virtual-8086 mode with CR4.VME, ring 3 with CR4.PVI (SDM vol. 3A 20.3, 20.4).
bool has_virtual_interrupt_flag(Cpu const& cpu)
{
    return cpu.cpl == 3 && (cpu.cr4 & (cpu.virtual_8086() ? cr4::vme : cr4::pvi));
}

Outcome set_access_check(Cpu& cpu, u64 value)
{
    if (cpu.cpl != 0)
        return raise_ud(cpu);
    u64 const flags = (cpu.rflags & ~rflags::ac) | value;
    if (flags != cpu.rflags) {
        cpu.rflags = flags;
        cpu.mmu->update_mode();
    }
    return Outcome::next;
}

} // namespace

Outcome execute_cli(Cpu& cpu, Instruction const&)
{
    if (may_change_interrupt_flag(cpu))
        cpu.rflags &= ~rflags::interrupt;
    else if (has_virtual_interrupt_flag(cpu))
        cpu.rflags &= ~rflags::vif;
    else
        return raise_gp(cpu);
    return Outcome::next;
}

Outcome execute_sti(Cpu& cpu, Instruction const&)
{
    if (may_change_interrupt_flag(cpu)) {
        if (!(cpu.rflags & rflags::interrupt))
            cpu.interrupt_shadow = true;
        set_flags(cpu, cpu.rflags | rflags::interrupt);
    } else if (has_virtual_interrupt_flag(cpu) && !(cpu.rflags & rflags::vip))
        cpu.rflags |= rflags::vif;
    else
        return raise_gp(cpu);
    return Outcome::next;
}

Outcome execute_cld(Cpu& cpu, Instruction const&)
{
    cpu.rflags &= ~rflags::df;
    return Outcome::next;
}

Outcome execute_std(Cpu& cpu, Instruction const&)
{
    cpu.rflags |= rflags::df;
    return Outcome::next;
}

Outcome execute_clac(Cpu& cpu, Instruction const&)
{
    return set_access_check(cpu, 0);
}

Outcome execute_stac(Cpu& cpu, Instruction const&)
{
    return set_access_check(cpu, rflags::ac);
}

} // namespace anyhyve::soft
