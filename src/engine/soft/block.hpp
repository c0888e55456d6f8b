// What the translator leaves behind beside the code: blocks, and the records that generated code hands to the runtime.
// Records live until the whole cache is dropped; they are reached by 32-bit addresses.
#pragma once

#include "engine/soft/operations.hpp"

namespace anyhyve::soft {

struct Block;

// One way out of a block to a known address. Its jump goes to `stub` until link_edge() points it at a block.
struct Edge {
    u64 target = 0;
    u8* displacement = nullptr;     // writable view of the jump's 4 bytes
    u8* stub = nullptr;             // writable view
    bool flags_in_memory = false;
    bool same_page = false;         // the target lies in the page of the block: no guard needed
    bool may_go_on = false;         // hot code that is translated together with `from`, once it is hot as well (hot_paths.cpp)
    Block* from = nullptr;
    Block* to = nullptr;            // linked to
    Edge* next_incoming = nullptr;  // list of to->incoming
    u8 relinks = 0;                 // how often its guard was made; after too many the dispatcher keeps it
};

struct Block {
    u64 rip = 0;
    u64 physical = 0;
    ModeBits mode = 0;
    u32 guest_size = 0;         // bytes from there on; hot code may go on elsewhere in the page
    u64 lines = 0;              // of its page, that it was translated from (CodeCache::lines_of)
    u8* entry_host = nullptr;   // executable view; arithmetic flags in the host's RFLAGS
    u8* entry_memory = nullptr; // flags in cpu.arithmetic_flags
    u8* code_begin = nullptr;   // executable view
    u8* code_end = nullptr;
    bool valid = true;
    bool hot = false;           // translated with more care
    u8 samples = 0;             // how often the host was found in it, since the sample of this number
    u32 samples_since = 0;
    bool crosses_page = false;  // its last instruction ends in the next page: its entry checks where that lies
    u64 second_physical = 0;    // of that next page
    Edge* incoming = nullptr;
    Block* next_in_hash = nullptr;
    Block* next_in_page = nullptr;        // blocks that start in the page
    Block* next_in_second_page = nullptr; // blocks that end in it
    struct TrapPoint* trap_points = nullptr;
    u32 trap_point_count = 0;
};

// A copied instruction at which the host may raise an exception of the guest's (#DE, #MF, #XM, alignment #GP).
struct TrapPoint {
    u32 host_begin, host_end; // offsets from code_begin
    i16 guest_offset;         // from block->rip
    u8 length;
    bool flags_in_memory;
    u16 in_memory; // guest registers whose values are there, bit n = register n: R13-R15, but for hot code
};

// One guest memory access.
struct AccessSite {
    u64 rip = 0;
    u8* resume = nullptr;         // executable view; r14 = host pointer, the instruction follows
    u8* resume_copy = nullptr;    // out-of-line instruction that ends in the commit thunk (writes only)
    u8* resume_after = nullptr;   // behind the inline instruction
    Block* block = nullptr;
    u16 size = 0;
    u8 length = 0;                // of the instruction
    Access access = Access::read; // write also stands for read-modify-write
    bool reads = false;           // the old value is needed
    bool flags_in_memory = false;
    bool flags_in_memory_after = false; // behind the instruction
    bool locked = false;          // LOCK, or XCHG with memory
    bool masked = false;          // elements that a mask leaves out are not accessed
    bool ends_instruction = true; // after the commit the instruction is complete
    bool in_stack_run = false;    // accesses that follow rely on a look-up of the stack's page before this one
    x86::Segment segment = x86::Segment::ds; // decides #SS or #GP, and which base and limit when segmented
    u8 alignment = 0;             // #GP when not aligned so
};

// A look-up of the stack's page for a run of accesses (stack_runs.cpp).
struct StackSite {
    u64 rip = 0;                  // of the run's first instruction
    u8* resume = nullptr;         // executable view: behind the look-up
    Block* careful = nullptr;     // translation from there on that looks everything up by itself
    i32 begin = 0;                // the run's first byte, from the stack pointer
    i32 last = 0;                 // its last byte, from there
    bool flags_in_memory = false;
};

// An access of hot code, or a group of them, whose slot is checked in line.
struct HotSite {
    Block* block = nullptr;
    u64 physical = 0;     // of the instruction
    u8* resume = nullptr; // executable view, to look once more; r14 = linear address
    u8* leave = nullptr;  // ... where the careful copy does what cannot be done here
    u16 slot = 0;
    u16 size = 0;         // of the access, or of all that share its check
    Access access = Access::read;
    bool constant = false; // so is the address: it never strays
};

// A jump, call or return to an address that is known only when it runs.
struct IndirectSite {
    u64 rip = 0;
    i32 stack_adjustment = 0; // what it has done to the stack pointer
};

// One instruction with code of ours.
struct OperationSite {
    Execute execute = nullptr;
    u64 rip = 0;
    u8* resume = nullptr; // behind it, flags in memory; nullptr: it ends its block
    Block* block = nullptr;
    x86::Instruction instruction;
};

} // namespace anyhyve::soft
