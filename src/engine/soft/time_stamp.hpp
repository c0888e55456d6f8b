// The guest's time-stamp counter.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

inline u64 host_tsc()
{
    u32 low = 0, high = 0;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64 { high } << 32) | low;
}

// What RDTSC reads: the machine clock's TSC and this vCPU's own offset.
inline u64 guest_tsc(Cpu const& cpu) { return host_tsc() + cpu.clock_tsc_offset + cpu.tsc_offset; }

// IA32_TSC and IA32_TSC_ADJUST (SDM vol. 3B 17.17.3): writing one moves the other.
void write_tsc(Cpu&, u64 value);
void write_tsc_adjust(Cpu&, u64 value);
// IA32_TSC_DEADLINE is kept by the local APIC in terms of the machine clock's TSC.
bool read_tsc_deadline(Cpu&, u64& value);
bool write_tsc_deadline(Cpu&, u64 value);

} // namespace anyhyve::soft
