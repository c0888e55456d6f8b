// The state of a software vCPU: first what generated code reaches through its GS base, then the rest of the architecture.
// While guest code runs, RAX-R12 and the arithmetic flags are in the host's registers of the same names; every C++ function
// that takes a Cpu& sees all of it here, in memory (thunks.cpp moves it). Threads: the vCPU's own, except where an atomic says so.
#pragma once

#include <array>
#include <atomic>
#include <utility>

#include "engine/soft/counters.hpp"
#include "engine/soft/crowd.hpp"
#include "engine/soft/guard_area.hpp"
#include "engine/soft/monitor.hpp"
#include "engine/soft/paging_structures.hpp"
#include "vmm/engine.hpp"
#include "x86/instruction.hpp"
#include "x86/registers.hpp"

namespace anyhyve::soft {

// How a step of the software CPU ended. Functions that may fault return it; `next` means success.
enum class [[nodiscard]] Outcome : u8 {
    next,     // go on with the instruction at cpu.next_rip (or: the access went well)
    jump,     // cpu.rip holds where to go on; the translator leaves the block
    fault,    // cpu.fault describes the exception; cpu.rip still points at the instruction
    halt,     // HLT: the run loop sleeps; cpu.rip already points behind it
    leave,    // leave run() with cpu.exit_reason
};

// TRY for steps: hand on anything but success.
#define STEP(expression)                                                                                              \
    do {                                                                                                              \
        if (auto step_outcome = (expression); step_outcome != ::anyhyve::soft::Outcome::next)                        \
            return step_outcome;                                                                                      \
    } while (false)

// An exception on its way to the guest.
struct PendingFault {
    u8 vector = 0;
    bool has_error_code = false;
    bool software = false;  // INT n, INT3, INTO: return address behind the instruction, gate DPL is checked
    bool restarts = false;  // #DB of an instruction breakpoint: reported before the instruction
    bool external = false;  // hardware interrupt or NMI: sets EXT in error codes of nested faults
    u32 error_code = 0;
    u64 address = 0;        // #PF: CR2
    u64 dr6 = 0;            // #DB: bits to set
};

// Which kind of access the memory unit checks for.
enum class Access : u8 { read, write, fetch };
// Under whose rights: the CPL, or the supervisor's whatever the CPL is (descriptor tables, TSS, interrupt stacks). `current_unaligned`: the
// CPL's, and never #AC (gathers and scatters: SDM vol. 2A table 2-27).
enum class Rights : u8 { current, supervisor, current_unaligned };

// Which of the look-aside tables the current privilege uses.
enum TlbIndex : u8 { tlb_user, tlb_supervisor, tlb_supervisor_user_access /* SMAP lifted by RFLAGS.AC */, tlb_index_count };

struct TlbEntry {
    u64 read_tag = ~u64 { 0 };   // linear page address, or ~0
    u64 write_tag = ~u64 { 0 };
    u64 run = 0;                 // the run that the page belongs to: its first page's linear address, and in the low 12 bits how many pages more
    u64 addend = 0;              // host pointer = linear address + addend
};
constexpr u64 page_mask = ~u64 { 0xfff };
constexpr unsigned longest_run = 4096; // pages
constexpr unsigned tlb_entries = 4096;
constexpr unsigned code_tlb_entries = 4096;
// Where the tables have an address, if they have it.
constexpr unsigned tlb_slot(u64 linear) { return static_cast<unsigned>(linear >> 12) & (tlb_entries - 1); }
constexpr unsigned code_tlb_slot(u64 linear) { return static_cast<unsigned>(linear >> 12) & (code_tlb_entries - 1); }
// And those of 2 MiB each (large_pages.hpp).
constexpr u64 large_page_size = 2 * MiB;
constexpr u64 large_page_mask = ~(large_page_size - 1);
constexpr unsigned large_tlb_entries = 256;
constexpr unsigned large_tlb_slot(u64 linear) { return static_cast<unsigned>(linear >> 21) & (large_tlb_entries - 1); }
constexpr unsigned jump_cache_slots = 4096;

// Where indirect jumps may go on without the dispatcher. What a table holds is right as long as it holds it: its blocks are all of `mode`, and
// their pages lie where they did. Mmu and CodeCache take out what no longer is. A slot has room for two targets: generated code looks at the
// one that was found last, the runtime at both. Threads: written under the code cache's lock, by any; read by its own virtual CPU.
struct JumpCache {
    std::array<u64, 2 * jump_cache_slots> rip;   // the slots' newer targets, then the older ones; nothing(): empty
    std::array<u64, 2 * jump_cache_slots> entry; // host address: arithmetic flags in memory
    u32 mode = 0;

    JumpCache() { clear(); }
    // The slot, by the target's address.
    static constexpr unsigned slot(u64 rip) { return static_cast<unsigned>(rip ^ rip >> 12) & (jump_cache_slots - 1); }
    // What an empty slot holds: an address that is looked for in another one. Guests jump to any number.
    static constexpr u64 nothing(unsigned slot) { return slot == 0 ? 1 : ~u64 { 0 }; }
    void empty(unsigned slot) { rip[slot] = rip[slot + jump_cache_slots] = nothing(slot); }
    void forget(u64 target)
    {
        unsigned const at = slot(target);
        for (unsigned const way : { at, at + jump_cache_slots })
            if (rip[way] == target)
                rip[way] = nothing(at);
    }
    // 0: not known.
    u64 find(u64 target) const
    {
        unsigned const at = slot(target);
        return rip[at] == target ? entry[at] : rip[at + jump_cache_slots] == target ? entry[at + jump_cache_slots] : 0;
    }
    void insert(u64 target, u64 host)
    {
        unsigned const at = slot(target);
        if (rip[at] != target) {
            rip[at + jump_cache_slots] = rip[at];
            entry[at + jump_cache_slots] = entry[at];
        }
        rip[at] = target;
        entry[at] = host;
    }
    // It is in its slot's second place, and used again and again.
    void bring_forward(u64 target)
    {
        unsigned const at = slot(target);
        if (rip[at + jump_cache_slots] == target) {
            std::swap(rip[at], rip[at + jump_cache_slots]);
            std::swap(entry[at], entry[at + jump_cache_slots]);
        }
    }
    void clear()
    {
        for (auto& target : rip)
            target = ~u64 { 0 };
        empty(0);
    }
};

static_assert(JumpCache::slot(~u64 { 0 }) == 0 && JumpCache::slot(1) != 0);

// The page that the stack pointer was last seen writing to, per look-aside table: most accesses relative to it need no more than a
// subtraction and a compare. An empty one names a page that is not canonical, and leads to memory that nobody reads: one by chance, so that no guest
// knows where accesses would not fault.
struct StackPage {
    static u64 choose_nowhere();
    u64 page = 0;
    u64 addend = 0;
};

// What one memory access of hot code, or one group of accesses to neighbouring addresses, found last: the page and where it is on the host.
// The same slot on every vCPU belongs to the same code. Slots that are shared, since there are only so many, are shared within a class.
struct SiteSlot {
    u64 page = 0;
    u64 addend = 0; // host pointer = linear address + addend; of constant addresses: the page's host address
};
// The same for accesses that find more pages than one: a run of pages that are neighbours on the host as well, and may all be read, or all be written.
struct RunSlot {
    u64 first = 0;
    u64 addend = 0;            // as above
    std::array<u64, 3> end {}; // up to how far from `first`, exclusive, accesses of 8, 64 and 256 bytes may begin; 0: empty
};
enum class SiteKind : u8 { read, write, constant_read, constant_write };
struct SiteClass {
    u16 first, count;
};
constexpr SiteClass site_classes[tlb_index_count][4] = { // by TlbIndex and SiteKind
    { { 0, 640 }, { 640, 384 }, { 1024, 192 }, { 1216, 64 } },
    { { 1280, 256 }, { 1536, 128 }, { 1664, 64 }, { 1728, 64 } },
    { { 1792, 64 }, { 1856, 64 }, { 1920, 64 }, { 1984, 64 } },
};
constexpr unsigned fewest_site_slots = 64; // of a class
constexpr unsigned page_slots = 2048;
constexpr SiteClass run_classes[tlb_index_count][2] = { // by TlbIndex and SiteKind; slots behind those of single pages
    { { 2048, 192 }, { 2240, 128 } },
    { { 2368, 96 }, { 2464, 64 } },
    { { 2528, 16 }, { 2544, 16 } },
};
constexpr unsigned run_slots = 512;
constexpr bool is_run_slot(u16 slot) { return slot >= page_slots; }
constexpr unsigned run_size_classes[] = { 8, 64, 256 }; // of RunSlot::end, in bytes
constexpr unsigned site_slots = page_slots + run_slots;
constexpr unsigned slots_per_mark = 64; // one byte says whether any of so many slots is in use

// What protection keys take away (SDM vol. 3A 4.6.2): for each of 16 keys a bit for all data accesses and one for writes. Which register counts
// is up to the page: PKRU for those that user code may reach, PKRS for the others.
enum KeyedPages : u8 { user_pages, supervisor_pages, keyed_pages_count };
constexpr unsigned protection_keys = 16;
struct KeyRights {
    static constexpr u32 access_disabled = 1, write_disabled = 2, of_key_zero = 3;
    u32 value = 0;             // the register
    u32 watched = of_key_zero; // its bits that, once set, take away what look-aside entries may grant
    u32 of(unsigned key) const { return value >> (2 * key) & 3; }
    static u32 both_bits(unsigned key) { return u32 { 3 } << (2 * key); }
};
// What Mmu remembers of an entry: 0 where no key but 0 is at work.
constexpr unsigned keyed_as(KeyedPages pages, unsigned key) { return key == 0 ? 0 : pages * protection_keys + key; }

// The part of the mode that decides how code is translated. Two blocks of different ModeBits are different blocks.
using ModeBits = u32;

struct alignas(64) Cpu {
    // --- reached by generated code (offsets: static_assert in thunks.cpp) ---
    std::array<u64, 16> gpr {};
    u64 rip = 0;                    // of the current instruction while a C++ function runs
    u64 next_rip = 0;               // behind it
    u64 arithmetic_flags = 0;       // lahf/seto image while flags are "in memory": AH in bits 8-15, OF in bit 0
    std::atomic<u32> poll { 0 };    // not 0: leave the block chain and look at `events`
    ModeBits mode = 0;
    Cpu* self = this;
    u64 host_rsp = 0;
    u64 scratch[4] {};
    std::array<x86::SegmentRegister, 6> segments {}; // by x86::Segment; limit in bytes, inclusive; base 0 for flat 64-bit ES CS SS DS
    // Offsets up to which plain reads / writes through a segment need no further check (exclusive end; 0: always check), 16/32-bit code.
    std::array<u64, 6> segment_read_end {};
    std::array<u64, 6> segment_write_end {};
    std::array<std::array<u64, code_tlb_entries>, tlb_index_count> code_tlb {};
    std::array<std::array<TlbEntry, tlb_entries>, tlb_index_count> tlb {};
    std::array<std::array<TlbEntry, large_tlb_entries>, tlb_index_count> large_tlb {};
    std::array<StackPage, tlb_index_count> stack_pages {};
    std::array<JumpCache, tlb_index_count> jump_cache {};
    std::array<SiteSlot, page_slots> sites {};
    std::array<RunSlot, run_slots> runs {};
    std::array<u32, site_slots> site_patience {};                       // misses until somebody looks whether the slot is worth it
    std::array<u8, site_slots / slots_per_mark> sites_used {};
    std::array<u64, site_slots> site_checked_at {}; // time stamp counter

    // --- architecture ---
    std::array<KeyRights, keyed_pages_count> key_rights {}; // PKRU, PKRS; written by Mmu::set_key_rights
    u64 rflags = x86::rflags::fixed; // complete while a C++ function runs, arithmetic bits included
    x86::SegmentRegister ldtr, tr;
    x86::TableRegister gdtr, idtr;
    u8 cpl = 0;
    u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, xcr0 = 1;
    std::array<u64, 4> pdpte {};
    std::array<u64, 4> dr {};
    u64 dr6 = 0xffff0ff0, dr7 = 0x400;
    u64 efer = 0, star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0, tsc_aux = 0;
    u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
    u64 pat = 0, misc_enable = 0, xss = 0, spec_ctrl = 0, tsc_offset = 0, tsc_adjust = 0;
    u64 mtrr_def_type = 0;
    std::array<u64, 11> mtrr_fixed {};
    std::array<u64, 20> mtrr_variable {};

    bool interrupt_shadow = false;  // the next instruction runs before interrupts (STI) or any #DB/interrupt (MOV SS) are taken
    bool debug_shadow = false;      // MOV SS and POP SS: nor is a #DB taken before it
    u64 pending_debug = 0;          // DR6 bits of data and port breakpoints that were hit, to be reported when the shadow ends
    bool nmi_blocked = false;
    bool apic_enabled = true;       // IA32_APIC_BASE, bit 11: CPUID shows it
    bool halted = false;
    PagingStructures paging_structures;
    Monitor monitor;
    u64 spin_ticks = 0;             // how long a halted virtual CPU looks around before it sleeps; of the time stamp counter
    PendingFault fault;
    RunExit exit_reason = RunExit::kicked;

    // --- the runtime's own (runtime.cpp) ---
    bool stepping = false;          // the block that runs now is one instruction long, and the dispatcher looks at what follows
    bool step_trap = false;         // RFLAGS.TF was set when it began
    bool step_once = false;         // leave run() after it (Vcpu::step)
    bool leaving = false;           // exit_reason is set
    struct OperandBounce {          // a memory operand that generated code cannot reach directly, copied here
        enum class Kind : u8 {
            none,
            pieces,   // copied to `data`; the commit writes it back
            in_place, // RAM that code was translated from: the commit drops what the store has changed
            guarded,  // some of it faults, unless the instruction's mask leaves that out: see guard_area.hpp
        };
        Kind kind = Kind::none;
        u32 first_size = 0, size = 0;
        u64 physical[2] {};
        u8* host[2] {};             // nullptr: device memory
        u8* data = nullptr;         // within `buffer`, as misaligned as the operand
        bool exclusive = false;     // a locked access to two pages: every other vCPU stands still until the commit
        u64 linear = 0;             // guarded: where it is in the guest, and what its two parts raise when accessed
        PendingFault missing[2];
    } operand;
    alignas(64) std::array<u8, 192> operand_buffer {};
    GuardArea guard_area;

    u64 const nowhere_page = StackPage::choose_nowhere(); // what empty stack pages name
    std::array<u8, 4096 + 64> nowhere {};                 // and where they lead

    // Drops what generated code remembers of pages beside the look-aside tables. For Mmu::forget_pages().
    void forget_sites()
    {
        u64 const addend = reinterpret_cast<std::uintptr_t>(nowhere.data()) - nowhere_page; // SAFETY: only the number is kept
        for (auto& stack : stack_pages)
            stack = { nowhere_page, addend };
        for (unsigned mark = 0; mark < sites_used.size(); ++mark) {
            if (!sites_used[mark])
                continue;
            sites_used[mark] = 0;
            for (unsigned slot = mark * slots_per_mark; slot < (mark + 1) * slots_per_mark; ++slot) {
                if (slot < page_slots)
                    sites[slot] = { nowhere_page, addend };
                else
                    runs[slot - page_slots].end = {};
            }
        }
    }

    // --- events from other threads ---
    enum Event : u32 { event_interrupt = 1, event_nmi = 2, event_init = 4, event_sipi = 8, event_kick = 16, event_exit = 32, event_flush = 64, event_sample = 128, event_second_nmi = 256 };
    std::atomic<u32> events { 0 };
    std::atomic<u8> presence { 0 }; // Presence (activity.hpp)
    std::atomic<u32> sleeping { 0 }; // its thread (sleep.hpp)
    std::atomic<u8 const*> watched_line { nullptr }; // what it monitors while it sleeps; written under the code cache's lock
    std::atomic<bool> line_stored { false };         // somebody has stored there
    i32 pauses_left = 0;            // PAUSEs until the virtual CPU looks whether it keeps others from running (execute_pause)
    std::atomic<u8> sipi_vector { 0 };
    std::atomic<bool> sampled { false };           // the sampling timer runs
    std::atomic<u32> samples { 0 };                // so far, wherever they were
    std::atomic<u8 const*> sample { nullptr }; // where the host was when event_sample was set

    VcpuWires wires;
    class Mmu* mmu = nullptr;
    class Translator* translator = nullptr;
    Crowd::Group* crowd = nullptr;     // while run() is active
    struct Thunks const* thunks = nullptr;
    struct RuntimeStatistics* statistics = nullptr;
    struct CpuProfile* profile = nullptr;           // nullptr: no profile is made
    std::array<u64, counter_count> counters {};     // by generated code, then

    // The guest's vector state while C++ code that may use vector registers runs (see vector_state.hpp).
    alignas(64) std::array<u8, CpuState::xsave_size> xsave {};
    // Where images of the guest's memory are put together before they are loaded, and after they were saved (extended_state.cpp).
    alignas(64) std::array<u8, CpuState::xsave_size> bounce {};
    unsigned vector_state_guards = 0;  // VectorStateGuards alive; not 0: the guest's vector state is in `xsave`
    u64 clock_tsc_offset = 0;          // wires.clock->tsc_offset(), read anew whenever run() begins
    class Cpuid const* cpuid = nullptr;

    bool long_mode() const { return (efer & x86::efer::lma) != 0; }
    x86::SegmentRegister& segment(x86::Segment s) { return segments[static_cast<u8>(s)]; }
    x86::SegmentRegister const& segment(x86::Segment s) const { return segments[static_cast<u8>(s)]; }
    // What addresses in it count from: in 64-bit code only FS and GS have a base, whatever other code has loaded (SDM vol. 3A 3.4.4).
    u64 base_of(x86::Segment s) const { return code64() && s != x86::Segment::fs && s != x86::Segment::gs ? 0 : segment(s).base; }
    // Where code at this RIP lies.
    u64 code_linear(u64 at) const { return code64() ? at : (segment(x86::Segment::cs).base + at) & 0xffffffff; }
    bool code64() const { return long_mode() && (segment(x86::Segment::cs).access & x86::access::long_mode); }
    bool protected_mode() const { return (cr0 & x86::cr0::pe) != 0; }
    bool virtual_8086() const { return (rflags & x86::rflags::vm) != 0; }
    bool real_mode() const { return !protected_mode(); }

    Cpu();
    u64 reg(unsigned n, unsigned width) const;           // low `width` bytes; width 1: AL..R15L (no AH..BH: see byte_reg)
    void set_reg(unsigned n, unsigned width, u64 value); // width 4 clears the upper half, 1 and 2 keep the rest
    // Byte register as ModRM encodes it: without REX, 4-7 are AH CH DH BH.
    u8 byte_reg(unsigned n, bool has_rex) const;
    void set_byte_reg(unsigned n, bool has_rex, u8 value);
};

inline u64 Cpu::reg(unsigned n, unsigned width) const
{
    return width == 8 ? gpr[n] : gpr[n] & ((u64 { 1 } << (width * 8)) - 1);
}
inline void Cpu::set_reg(unsigned n, unsigned width, u64 value)
{
    if (width == 8)
        gpr[n] = value;
    else if (width == 4)
        gpr[n] = static_cast<u32>(value);
    else {
        u64 const mask = (u64 { 1 } << (width * 8)) - 1;
        gpr[n] = (gpr[n] & ~mask) | (value & mask);
    }
}
inline u8 Cpu::byte_reg(unsigned n, bool has_rex) const
{
    return static_cast<u8>(!has_rex && n >= 4 ? gpr[n - 4] >> 8 : gpr[n]);
}
inline void Cpu::set_byte_reg(unsigned n, bool has_rex, u8 value)
{
    if (!has_rex && n >= 4)
        gpr[n - 4] = (gpr[n - 4] & ~u64 { 0xff00 }) | (u64 { value } << 8);
    else
        set_reg(n, 1, value);
}

// Exceptions: fill cpu.fault and return Outcome::fault.
inline Outcome raise(Cpu& cpu, u8 vector)
{
    cpu.fault = { .vector = vector };
    return Outcome::fault;
}
inline Outcome raise_with_code(Cpu& cpu, u8 vector, u32 error_code)
{
    cpu.fault = { .vector = vector, .has_error_code = true, .error_code = error_code };
    return Outcome::fault;
}
inline Outcome raise_gp(Cpu& cpu, u32 error_code = 0) { return raise_with_code(cpu, x86::vector::general_protection, error_code); }
inline Outcome raise_ud(Cpu& cpu) { return raise(cpu, x86::vector::invalid_opcode); }

} // namespace anyhyve::soft
