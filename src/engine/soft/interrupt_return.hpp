// IRET in every mode (Intel SDM vol. 2A IRET/IRETD/IRETQ).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_interrupt_return(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
