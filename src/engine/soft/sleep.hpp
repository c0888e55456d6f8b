// How the thread of a virtual CPU that has nothing to do sleeps, and how others wake it. Uses no vector registers.
#pragma once

#include <climits>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// Announces a sleep; who sees it announced ends it. Look for reasons to stay awake in between.
inline void announce_sleep(Cpu& cpu) { cpu.sleeping.store(1, std::memory_order_seq_cst); }

// Returns when the sleep was ended, or earlier for no reason.
inline void sleep_announced(Cpu& cpu)
{
    // SAFETY: futex(2) on the atomic's own 32 bits.
    syscall(SYS_futex, reinterpret_cast<u32*>(&cpu.sleeping), FUTEX_WAIT_PRIVATE, 1, nullptr, nullptr, 0);
}

// Threads: any. After storing what the sleeper is to see.
inline void end_sleep(Cpu& cpu)
{
    if (cpu.sleeping.load(std::memory_order_seq_cst) == 0)
        return;
    cpu.sleeping.store(0, std::memory_order_seq_cst);
    // SAFETY: as above.
    syscall(SYS_futex, reinterpret_cast<u32*>(&cpu.sleeping), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

} // namespace anyhyve::soft
