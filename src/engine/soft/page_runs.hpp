// Runs of pages: neighbours in the guest that are neighbours on the host as well, so that hot code needs one check for all of them (RunSlot).
// Where the guest's pages lie anywhere in its RAM, as those of programs do, the host maps them once more, side by side, in a window.
// Threads: the vCPU's own, or another that has brought it to a standstill.
#pragma once

#include <span>
#include <vector>

#include "base/tally.hpp"
#include "engine/soft/cpu.hpp"
#include "host/mapping.hpp"

namespace anyhyve::soft {

class PageRuns {
public:
    explicit PageRuns(Cpu& cpu) : m_cpu(cpu) {}

    // Makes the run of the page at `linear`, which the look-aside tables know, as long as that table can tell. False: it was. What slots hold stays
    // right; when there are too many runs, poll is set, and is_full() says that the dispatcher should drop them.
    bool extend(u64 linear, TlbIndex);
    bool is_full() const { return m_full; }
    // Every page is alone again, where it lies in RAM. Hot code's slots must be emptied, too (Mmu::forget_pages).
    void drop();

    // Of the page that an entry leads to, wherever it does that.
    u64 offset_in_ram(TlbEntry const&) const;
    // The same of a page by its host address.
    u64 offset_in_ram(u64 host) const;

    u64 pages_mapped() const { return m_pages_mapped; } // into windows, ever

private:
    static constexpr unsigned window_count = 8;
    static constexpr unsigned window_pages = longest_run;
    static constexpr u64 window_size = window_pages * u64 { 0x1000 };
    static constexpr unsigned most_runs = 64, most_pages = 4 * longest_run;
    static constexpr u32 not_mapped = ~u32 { 0 };
    static constexpr unsigned search_cost = 16; // in mapped pages

    struct Run {
        TlbIndex index;
        u64 first;
        unsigned pages;
        u64 addend; // as look-aside entries have it
        bool writable;
    };
    // 16 MiB of one address space.
    struct Window {
        u64 space = ~u64 { 0 };
        u64 first = 0;
        std::vector<u32> frame; // by page: which page of RAM is mapped; empty until the window is used
    };
    class Search;
    // What the look-aside tables know of a page.
    struct KnownPage {
        u64 offset = 0;         // in RAM
        unsigned run_pages = 0; // of the run that slots take today
        bool writable = false;
    };

    bool is_known(u64 page, TlbIndex, KnownPage&) const;
    void make(Run const&);
    template<typename Function>
    void for_large_pages(Run const&, Function);
    void leave_window(TlbEntry&) const;
    bool map_into_window(Run&);
    bool moves_pages_in_use(Run const&, Window const&) const;
    bool map_frames(Run const&, Window&);
    std::span<u32 const> frames_of(Run const&) const;
    bool is_mapped(Window const& window, unsigned number) const { return window.frame[number] == m_frames[number]; }
    static unsigned page_number(u64 linear) { return static_cast<unsigned>((linear & (window_size - 1)) >> 12); } // in its window
    u64 space_of(Run const&) const;
    void want_drop();
    Window* window_for(Run const&);
    u8* start_of(Window const& window) const { return m_memory.data() + (&window - m_windows.data()) * static_cast<std::ptrdiff_t>(window_size); }
    bool is_in_window(u64 host) const { return host - m_windows_start < m_memory.size(); }
    bool may_spend(unsigned pages);

    Cpu& m_cpu;
    std::array<Run, most_runs> m_runs {};
    unsigned m_run_count = 0;
    unsigned m_run_pages = 0;  // of all of them
    std::vector<u32> m_frames; // of the pages that a search has found, by page of their window
    bool m_full = false;
    host::Mapping m_memory; // of the windows; made when first needed
    u64 m_windows_start = 0;
    std::array<Window, window_count> m_windows {};
    unsigned m_next_window = 0;
    u32 m_used_windows = 0; // a bit each: slots may lead there
    Tally m_pages_mapped;
    u64 m_allowance = 0;       // pages that may be mapped now
    u64 m_allowance_since = 0; // time stamp counter
};

} // namespace anyhyve::soft
