// Stack instructions with code of their own: segments, flags, all registers, frames (Intel SDM vol. 2).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_push_segment(Cpu&, x86::Instruction const&);
Outcome execute_pop_segment(Cpu&, x86::Instruction const&);
Outcome execute_push_flags(Cpu&, x86::Instruction const&);
Outcome execute_pop_flags(Cpu&, x86::Instruction const&);
Outcome execute_push_all(Cpu&, x86::Instruction const&);
Outcome execute_pop_all(Cpu&, x86::Instruction const&);
Outcome execute_enter(Cpu&, x86::Instruction const&);
Outcome execute_leave(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
