// May the current code use these ports?
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// #GP(0) when neither IOPL nor the TSS's permission bitmap allows it (SDM vol. 1 18.5).
Outcome check_io_permission(Cpu&, u16 port, unsigned width);

} // namespace anyhyve::soft
