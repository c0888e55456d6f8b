// Large pages of the guest, as look-aside entries of 2 MiB each: what the ordinary tables have lost, or never held, is found there without a
// page walk, and a slot of hot code can take all of one at once. Larger pages are kept in pieces.
// An entry permits reads or writes of all its 512 pages, or of none. Threads: the vCPU's own, or another that has brought it to a standstill.
#pragma once

#include <bitset>

#include "engine/soft/code_cache.hpp"
#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

struct Translation;

class LargePages {
public:
    LargePages(Cpu& cpu, CodeCache const& cache) : m_cpu(cpu), m_cache(cache) {}

    // The entry that permits such accesses to this page, or nullptr. Its addend may lead to a window (page_runs.hpp).
    TlbEntry const* find(u64 linear, TlbIndex index, Access access) const
    {
        TlbEntry const& entry = m_cpu.large_tlb[index][large_tlb_slot(linear)];
        return (access == Access::write ? entry.write_tag : entry.read_tag) == (linear & large_page_mask) ? &entry : nullptr;
    }
    bool is_global(u64 linear, TlbIndex index) const { return m_global[index].test(large_tlb_slot(linear)); }
    // A page walk has found this, and plain accesses may follow.
    void note(u64 linear, TlbIndex, Translation const&);

    // TlbEntry::run of an entry that belongs to no longer run.
    static u64 alone(u64 linear) { return (linear & large_page_mask) | (large_page_size / 0x1000 - 1); }

    void flush_all();
    void flush_non_global();
    // Regions that begin in [first, first+size), both powers of two times a region.
    void flush_range(u64 first, u64 size);
    // The page at this offset of RAM must not be written any more without telling. After PageRuns::drop().
    void forget_writable(u64 offset);

private:
    using Slots = std::bitset<large_tlb_entries>;
    bool may_be_written(u64 offset) const;
    void empty(TlbIndex, unsigned slot);
    void empty_each(TlbIndex, Slots);

    Cpu& m_cpu;
    CodeCache const& m_cache;
    std::array<Slots, tlb_index_count> m_used {}, m_global {};
    std::array<Slots, tlb_index_count> m_read_only {}; // there was code in some page when it was last looked for
};

} // namespace anyhyve::soft
