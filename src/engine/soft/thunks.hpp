// The passages between generated code and C++: written once into the code cache when the engine starts.
// Register plan while guest code runs: RAX..R12 are the guest's; R13, R14, R15 belong to the generated code; GS base is the Cpu.
#pragma once

#include "engine/soft/assembler.hpp"
#include "engine/soft/string_thunks.hpp"

namespace anyhyve::soft {

constexpr HostRegister scratch_a = x86::r13, address_register = x86::r14, scratch_b = x86::r15;
constexpr unsigned first_spilled = 13; // guest registers from here on live in cpu.gpr
constexpr unsigned resident_registers = 13;

// Offsets into Cpu for gs:[...] operands.
u32 gpr_offset(unsigned n);
u32 rip_offset();
u32 flags_offset();
u32 scratch_offset(unsigned n);
u32 poll_offset();
u32 rflags_offset();
u32 mode_offset();
u32 kernel_gs_base_offset();
u32 cr4_offset();
u32 pkru_offset();
u32 pkru_watched_offset();
u32 events_offset();
u32 pauses_left_offset();
u32 tsc_aux_offset();
u32 tsc_offset_offset();
u32 clock_tsc_offset_offset();
u32 segment_base_offset(x86::Segment);
u32 segment_selector_offset(x86::Segment);
u32 segment_end_offset(x86::Segment, Access);
u32 tlb_read_tag_offset(TlbIndex);
u32 tlb_write_tag_offset(TlbIndex);
u32 tlb_addend_offset(TlbIndex);
u32 code_tlb_offset(TlbIndex);
u32 large_tag_offset(TlbIndex, Access);
u32 large_addend_offset(TlbIndex);
u32 large_run_offset(TlbIndex);
u32 stack_page_offset(TlbIndex);
u32 stack_addend_offset(TlbIndex);
u32 site_page_offset(u16 slot);
u32 site_addend_offset(u16 slot);
u32 run_first_offset(u16 slot);
u32 run_addend_offset(u16 slot);
u32 run_end_offset(u16 slot, unsigned size_class);
u32 tlb_run_offset(TlbIndex);
u32 site_patience_offset(u16 slot);
u32 sites_used_offset(u16 slot);
u32 jump_cache_rip_offset(TlbIndex);
u32 jump_cache_entry_offset(TlbIndex);

// All addresses are of the executable view.
struct Thunks {
    void (*enter)(Cpu*, u8* entry_memory) = nullptr; // returns when something jumps to `leave`
    u8* leave = nullptr;
    u8* dispatch_host = nullptr;     // cpu.rip says where; flags in RFLAGS
    u8* dispatch_memory = nullptr;   // ... in cpu.arithmetic_flags
    u8* access = nullptr;            // r14 = linear address, r15 = AccessSite*; flags in memory or dead
    u8* access_segmented = nullptr;  // r14 = offset in site->segment
    u8* site_misses = nullptr;       // r14 = linear address, r15 = HotSite*; flags in memory or dead
    u8* find_page = nullptr;         // the same
    u8* stack_misses[tlb_index_count] {}; // r15 = StackSite*; flags in memory or dead
    u8* commit = nullptr;            // r15 = AccessSite*: the operand in the bounce buffer has its new value; keeps RFLAGS
    u8* operation_host = nullptr;    // r15 = OperationSite*
    u8* operation_memory = nullptr;
    StringThunks strings;
    u8* link_host = nullptr;         // r15 = Edge*
    u8* link_memory = nullptr;
    u8* jump_miss = nullptr;         // r14 = target; flags in memory
    u8* jump_from = nullptr;         // r14 = target, r15 = IndirectSite*; flags in memory
    u8* faulted = nullptr;           // cpu.fault is set (by a signal handler)

    static Thunks generate(CodeCache&);
};

// LAHF/SETO into cpu.arithmetic_flags, and back. Both keep every guest register; `temporary` is one of the scratch registers.
void emit_save_flags(Assembler&, HostRegister temporary);
void emit_restore_flags(Assembler&, HostRegister temporary);

} // namespace anyhyve::soft
