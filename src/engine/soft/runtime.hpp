// What generated code calls, through the thunks. Registers are in the Cpu; the arithmetic flags are in cpu.arithmetic_flags.
// Each returns where to go on, an address of generated code. Compiled for general registers only.
#pragma once

#include "base/tally.hpp"
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
AccessResult runtime_find_page(Cpu*, u64 linear, HotSite const*);
u8* runtime_stack_miss(Cpu*, StackSite*);
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
Outcome find_block(Cpu&, Block*&, u64& guard, ModeBits also = 0);
// Where cpu.rip was found before, nullptr if that is not known: no locks, no hash. And remembering it.
u8* known_entry(Cpu const&);
void remember_entry(Cpu&, Block const&);
// Whatever has happened meanwhile, in its order of priority. False: leave the generated code.
bool take_events(Cpu&);
// Where translated code goes on at cpu.rip: looks at events, finds the block or has it translated. Flags are complete in cpu.rflags.
u8* dispatch(Cpu&);
// The same, once cpu.fault has been delivered.
u8* deliver_and_dispatch(Cpu&);

// Runs generated code from cpu.rip on until something leaves: then cpu.halted or cpu.leaving says why.
void run_generated_code(Cpu&);

// Counters of one vCPU (shown by bhyvectl --get-stats).
struct RuntimeStatistics {
    Tally dispatches, edge_links, edge_guard_misses, edges_given_up, edge_misses, jump_misses, operations, slow_accesses, commits, halts, interrupts, exceptions, steps, pause_yields, halt_sleeps;
    // Slow accesses, by what became of them.
    Tally slow_refills, slow_crossings, slow_devices, slow_watched, slow_masked, slow_faults, slow_segmented;
    Tally translation_ticks, run_ticks, halted_ticks; // of the time-stamp counter
    Tally running_since;                                 // not 0: generated code runs, since then
    std::array<Tally, 256> interrupts_by_vector {};
    std::array<Tally, 32> exceptions_by_vector {};
};

} // namespace anyhyve::soft
