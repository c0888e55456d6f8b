// Call gates: the way of a far JMP or CALL into other code, possibly of an inner level with a stack of its own.
// Source: Intel SDM vol. 3A 5.8.3 to 5.8.5.
#pragma once

#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

// `gate` is a descriptor of call gate type, not yet checked further.
Outcome jump_through_gate(Cpu&, Descriptor& gate);
Outcome call_through_gate(Cpu&, Descriptor& gate);

// CS:RIP of a checked transfer: the selector's RPL becomes the level.
void enter_code(Cpu&, Descriptor const& code, u8 cpl, u64 rip);

} // namespace anyhyve::soft
