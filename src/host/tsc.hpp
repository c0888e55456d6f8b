// The host's time-stamp counter: reading it, and how fast it runs. Threads: any.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::host {

// The counter now, not before earlier loads are done and not after later ones: two threads that pass a value on see it grow.
inline u64 read_tsc()
{
    __builtin_ia32_lfence();
    u64 const value = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return value;
}

struct TscFrequency {
    u64 hertz;
    char const* source; // a phrase for the log: "the kernel", "CPUID leaf 15h", ...
};

// Found once per process (a few microseconds to 2 ms, or about 10 where only measuring helps), then remembered.
TscFrequency const& tsc_frequency();

// Measures against CLOCK_MONOTONIC for about `milliseconds`. tsc_frequency() does this only when nobody knows the answer.
u64 measure_tsc_frequency(unsigned milliseconds);

// True when the counter runs at one rate in all power states (AMD APM vol. 3 appendix E, CPUID Fn8000_0007 EDX bit 8; SDM vol. 3B 17.17.1).
bool tsc_is_invariant();

} // namespace anyhyve::host
