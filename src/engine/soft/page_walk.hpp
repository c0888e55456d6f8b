// The page tables, walked as the CPU does: 32-bit, PAE and 4-level formats, rights, accessed and dirty bits.
// Spec: Intel SDM vol. 3A chapter 4.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// Width of guest physical addresses: what CPUID 80000008h reports and what reserved bits are checked against.
constexpr unsigned physical_address_bits = 40;

struct Translation {
    u64 physical = 0;     // of the 4 KiB page that holds the address
    bool user = false;    // reachable from CPL 3
    bool writable = false;
    bool no_execute = false;
    bool global = false;
    u8 page_shift = 12;   // size of the page it comes from: 12, 21, 22 or 30
    KeyedPages pages = user_pages;
    u8 key = 0;           // protection key, where keys of such pages are at work
    bool accessed = false; // the A bits of all entries were set before
    bool dirty = false;   // the entry's D bit is set: writes need no further walk
};

// On failure cpu.fault holds the #PF. With `update` the accessed and, for writes, the dirty bit are set; without, protection keys do not count.
Outcome walk_pages(Cpu&, u64 linear, Access, TlbIndex rights, Translation&, bool update = true);
// PAE: loads the four pointers from CR3; false when one has reserved bits set.
bool load_page_directory_pointers(Cpu&);

} // namespace anyhyve::soft
