// Guest linear memory as C++ code of the engine reaches it: page walk, rights, device memory, code tracking.
// All of it is compiled for general registers only, so guest vector state stays where it is.
#pragma once

#include <bitset>

#include "engine/soft/code_cache.hpp"
#include "engine/soft/cpu.hpp"
#include "engine/soft/large_pages.hpp"
#include "engine/soft/page_runs.hpp"

namespace anyhyve::soft {

class Mmu {
public:
    Mmu(Cpu& cpu, CodeCache& cache) : m_cpu(cpu), m_cache(cache), m_large_pages(cpu, cache), m_runs(cpu) {}

    // Linear addresses; `size` up to 64 bytes (copy_in/copy_out: any, by pages). In 64-bit code the caller has checked that the address
    // is canonical (or uses *_segment below). A write that crosses a page checks both pages first: all or nothing.
    Outcome read(u64 linear, void* to, unsigned size, Rights = Rights::current);
    Outcome write(u64 linear, void const* from, unsigned size, Rights = Rights::current);
    // Checks without effect but the accessed/dirty bits.
    Outcome probe(u64 linear, unsigned size, Access, Rights = Rights::current);
    template<typename T>
    Outcome read_value(u64 linear, T& value, Rights rights = Rights::current) { return read(linear, &value, sizeof value, rights); }
    template<typename T>
    Outcome write_value(u64 linear, T value, Rights rights = Rights::current) { return write(linear, &value, sizeof value, rights); }

    // Host memory for [linear, linear+size) within one page, for string instructions: nullptr in `host` when it is device memory or needs the
    // slow way, then use read()/write(). Faults as an access would. For writes: translated code there is dropped by finish_writes(), which the
    // runtime calls after every operation, and the next host_pointer() before anything else.
    Outcome host_pointer(u64 linear, unsigned size, Access, u8*& host);

    // Segmented: adds the base and checks limit, rights and canonical form as the current mode does (#GP or #SS).
    Outcome linear_address(x86::Segment, u64 offset, unsigned size, Access, u64& linear);
    Outcome read_segment(x86::Segment segment, u64 offset, void* to, unsigned size);
    Outcome write_segment(x86::Segment segment, u64 offset, void const* from, unsigned size);

    // Effective address of the ModRM operand, address size applied, without the segment base.
    u64 effective_address(x86::Instruction const&) const;
    // Linear address of the ModRM memory operand for `size` bytes.
    Outcome operand_address(x86::Instruction const&, unsigned size, Access, u64& linear);
    // The rm operand of 1, 2, 4 or 8 bytes: register or memory.
    Outcome read_rm(x86::Instruction const&, unsigned width, u64& value);
    Outcome write_rm(x86::Instruction const&, unsigned width, u64 value);

    // Invalidation (SDM vol. 3A 4.10.4).
    void flush_all();            // global entries too: CR0/CR4 paging bits, PGE toggles
    void flush_non_global();     // MOV to CR3
    void flush_page(u64 linear); // INVLPG
    // Gives PKRU or PKRS another value, and drops what it no longer permits.
    void set_key_rights(KeyedPages, u32 value);
    // After a change of CPL, CR0, CR4, EFER, RFLAGS.AC/VM, segments: recomputes cpu.mode and the fast segment limits.
    // Loads the PAE pointers when asked to (MOV CR3, CR0/CR4 changes): false in PAE mode with a bad entry (#GP).
    void update_mode();
    bool load_pdptes();

    // The physical address a linear one maps to, without faults or side effects (debuggers); false when unmapped.
    bool translate_debug(u64 linear, Gpa& physical);

    // Ports, through the bus, with the guest's vector state put away. (I/O permission is the caller's.)
    u64 port_in(u16 port, unsigned width);
    void port_out(u16 port, unsigned width, u64 value);

    // Where one page's worth of a linear access ends up: RAM, or something on the memory bus.
    struct Target {
        u8* host = nullptr;      // nullptr: no RAM
        u64 physical = 0;        // of the first byte
        bool watched = false;    // RAM that code was translated from: a write must tell the cache
    };
    // [linear, linear+1): walks, sets A/D bits, and fills the look-aside table when plain accesses may follow.
    Outcome resolve(u64 linear, Access, TlbIndex, Target&);
    TlbIndex tlb_for(Rights) const;
    u64 linear_mask() const { return m_cpu.long_mode() ? ~u64 { 0 } : 0xffffffff; }
    // Without a fault, a device, or an accessed or dirty bit set: false when it takes any of these. The second one fills the look-aside table.
    bool walk_quietly(u64 linear, Access, TlbIndex, struct Translation&);
    bool find_quietly(u64 linear, Access, TlbIndex);
    // A load of one byte, for where that lies in guest RAM, whatever window the look-aside table leads to. nullptr: device memory.
    Outcome ram_pointer(u64 linear, u8*& host);
    // Device memory, through the bus, in pieces of 1, 2, 4 or 8 bytes, with the guest's vector state put away.
    void read_device(u64 physical, void* to, unsigned size);
    void write_device(u64 physical, void const* from, unsigned size);
    // Stores to the page at this host address of RAM take the slow way from now on. This vCPU stands still, or calls.
    void forget_writable(u8 const* host);
    // Translated code in [physical, physical+size) is dropped.
    void note_write(u64 physical, unsigned size);
    CodeCache& cache() { return m_cache; }
    void finish_writes()
    {
        if (__builtin_expect(m_unfinished_size != 0, 0)) {
            note_write(m_unfinished, m_unfinished_size);
            m_unfinished_size = 0;
        }
    }

    PageRuns& runs() { return m_runs; }
    PageRuns const& runs() const { return m_runs; }
    LargePages& large_pages() { return m_large_pages; }
    // Drops what generated code remembers of pages beside the look-aside tables.
    void forget_pages()
    {
        m_cpu.forget_sites();
        m_runs.drop();
    }

    // Where code at `linear` lies, under the current privilege: fills the code look-aside table, whose word for that page is `guard`.
    Outcome fetch_page(u64 linear, u64& physical, u64& guard);
    // Code at `rip`, whose page fetch_page() has found, may be entered at this host address by indirect jumps, until its page or the mode changes.
    void remember_jump(u64 rip, u64 entry);
    static u64 code_guard(u64 linear, u64 physical) { return (linear >> 12) << 28 | physical >> 12; }

    struct Statistics {
        Tally page_walks, device_reads, device_writes, flushes_all, flushes_non_global, flushes_page, odd_operands, code_writes;
    };
    Statistics& statistics() { return m_statistics; }
    Statistics const& statistics() const { return m_statistics; }

private:
    // Slots filled since the last flush, so that a flush touches only those. Overflow: the whole table goes.
    struct FillLog {
        static constexpr unsigned capacity = tlb_entries;
        std::array<u16, capacity> slots;
        unsigned count = 0;
        bool overflow = false;
        void add(unsigned slot)
        {
            if (count < capacity)
                slots[count++] = static_cast<u16>(slot);
            else
                overflow = true;
        }
    };
    void note_use(u64 physical);
    void fill(u64 linear, TlbIndex, struct Translation const&, u8* host, bool watched);
    bool fill_from_large_page(u64 linear, Access, TlbIndex);
    void drop_keyed(KeyedPages, u32 withdrawn);
    void drop_unkeyed();
    void note_key(TlbIndex, unsigned slot, struct Translation const&);
    void forget_keys();
    void flush_log(FillLog&, TlbIndex);
    void flush_code_log(FillLog&, TlbIndex);
    void clear_jumps();
    void clear_jumps(TlbIndex);
    void forget_local_jumps();
    void check_jump_modes();
    Outcome segment_fault(x86::Segment);
    Outcome check_alignment(u64 linear, unsigned size, Rights);
    void access_pieces(u64 physical, u8* bytes, unsigned size, Access);

    Cpu& m_cpu;
    CodeCache& m_cache;
    std::array<FillLog, tlb_index_count> m_filled {}, m_filled_global {};
    std::array<FillLog, tlb_index_count> m_code_filled {}, m_code_filled_global {};
    std::array<FillLog, tlb_index_count> m_jumps_filled {}, m_jumps_filled_global {}; // since they were cleared
    std::array<std::bitset<code_tlb_entries>, tlb_index_count> m_code_is_global {};
    std::array<std::array<u8, tlb_entries>, tlb_index_count> m_keys {}; // keyed_as(), by slot
    std::array<FillLog, tlb_index_count> m_keyed {}; // slots with protection keys but 0, and others that had one
    bool m_keyed_global = false;                     // some of them survive MOV to CR3
    LargePages m_large_pages;
    PageRuns m_runs;
    // By slot: a hash of the RAM page that write_tag leads to, or once led to, so that forget_writable() need not look at the entries themselves.
    std::array<std::array<u8, tlb_entries>, tlb_index_count> m_prints {};
    // Pages that could be written at once but that code was translated from: read_tag says that the entry is right.
    std::array<std::bitset<tlb_entries>, tlb_index_count> m_watched_writable {};
    static u8 print_of(u64 offset) { return static_cast<u8>(offset >> 12 ^ offset >> 20 ^ offset >> 28) | 1; }
    bool resolve_watched(u64 linear, TlbIndex, Target&);
    u64 m_unfinished = 0;       // physical range of a write through host_pointer() to watched memory
    unsigned m_unfinished_size = 0;
    u64 m_large_regions = 0; // a bit per hash of 2 MiB regions that were filled from 2 MiB pages
    u64 m_huge_regions = 0;  // a bit per hash of 1 GiB regions that were filled from larger ones
    void note_page_size(u64 linear, struct Translation const&);
    void flush_range(u64 first, u64 size);
    Statistics m_statistics;
};

} // namespace anyhyve::soft
