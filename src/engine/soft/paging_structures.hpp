// What the upper entries of 4-level page tables said last, by regions of 2 MiB: a walk begins with the page table then.
// Processors keep the same (Intel SDM vol. 3A 4.10.3, "Paging-Structure Caches"), so guests flush when they have changed such entries.
#pragma once

#include <array>

#include "base/integer.hpp"

namespace anyhyve::soft {

// What the entries on the way to a page allow together (SDM vol. 3A 4.6).
struct PathRights {
    bool user = true;
    bool writable = true;
    bool no_execute = false;
};

class PagingStructures {
public:
    struct Region {
        u64 number = 0;
        u64 generation = 0;
        u64 table = 0;     // guest physical address of the page table
        PathRights rights; // of the entries above it, whose accessed bits are set
    };

    Region const* find(u64 linear) const
    {
        Region const& region = m_regions[slot(linear)];
        return region.generation == m_generation && region.number == linear >> region_shift ? &region : nullptr;
    }
    void note(u64 linear, u64 table, PathRights const& rights) { m_regions[slot(linear)] = { linear >> region_shift, m_generation, table, rights }; }
    void forget_all() { ++m_generation; }

private:
    static constexpr unsigned region_shift = 21, slots = 64;
    static unsigned slot(u64 linear) { return static_cast<unsigned>(linear >> region_shift) % slots; }

    std::array<Region, slots> m_regions {};
    u64 m_generation = 1;
};

} // namespace anyhyve::soft
