// Changing RFLAGS as a whole, and who may change which bit of it.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

constexpr u8 io_privilege(u64 flags) { return (flags >> 12) & 3; }

// All of RFLAGS. When an event waits that the new flags may let through, or TF is set, the block chain is left at its next poll.
inline void set_flags(Cpu& cpu, u64 flags)
{
    cpu.rflags = flags | x86::rflags::fixed;
    if (cpu.events.load(std::memory_order_relaxed) != 0 || (flags & x86::rflags::tf))
        cpu.poll.store(1, std::memory_order_relaxed);
}

} // namespace anyhyve::soft
