// Finding runs of pages, making windows for them, and forgetting both.
#include "engine/soft/page_runs.hpp"

#include <algorithm>

#include "engine/soft/breakpoints.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/page_walk.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

// --- neighbours ---

// The pages around one, up to the first that does not belong to them: all of a run may be written, or none.
class PageRuns::Search {
public:
    Search(PageRuns& runs, Cpu& cpu, u64 page, TlbIndex index, bool writable)
        : m_runs(runs), m_cpu(cpu), m_index(index), m_page(page), m_writable(writable)
    {
    }
    // The frames go into m_runs.m_frames, by page of the window.
    Run find();

private:
    // So many may be missing from the look-aside table, and be looked up in the page tables.
    static constexpr unsigned most_walks = 256;

    bool take(u64 page);
    bool walk(u64 page, u64& offset);

    PageRuns& m_runs;
    Cpu& m_cpu;
    TlbIndex const m_index;
    u64 const m_page;
    bool const m_writable;
    unsigned m_walks = 0;
};

bool PageRuns::Search::take(u64 page)
{
    KnownPage known;
    if (m_runs.is_known(page, m_index, known) ? known.writable != m_writable : !walk(page, known.offset))
        return false;
    u64 const offset = known.offset;
    m_runs.m_frames[page_number(page)] = static_cast<u32>(offset >> 12);
    return offset >> 12 < not_mapped;
}

// The table holds one page of those that share a slot. What the page tables say is as good, when the guest has used the page before.
bool PageRuns::Search::walk(u64 page, u64& offset)
{
    Translation translation;
    if (++m_walks > most_walks || !m_cpu.mmu->walk_quietly(page, Access::read, m_index, translation))
        return false;
    offset = m_cpu.wires.memory->offset_of(Gpa(translation.physical));
    return m_writable == (translation.writable && translation.dirty && !m_cpu.mmu->cache().watched(translation.physical));
}

PageRuns::Run PageRuns::Search::find()
{
    u64 const from = m_page & ~(window_size - 1), to = from + window_size;
    u64 first = m_page, last = m_page;
    if (!take(m_page))
        return { m_index, m_page, 0, 0, false };
    while (first != from && take(first - 0x1000))
        first -= 0x1000;
    while (last + 0x1000 != to && take(last + 0x1000))
        last += 0x1000;
    return { m_index, first, static_cast<unsigned>((last - first) >> 12) + 1, 0, m_writable };
}

std::span<u32 const> PageRuns::frames_of(Run const& run) const
{
    return std::span(m_frames).subspan(page_number(run.first), run.pages);
}

bool PageRuns::is_known(u64 page, TlbIndex index, KnownPage& known) const
{
    TlbEntry const& entry = m_cpu.tlb[index][tlb_slot(page)];
    TlbEntry const* const large = m_cpu.mmu->large_pages().find(page, index, Access::read);
    bool const here = entry.read_tag == page;
    if (!here && !large)
        return false;
    known.offset = here ? offset_in_ram(entry) : offset_in_ram(*large) + (page - large->read_tag);
    known.run_pages = static_cast<unsigned>((large ? large->run : entry.run) & ~page_mask) + 1;
    known.writable = (here && entry.write_tag == page) || (large && large->write_tag == large->read_tag);
    return true;
}

bool PageRuns::extend(u64 linear, TlbIndex index)
{
    u64 const page = linear & page_mask;
    KnownPage here;
    if (!is_known(page, index, here))
        return false;
    if (m_run_count == most_runs || m_run_pages > most_pages) {
        want_drop();
        return true;
    }
    if (!may_spend(search_cost))
        return true;
    VectorStateGuard guard(m_cpu); // the C library's memory functions follow
    m_frames.resize(window_pages);
    unsigned const now = here.run_pages;
    Run run = Search(*this, m_cpu, page, index, here.writable).find();
    if (run.pages <= now)
        return false;
    if (run.pages <= now + now / 8)
        return true; // nearly all there is: not worth the work
    auto const frames = frames_of(run);
    if (frames.back() - frames.front() != run.pages - 1 || !std::is_sorted(frames.begin(), frames.end()))
        return map_into_window(run);
    // SAFETY: an address as a number.
    run.addend = reinterpret_cast<u64>(m_cpu.wires.memory->host_base()) + (u64 { frames.front() } << 12) - run.first;
    make(run);
    return true;
}

void PageRuns::want_drop()
{
    m_full = true;
    m_cpu.poll.store(1, std::memory_order_relaxed);
}

// Large pages that lie in the run as a whole.
template<typename Function>
void PageRuns::for_large_pages(Run const& run, Function function)
{
    u64 const end = run.first + run.pages * u64 { 0x1000 };
    for (u64 first = (run.first + large_page_size - 1) & large_page_mask; first + large_page_size <= end; first += large_page_size) {
        TlbEntry& entry = m_cpu.large_tlb[run.index][large_tlb_slot(first)];
        if (entry.read_tag == first)
            function(entry);
    }
}

void PageRuns::make(Run const& run)
{
    m_runs[m_run_count++] = run;
    m_run_pages += run.pages;
    for (unsigned i = 0; i < run.pages; ++i) {
        u64 const page = run.first + i * u64 { 0x1000 };
        TlbEntry& entry = m_cpu.tlb[run.index][tlb_slot(page)];
        if (entry.read_tag != page)
            continue;
        entry.addend = run.addend;
        entry.run = run.first | (run.pages - 1);
    }
    for_large_pages(run, [&run](TlbEntry& entry) {
        if ((entry.write_tag == entry.read_tag) != run.writable)
            return;
        entry.addend = run.addend;
        entry.run = run.first | (run.pages - 1);
    });
}

// Slots of the table may hold other pages by now, whose runs are as good when they are shorter.
void PageRuns::drop()
{
    m_full = false;
    m_used_windows = 0;
    m_run_pages = 0;
    for (; m_run_count != 0; --m_run_count) {
        Run const& run = m_runs[m_run_count - 1];
        for (unsigned i = 0; i < run.pages; ++i) {
            TlbEntry& entry = m_cpu.tlb[run.index][tlb_slot(run.first + i * u64 { 0x1000 })];
            if (entry.read_tag == ~u64 { 0 })
                continue;
            entry.run = entry.read_tag;
            leave_window(entry);
        }
        for_large_pages(run, [this](TlbEntry& entry) {
            entry.run = LargePages::alone(entry.read_tag);
            leave_window(entry);
        });
    }
}

void PageRuns::leave_window(TlbEntry& entry) const
{
    if (!is_in_window(entry.read_tag + entry.addend))
        return;
    // SAFETY: an address as a number; offset_in_ram() is that of a page of RAM.
    u64 const ram = reinterpret_cast<u64>(m_cpu.wires.memory->host_base());
    entry.addend = ram + offset_in_ram(entry) - entry.read_tag;
}

// --- windows ---

u64 PageRuns::offset_in_ram(TlbEntry const& entry) const
{
    return offset_in_ram(entry.read_tag + entry.addend);
}

u64 PageRuns::offset_in_ram(u64 host) const
{
    if (is_in_window(host)) {
        u64 const offset = host - m_windows_start;
        return u64 { m_windows[offset / window_size].frame[offset % window_size >> 12] } << 12;
    }
    // SAFETY: an address as a number.
    return host - reinterpret_cast<u64>(m_cpu.wires.memory->host_base());
}

// Looking for pages takes tens of nanoseconds each, mapping one more than a microsecond: no more than a few per cent of the time goes there.
bool PageRuns::may_spend(unsigned pages)
{
    constexpr u64 most = 8192;
    constexpr u64 ticks_per_page = 1 << 16;
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
        auto memory = host::Mapping::anonymous(window_count * window_size, host::Mapping::Place::huge_page);
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
        window.frame.resize(window_pages, not_mapped);
        return &window;
    }
    return nullptr;
}

// Slots may lead to all pages of a run that was not dropped yet, even to those that the look-aside table has lost, under the rights that these had.
bool PageRuns::moves_pages_in_use(Run const& run, Window const& window) const
{
    for (Run const& used : std::span(m_runs).first(m_run_count)) {
        if (used.addend != run.addend)
            continue; // it lies elsewhere
        u64 const to = std::min(used.first + used.pages * u64 { 0x1000 }, run.first + run.pages * u64 { 0x1000 });
        for (u64 page = std::max(used.first, run.first); page < to; page += 0x1000) {
            if (!is_mapped(window, page_number(page)))
                return true;
        }
    }
    return false;
}

// Neighbours in RAM go in one piece.
bool PageRuns::map_frames(Run const& run, Window& window)
{
    unsigned const end = page_number(run.first) + run.pages;
    for (unsigned number = page_number(run.first); number < end;) {
        if (is_mapped(window, number)) {
            ++number;
            continue;
        }
        u32 const frame = m_frames[number];
        unsigned count = 1;
        while (number + count < end && m_frames[number + count] == frame + count && !is_mapped(window, number + count))
            ++count;
        std::fill_n(window.frame.begin() + number, count, not_mapped);
        if (!m_cpu.wires.memory->map_pages(u64 { frame } << 12, count * u64 { 0x1000 }, start_of(window) + number * u64 { 0x1000 }))
            return false;
        std::copy_n(m_frames.begin() + number, count, window.frame.begin() + number);
        m_pages_mapped += count;
        number += count;
    }
    return true;
}

bool PageRuns::map_into_window(Run& run)
{
    Window* const window = window_for(run);
    if (!window) {
        want_drop();
        return true;
    }
    m_used_windows |= u32 { 1 } << (window - m_windows.data());
    // SAFETY: only the number is kept; generated code adds it to addresses of this run alone.
    run.addend = reinterpret_cast<u64>(start_of(*window)) - window->first;
    if (moves_pages_in_use(run, *window)) {
        want_drop();
        return true;
    }
    unsigned fresh = 0;
    for (unsigned i = 0; i < run.pages; ++i)
        fresh += !is_mapped(*window, page_number(run.first) + i);
    if (!may_spend(fresh) || !map_frames(run, *window))
        return false;
    make(run);
    return true;
}

} // namespace anyhyve::soft
