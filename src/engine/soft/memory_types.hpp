// PAT and MTRRs: kept and checked as the manual says, and without effect, since guest memory is always write-back.
// Source: Intel SDM vol. 3A 11.11 (MTRRs) and 11.12 (PAT).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

constexpr unsigned mtrr_variable_count = 10;
constexpr u64 mtrr_fixed_supported = 1 << 8, mtrr_write_combining = 1 << 10;
constexpr u64 mtrr_capabilities = mtrr_variable_count | mtrr_fixed_supported | mtrr_write_combining;

// Accessors for the MSR table; false: #GP(0).
bool set_pat(Cpu&, u32 index, u64 value);
bool set_default_mtrr(Cpu&, u32 index, u64 value);
bool get_fixed_mtrr(Cpu&, u32 index, u64& value);
bool set_fixed_mtrr(Cpu&, u32 index, u64 value);
bool get_variable_mtrr(Cpu&, u32 index, u64& value);
bool set_variable_mtrr(Cpu&, u32 index, u64 value);

} // namespace anyhyve::soft
