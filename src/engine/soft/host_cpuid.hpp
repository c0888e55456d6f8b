// The host's CPUID, read once per process: each execution traps to the hypervisor where there is one.
#pragma once

#include "engine/soft/cpuid.hpp"

namespace anyhyve::soft {

// Zero for leaves beyond the host's last, and for those that no guest's answer is made from. Threads: any.
CpuidLeaf host_cpuid(u32 leaf, u32 subleaf = 0);
u32 host_cpuid_last(u32 first_of_range);

} // namespace anyhyve::soft
