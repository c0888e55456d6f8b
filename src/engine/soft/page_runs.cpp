// Finding runs of pages, making windows for them, and forgetting both.
#include "engine/soft/page_runs.hpp"

#include <algorithm>

#include "engine/soft/mmu.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

static constexpr u64 page_mask = ~u64 { 0xfff };

static unsigned slot_of(u64 linear)
{
    return static_cast<unsigned>(linear >> 12) & (tlb_entries - 1);
}

// --- neighbours ---

// All of a run may be written, or none.
bool PageRuns::belongs(u64 page, TlbIndex index, TlbEntry const& like) const
{
    TlbEntry const& entry = m_cpu.tlb[index][slot_of(page)];
    return entry.read_tag == page && (entry.write_tag == page) == (like.write_tag == like.read_tag);
}

// Pages around `page`, of [from, to), that the table knows.
PageRuns::Run PageRuns::neighbours(u64 page, TlbIndex index, u64 from, u64 to, bool side_by_side) const
{
    TlbEntry const& here = m_cpu.tlb[index][slot_of(page)];
    auto const fits = [&](u64 other) { return belongs(other, index, here) && (!side_by_side || m_cpu.tlb[index][slot_of(other)].addend == here.addend); };
    u64 first = page, last = page;
    while (first != from && fits(first - 0x1000))
        first -= 0x1000;
    while (last + 0x1000 != to && fits(last + 0x1000))
        last += 0x1000;
    return { index, first, static_cast<unsigned>((last - first) >> 12) + 1 };
}

bool PageRuns::extend(u64 linear, TlbIndex index)
{
    u64 const page = linear & page_mask;
    TlbEntry const& here = m_cpu.tlb[index][slot_of(page)];
    if (here.read_tag != page)
        return false;
    if (m_run_count == most_runs) {
        want_drop();
        return true;
    }
    unsigned const now = static_cast<unsigned>(here.run & ~page_mask) + 1;
    u64 const reach = longest_run / 2 * u64 { 0x1000 };
    Run const side_by_side = neighbours(page, index, page - reach, page + reach, true);
    u64 const window = page & ~(window_size - 1);
    Run const all = neighbours(page, index, window, window + window_size, false);
    if (std::max(side_by_side.pages, all.pages) <= now)
        return false;
    if (side_by_side.pages < all.pages)
        return map_into_window(all);
    make(side_by_side, here.addend);
    return true;
}

void PageRuns::want_drop()
{
    m_full = true;
    m_cpu.poll.store(1, std::memory_order_relaxed);
}

void PageRuns::make(Run const& run, u64 addend)
{
    m_runs[m_run_count++] = run;
    for (unsigned i = 0; i < run.pages; ++i) {
        TlbEntry& entry = m_cpu.tlb[run.index][slot_of(run.first + i * u64 { 0x1000 })];
        entry.addend = addend;
        entry.run = run.first | (run.pages - 1);
    }
}

// Slots of the table may hold other pages by now, whose runs are as good when they are shorter.
void PageRuns::drop()
{
    m_full = false;
    m_used_windows = 0;
    for (; m_run_count != 0; --m_run_count) {
        Run const& run = m_runs[m_run_count - 1];
        for (unsigned i = 0; i < run.pages; ++i) {
            TlbEntry& entry = m_cpu.tlb[run.index][slot_of(run.first + i * u64 { 0x1000 })];
            if (entry.read_tag == ~u64 { 0 })
                continue;
            entry.run = entry.read_tag;
            if (is_in_window(entry.read_tag + entry.addend)) {
                // SAFETY: an address as a number; offset_in_ram() is that of a page of RAM.
                u64 const ram = reinterpret_cast<u64>(m_cpu.wires.memory->host_base());
                entry.addend = ram + offset_in_ram(entry) - entry.read_tag;
            }
        }
    }
}

// --- windows ---

u64 PageRuns::offset_in_ram(TlbEntry const& entry) const
{
    u64 const host = entry.read_tag + entry.addend;
    if (is_in_window(host)) {
        u64 const offset = host - m_windows_start;
        return m_windows[offset / window_size].offset[offset % window_size >> 12];
    }
    // SAFETY: an address as a number.
    return host - reinterpret_cast<u64>(m_cpu.wires.memory->host_base());
}

// A page costs more than a microsecond: no more than a few per cent of the time goes there.
bool PageRuns::may_map(unsigned pages)
{
    constexpr u64 most = 4096;
    constexpr u64 ticks_per_page = 1 << 17;
    u64 const now = __builtin_ia32_rdtsc();
    m_allowance = std::min(most, m_allowance + (now - m_allowance_since) / ticks_per_page);
    m_allowance_since = now;
    if (m_allowance < pages)
        return false;
    m_allowance -= pages;
    return true;
}

// The kernel's addresses mean the same in each address space, mostly; what a window maps is compared page by page anyway.
u64 PageRuns::space_of(Run const& run) const
{
    return (run.first >> 63 ? 0 : m_cpu.cr3 & page_mask) | run.index;
}

// One whose pages no slot leads to, which those of runs that were not dropped yet do.
PageRuns::Window* PageRuns::window_for(Run const& run)
{
    u64 const space = space_of(run), first = run.first & ~(window_size - 1);
    for (Window& window : m_windows) {
        if (window.space == space && window.first == first)
            return &window;
    }
    if (m_memory.size() == 0) {
        auto memory = host::Mapping::anonymous(window_count * window_size);
        if (!memory.ok())
            return nullptr;
        m_memory = memory.release_value();
        // SAFETY: an address as a number.
        m_windows_start = reinterpret_cast<u64>(m_memory.data());
    }
    for (unsigned i = 0; i < window_count; ++i) {
        unsigned const number = m_next_window;
        m_next_window = (m_next_window + 1) % window_count;
        if (m_used_windows >> number & 1)
            continue;
        Window& window = m_windows[number];
        window.space = space;
        window.first = first;
        return &window;
    }
    return nullptr;
}

bool PageRuns::map_into_window(Run const& run)
{
    if (!may_map(run.pages))
        return false;
    VectorStateGuard guard(m_cpu);
    Window* const window = window_for(run);
    if (!window) {
        want_drop();
        return true;
    }
    auto const number_of_window = window - m_windows.data();
    m_used_windows |= u32 { 1 } << number_of_window;
    u8* const start = m_memory.data() + number_of_window * static_cast<std::ptrdiff_t>(window_size);
    for (unsigned i = 0; i < run.pages; ++i) {
        u64 const page = run.first + i * u64 { 0x1000 };
        unsigned const number = static_cast<unsigned>((page - window->first) >> 12);
        u64 const offset = offset_in_ram(m_cpu.tlb[run.index][slot_of(page)]);
        if (window->offset[number] == offset)
            continue;
        window->offset[number] = not_mapped;
        if (!m_cpu.wires.memory->map_page(offset, start + number * u64 { 0x1000 }))
            return false;
        window->offset[number] = offset;
        ++m_pages_mapped;
    }
    // SAFETY: only the number is kept; generated code adds it to addresses of this run alone.
    make(run, reinterpret_cast<u64>(start) - window->first);
    return true;
}

} // namespace anyhyve::soft
