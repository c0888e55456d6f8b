// Stacks of inner privilege levels as the TSS names them: for gates that change the privilege level.
// Source: Intel SDM vol. 3A 5.8.5, 6.12.1, 7.2.1 (32-bit TSS), 7.6 (16-bit), 7.7 (64-bit).
#pragma once

#include "engine/soft/stack_frame.hpp"

namespace anyhyve::soft {

// SS:ESP of `level` from the current TSS (not long mode), checked as a stack for that level.
Outcome fetch_inner_stack(Cpu&, u8 level, StackTarget&);
// A stack pointer of the 64-bit TSS: of a privilege level (0-2), or of the interrupt stack table (1-7).
Outcome fetch_inner_stack64(Cpu&, u8 level, u64& pointer);
Outcome fetch_interrupt_stack64(Cpu&, u8 number, u64& pointer);

} // namespace anyhyve::soft
