// Descriptor-table registers, debug registers, and the small privileged instructions.
// Source: Intel SDM vol. 2 LGDT/LIDT, SGDT, SIDT, MOV (debug registers), HLT, INVD, WBINVD; vol. 3B 17.2.
#include "base/bits.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/control_registers.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

// Limit and base as they lie in memory: 6 bytes, 10 in 64-bit mode.
struct [[gnu::packed]] PseudoDescriptor {
    u16 limit;
    u64 base;
};

unsigned pseudo_descriptor_size(Cpu const& cpu) { return cpu.code64() ? 10 : 6; }

Outcome load_table(Cpu& cpu, Instruction const& instruction, TableRegister& table)
{
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    unsigned const size = pseudo_descriptor_size(cpu);
    u64 linear = 0;
    PseudoDescriptor descriptor {};
    STEP(cpu.mmu->operand_address(instruction, size, Access::read, linear));
    STEP(cpu.mmu->read(linear, &descriptor, size));
    u64 base = descriptor.base;
    if (cpu.code64()) {
        if (!is_canonical(base))
            return raise_gp(cpu);
    } else if (instruction.operand_size == 2)
        base &= 0xffffff;
    table = { .base = base, .limit = descriptor.limit };
    return Outcome::next;
}

// With a 16-bit operand the processors since the 386 store the whole base, not the 24 bits of the 286.
Outcome store_table(Cpu& cpu, Instruction const& instruction, TableRegister const& table)
{
    if ((cpu.cr4 & cr4::umip) && cpu.cpl != 0)
        return raise_gp(cpu);
    unsigned const size = pseudo_descriptor_size(cpu);
    u64 linear = 0;
    PseudoDescriptor const descriptor { .limit = table.limit, .base = table.base };
    STEP(cpu.mmu->operand_address(instruction, size, Access::write, linear));
    return cpu.mmu->write(linear, &descriptor, size);
}

// DR6: B0-B3, BD, BS, BT can change; the rest is fixed. DR7: L/G bits, LE, GE, GD, conditions and lengths (SDM vol. 3B 17.2.3, 17.2.4).
constexpr u64 dr6_changeable = 0xe00f, dr6_fixed = 0xffff0ff0, dr6_bd = 1 << 13;
constexpr u64 dr7_changeable = 0xffff23ff, dr7_fixed = 0x400, dr7_gd = 1 << 13;

// The checks that MOV to and from debug registers share; DR4 and DR5 become DR6 and DR7.
Outcome check_debug_access(Cpu& cpu, unsigned& number)
{
    if (number > 7)
        return raise_ud(cpu);
    if (number == 4 || number == 5) {
        if (cpu.cr4 & cr4::de)
            return raise_ud(cpu);
        number += 2;
    }
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    if (cpu.dr7 & dr7_gd) {
        cpu.fault = { .vector = vector::debug, .dr6 = dr6_bd };
        return Outcome::fault;
    }
    return Outcome::next;
}

Outcome privileged(Cpu& cpu)
{
    return cpu.cpl != 0 ? raise_gp(cpu) : Outcome::next;
}

} // namespace

Outcome execute_lgdt(Cpu& cpu, Instruction const& instruction) { return load_table(cpu, instruction, cpu.gdtr); }
Outcome execute_lidt(Cpu& cpu, Instruction const& instruction) { return load_table(cpu, instruction, cpu.idtr); }
Outcome execute_sgdt(Cpu& cpu, Instruction const& instruction) { return store_table(cpu, instruction, cpu.gdtr); }
Outcome execute_sidt(Cpu& cpu, Instruction const& instruction) { return store_table(cpu, instruction, cpu.idtr); }

Outcome execute_move_from_debug(Cpu& cpu, Instruction const& instruction)
{
    unsigned number = instruction.reg;
    STEP(check_debug_access(cpu, number));
    u64 const value = number < 4 ? cpu.dr[number] : number == 6 ? cpu.dr6 : cpu.dr7;
    cpu.set_reg(register_operand(instruction), cpu.code64() ? 8 : 4, value);
    return Outcome::next;
}

Outcome execute_move_to_debug(Cpu& cpu, Instruction const& instruction)
{
    unsigned number = instruction.reg;
    STEP(check_debug_access(cpu, number));
    u64 const value = cpu.reg(register_operand(instruction), cpu.code64() ? 8 : 4);
    if (number >= 6 && (value >> 32))
        return raise_gp(cpu);
    bool const enabled_before = breakpoints_enabled(cpu);
    if (number < 4)
        cpu.dr[number] = value;
    else if (number == 6)
        cpu.dr6 = (value & dr6_changeable) | dr6_fixed;
    else
        cpu.dr7 = (value & dr7_changeable) | dr7_fixed;
    if (number != 6 && (enabled_before || breakpoints_enabled(cpu)))
        cpu.mmu->flush_all(); // which pages the look-aside tables may hold hangs on them
    return continue_behind(cpu);
}

// Guest memory is coherent with everything that looks at it, so there is no cache to write back or drop.
Outcome execute_invd(Cpu& cpu, Instruction const&) { return privileged(cpu); }
Outcome execute_wbinvd(Cpu& cpu, Instruction const&) { return privileged(cpu); }

Outcome execute_hlt(Cpu& cpu, Instruction const&)
{
    STEP(privileged(cpu));
    cpu.monitor = {};
    cpu.rip = cpu.next_rip;
    return Outcome::halt;
}

} // namespace anyhyve::soft
