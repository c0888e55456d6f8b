// Filling and forgetting entries for large pages.
#include "engine/soft/large_pages.hpp"

#include "engine/soft/breakpoints.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/page_walk.hpp"

namespace anyhyve::soft {

// No code in any of its pages.
bool LargePages::may_be_written(u64 offset) const
{
    u64 const physical = m_cpu.wires.memory->address_at(offset).value();
    for (u64 at = 0; at < large_page_size; at += 0x1000) {
        if (m_cache.watched(physical + at))
            return false;
    }
    return true;
}

void LargePages::note(u64 linear, TlbIndex index, Translation const& translation)
{
    if (translation.page_shift < 21 || translation.key != 0 || breakpoints_enabled(m_cpu))
        return;
    unsigned const slot = large_tlb_slot(linear);
    TlbEntry& entry = m_cpu.large_tlb[index][slot];
    u64 const first = linear & large_page_mask;
    bool const known = entry.read_tag == first;
    bool const writable = translation.writable && translation.dirty;
    if (known && (!writable || entry.write_tag == first || m_read_only[index].test(slot)))
        return;
    GuestMemory const& memory = *m_cpu.wires.memory;
    u8* const host = memory.range(Gpa(translation.physical & large_page_mask), large_page_size);
    if (!host)
        return;
    bool const write = writable && may_be_written(static_cast<u64>(host - memory.host_base()));
    m_read_only[index].set(slot, writable && !write);
    if (known && !write)
        return;
    // SAFETY: an address as a number; generated code adds it to addresses of this region alone.
    entry = { .read_tag = first, .write_tag = write ? first : ~u64 { 0 }, .run = alone(linear), .addend = reinterpret_cast<std::uintptr_t>(host) - first };
    m_used[index].set(slot);
    m_global[index].set(slot, translation.global);
}

void LargePages::empty(TlbIndex index, unsigned slot)
{
    m_cpu.large_tlb[index][slot] = {};
    m_used[index].reset(slot);
}

void LargePages::empty_each(TlbIndex index, Slots slots)
{
    for (auto slot = slots._Find_first(); slot < slots.size(); slot = slots._Find_next(slot))
        empty(index, static_cast<unsigned>(slot));
}

void LargePages::flush_all()
{
    for (unsigned i = 0; i < tlb_index_count; ++i)
        empty_each(static_cast<TlbIndex>(i), m_used[i]);
}

void LargePages::flush_non_global()
{
    for (unsigned i = 0; i < tlb_index_count; ++i)
        empty_each(static_cast<TlbIndex>(i), m_used[i] & ~m_global[i]);
}

void LargePages::flush_range(u64 first, u64 size)
{
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        for (auto slot = m_used[i]._Find_first(); slot < large_tlb_entries; slot = m_used[i]._Find_next(slot)) {
            if (m_cpu.large_tlb[i][slot].read_tag - first < size)
                empty(static_cast<TlbIndex>(i), static_cast<unsigned>(slot));
        }
    }
}

void LargePages::forget_writable(u64 offset)
{
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        for (auto slot = m_used[i]._Find_first(); slot < large_tlb_entries; slot = m_used[i]._Find_next(slot)) {
            TlbEntry& entry = m_cpu.large_tlb[i][slot];
            if (offset - m_cpu.mmu->runs().offset_in_ram(entry) >= large_page_size)
                continue;
            entry.write_tag = ~u64 { 0 };
            m_read_only[i].set(slot);
        }
    }
}

} // namespace anyhyve::soft
