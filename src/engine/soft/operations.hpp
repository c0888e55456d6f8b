// What the engine knows of each x86::Operation: one row each. Instructions that have code of their own have a function, execute_<operation>.
// Its contract: on entry cpu.rip is the instruction, cpu.next_rip behind it, all registers and flags are in `cpu`. On `next` the function
// leaves rip alone; on `jump` it has set rip; on `fault` nothing architectural has changed but what the manual lets change.
// All are compiled for general registers only. LOCK and feature checks are done by the translator; CPL and mode checks are theirs.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

using Execute = Outcome (*)(Cpu&, x86::Instruction const&);

// What holds of an operation wherever it stands; bits.
enum OperationTrait : u8 {
    ends_block = 1,     // control, or what the rest of the block depends on, changes behind it
    stays_in_code = 2,  // its code calls nothing, and changes no more than registers and memory; said of 64-bit code
    host_flags = 4,     // the host carries it out, flags included; other operations find them in memory and leave them there
    flags_by_row = 8,   // reads the flags that its row of the opcode table lists; others leave the block, or may show all to anyone
};

struct OperationRow {
    x86::Operation operation;
    Execute execute; // nullptr: the translator carries it out
    u8 traits = 0;   // OperationTrait
};

OperationRow const& operation_row(x86::Operation);
inline bool has(x86::Instruction const& insn, OperationTrait trait) { return operation_row(insn.info->operation).traits & trait; }
inline Execute execute_function(x86::Operation operation) { return operation_row(operation).execute; }
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
