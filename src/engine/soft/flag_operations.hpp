// CLI, STI, CLD, STD, CLAC, STAC (Intel SDM vol. 2).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_cli(Cpu&, x86::Instruction const&);
Outcome execute_sti(Cpu&, x86::Instruction const&);
Outcome execute_cld(Cpu&, x86::Instruction const&);
Outcome execute_std(Cpu&, x86::Instruction const&);
Outcome execute_clac(Cpu&, x86::Instruction const&);
Outcome execute_stac(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
