// SYSCALL, SYSRET, SYSENTER, SYSEXIT (Intel SDM vol. 2, AMD APM vol. 3, where they differ by cpu_vendor()).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_syscall(Cpu&, x86::Instruction const&);
Outcome execute_sysret(Cpu&, x86::Instruction const&);
Outcome execute_sysenter(Cpu&, x86::Instruction const&);
Outcome execute_sysexit(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
