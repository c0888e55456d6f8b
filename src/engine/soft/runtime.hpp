// What generated code calls, through the thunks. Registers are in the Cpu; the arithmetic flags are in cpu.arithmetic_flags.
// Each returns where to go on, an address of generated code. Compiled for general registers only.
#pragma once

#include "engine/soft/block.hpp"
#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

struct AccessResult {
    u64 pointer; // for r14
    u8* resume;
};

extern "C" {
AccessResult runtime_access(Cpu*, u64 linear, AccessSite const*);
AccessResult runtime_access_segmented(Cpu*, u64 offset, AccessSite const*);
AccessResult runtime_site_misses(Cpu*, u64 linear, HotSite const*);
u8* runtime_commit(Cpu*, AccessSite const*);
u8* runtime_operation(Cpu*, OperationSite const*);
u8* runtime_link(Cpu*, Edge*);
u8* runtime_jump(Cpu*, u64 target);
u8* runtime_jump_from(Cpu*, u64 target, IndirectSite const*);
u8* runtime_dispatch(Cpu*);
u8* runtime_faulted(Cpu*);
}

// The block at cpu.rip, translated if it was not yet; `guard`: what the code look-aside table holds for its page. No fault and no block: another
// vCPU is in the way for a moment.
Outcome find_block(Cpu&, Block*&, u64& guard);
// Where translated code goes on at cpu.rip: looks at events, finds the block or has it translated. Flags are complete in cpu.rflags.
u8* dispatch(Cpu&);
// The same, once cpu.fault has been delivered.
u8* deliver_and_dispatch(Cpu&);

// Runs generated code from cpu.rip on until something leaves: then cpu.halted or cpu.leaving says why.
void run_generated_code(Cpu&);

// Counters of one vCPU (shown by bhyvectl --get-stats).
struct RuntimeStatistics {
    u64 dispatches = 0, edge_links = 0, edge_guard_misses = 0, edges_given_up = 0, edge_misses = 0, jump_misses = 0, operations = 0, slow_accesses = 0, commits = 0, halts = 0, interrupts = 0, exceptions = 0, steps = 0, pause_yields = 0, halt_sleeps = 0;
    // Slow accesses, by what became of them.
    u64 slow_refills = 0, slow_crossings = 0, slow_devices = 0, slow_watched = 0, slow_masked = 0, slow_faults = 0, slow_segmented = 0;
    u64 translation_ticks = 0, run_ticks = 0, halted_ticks = 0; // of the time-stamp counter
    u64 running_since = 0;                                      // not 0: generated code runs, since then
    std::array<u64, 256> interrupts_by_vector {};
    std::array<u64, 32> exceptions_by_vector {};
};

} // namespace anyhyve::soft
