// MONITOR and MWAIT: a virtual CPU waits until another stores to a line of memory. How that is noticed:
// while the one that waits looks around, first within MWAIT itself, it compares the line with what MONITOR found there, which costs nobody anything;
// before it sleeps, the line's page is taken out of every look-aside table's writes, as pages with translated code are, and whoever
// stores there wakes it (CodeCache::begin_line_watch). Deviation: a store of what the line holds already is noticed by a sleeper only.
// Source: Intel SDM vol. 2 MONITOR, MWAIT; vol. 3A 9.10.
#pragma once

#include <array>

#include "base/integer.hpp"

namespace anyhyve::soft {

struct Monitor {
    static constexpr u64 line_size = 64;

    bool armed = false;          // MONITOR has run, and no MWAIT since
    bool waiting = false;        // what halts the virtual CPU is MWAIT
    u64 since = 0;               // time stamp counter when it began to look around; 0: it has not
    u8 const* line = nullptr;    // in guest RAM (not in a window: page_runs.hpp)
    std::array<u64, line_size / 8> seen {};

    static u64 word(u8 const* line, unsigned n)
    {
        // SAFETY: `line` is aligned, and within a page of guest RAM; others write there at any time.
        return __atomic_load_n(reinterpret_cast<u64 const*>(line) + n, __ATOMIC_ACQUIRE);
    }
    void arm(u8 const* at)
    {
        line = at;
        for (unsigned n = 0; n < seen.size(); ++n)
            seen[n] = word(line, n);
        armed = true;
    }
    bool line_changed() const
    {
        for (unsigned n = 0; n < seen.size(); ++n)
            if (word(line, n) != seen[n])
                return true;
        return false;
    }
};

} // namespace anyhyve::soft
