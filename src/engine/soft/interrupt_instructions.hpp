// INT n, INT3, INTO, INT1 (Intel SDM vol. 2A INT n/INTO/INT3/INT1).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_interrupt(Cpu&, x86::Instruction const&);
Outcome execute_interrupt3(Cpu&, x86::Instruction const&);
Outcome execute_interrupt_overflow(Cpu&, x86::Instruction const&);
Outcome execute_interrupt1(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
