// The model-specific registers of a vCPU.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// As RDMSR and WRMSR at CPL 0 would; false: #GP(0), nothing changed.
bool read_msr(Cpu&, u32 index, u64& value);
bool write_msr(Cpu&, u32 index, u64 value);

} // namespace anyhyve::soft
