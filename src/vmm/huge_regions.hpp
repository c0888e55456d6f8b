// Guest RAM in the host's huge pages, piece by piece: which 2 MiB of it are used enough to be worth one.
// The host's own settings for shared memory give none on most machines. Threads: any.
#pragma once

#include <atomic>
#include <memory>

#include "base/integer.hpp"

namespace anyhyve {

class HugeRegions {
public:
    static constexpr unsigned region_shift = 21;
    static constexpr u64 region_size = u64 { 1 } << region_shift;

    // `base`: aligned to a region; `size` in bytes. A piece at the end that is smaller than a region stays as it is.
    HugeRegions(u8* base, u64 size);

    // A page at this offset has entered a look-aside table. True: its region has been used so often by now that collapse() pays.
    bool count_use(u64 offset)
    {
        std::atomic<u8>& uses = m_uses[offset >> region_shift];
        u8 const before = uses.load(std::memory_order_relaxed);
        if (before >= enough_uses)
            return false;
        uses.store(static_cast<u8>(before + 1), std::memory_order_relaxed); // two at once may count as one
        return before + 1 == enough_uses;
    }
    // Puts the region at this offset into one huge page, now; takes a fraction of a millisecond. Where the host has none, or no longer
    // any, nothing changes.
    void collapse(u64 offset);
    // The memory has been given back to the host: all regions begin anew.
    void forget();
    // Leaves everything to the host's own settings.
    void disable() { m_failures_left.store(0, std::memory_order_relaxed); }

    u64 collapsed() const { return m_collapsed.load(std::memory_order_relaxed); } // regions

private:
    static constexpr u8 enough_uses = 4;

    u8* const m_base;
    u64 const m_regions; // whole ones
    std::unique_ptr<std::atomic<u8>[]> m_uses;
    std::atomic<int> m_failures_left;
    std::atomic<u64> m_collapsed { 0 };
};

} // namespace anyhyve
