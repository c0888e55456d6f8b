// An instruction as text, for people: mnemonic and operands in the order of Intel's manuals, numbers in hexadecimal.
// It leans on the opcode table, which has what an engine needs: implied operands are left out, and where the table does not
// tell which of two registers comes first, the usual order is taken. Not for an assembler.
#pragma once

#include <string>

#include "x86/instruction.hpp"

namespace anyhyve::x86 {

// `address`: of the instruction, for targets of branches and operands relative to RIP.
std::string instruction_text(Instruction const&, u64 address);

} // namespace anyhyve::x86
