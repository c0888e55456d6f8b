// Writes to control registers with all their checks and consequences, for MOV, LMSW, CLTS and task switches.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// #GP(0) and nothing changed when the manual forbids the value. The privilege check is the caller's.
Outcome write_cr0(Cpu&, u64 value);
Outcome write_cr3(Cpu&, u64 value);
Outcome write_cr4(Cpu&, u64 value);

// After a serializing change: leave the block, so that the next instruction is fetched anew.
inline Outcome continue_behind(Cpu& cpu)
{
    cpu.rip = cpu.next_rip;
    return Outcome::jump;
}

// Control and debug registers are always register operands, whatever ModRM.mod says (SDM vol. 2 MOV).
inline unsigned register_operand(x86::Instruction const& instruction)
{
    return (instruction.modrm & 7u) | ((instruction.rex & 1u) << 3);
}

} // namespace anyhyve::soft
