// The passages between generated code and C++: written once into the code cache when the engine starts.
// Register plan while guest code runs: RAX..R12 are the guest's; R13, R14, R15 belong to the generated code; GS base is the Cpu.
#pragma once

#include "engine/soft/assembler.hpp"
#include "engine/soft/cpu_offsets.hpp"
#include "engine/soft/string_thunks.hpp"

namespace anyhyve::soft {

constexpr HostRegister scratch_a = x86::r13, address_register = x86::r14, scratch_b = x86::r15;
constexpr unsigned first_spilled = 13; // guest registers from here on live in cpu.gpr
constexpr unsigned resident_registers = 13;

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
