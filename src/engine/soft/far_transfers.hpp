// Far JMP, CALL and RET in every mode: code segments, call gates, task gates (Intel SDM vol. 2 JMP, CALL, RET; vol. 3A 5.8).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_jump_far(Cpu&, x86::Instruction const&);
Outcome execute_call_far(Cpu&, x86::Instruction const&);
Outcome execute_return_far(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
