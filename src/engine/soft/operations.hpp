// Instructions that have code of their own: one function per x86::Operation, named execute_<operation>.
// Contract: on entry cpu.rip is the instruction, cpu.next_rip behind it, all registers and flags are in `cpu`. On `next` the function
// leaves rip alone; on `jump` it has set rip; on `fault` nothing architectural has changed but what the manual lets change.
// All are compiled for general registers only. LOCK and feature checks are done by the translator; CPL and mode checks are theirs.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

using Execute = Outcome (*)(Cpu&, x86::Instruction const&);

// nullptr for operations that the translator carries out itself.
Execute execute_function(x86::Operation);
// #UD and #NM, whatever the instruction.
Outcome execute_undefined(Cpu&, x86::Instruction const&);
Outcome execute_not_available(Cpu&, x86::Instruction const&);

// Exception and interrupt delivery (SDM vol. 3A chapter 6): takes cpu.fault to the guest's handler, combining it with faults met on the
// way (double fault, triple fault). `jump`: cpu.rip is the handler's; `leave`: triple fault, cpu.exit_reason is set.
Outcome deliver_fault(Cpu&);
// A hardware interrupt or NMI, between instructions: cpu.rip is where the guest goes on.
Outcome deliver_interrupt(Cpu&, u8 vector, bool nmi);
// INIT: the state after INIT (SDM vol. 3A table 9-1), and the start-up IPI.
void reset_by_init(Cpu&);
void start_by_sipi(Cpu&, u8 vector);

} // namespace anyhyve::soft
