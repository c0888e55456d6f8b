// What RETF and IRET have in common: the checks of the code and stack they return to, and going there.
// Source: Intel SDM vol. 2 RET and IRET, vol. 3A 5.8.6.
#pragma once

#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

// The code segment of a return to the level in its RPL: same or outer.
Outcome check_return_code(Cpu&, u16 selector, u64 rip, Descriptor& code);
// The stack segment that goes with it.
Outcome check_return_stack(Cpu&, u16 selector, Descriptor const& code, x86::SegmentRegister& stack);

// CS:RIP and the CPL of a checked return. When the level changes, data segments of the inner level are dropped.
void enter_return_code(Cpu&, Descriptor const& code, u64 rip);

} // namespace anyhyve::soft
