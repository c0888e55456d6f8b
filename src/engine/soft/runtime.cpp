// The engine's C++ half of running guest code: see runtime.hpp.
#include "engine/soft/runtime.hpp"

#include <sched.h>

#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/cpuid.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/thunks.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

namespace {

u8* leave(Cpu& cpu)
{
    return cpu.thunks->leave;
}

bool deliver(Cpu& cpu)
{
    ++cpu.statistics->exceptions;
    ++cpu.statistics->exceptions_by_vector[cpu.fault.vector & 31];
    cpu.stepping = false;
    cpu.interrupt_shadow = cpu.debug_shadow = false;
    cpu.pending_debug = 0;
    if (deliver_fault(cpu) != Outcome::leave)
        return true;
    cpu.leaving = true;
    return false;
}

// The instruction that ran alone is done: what TF, breakpoints, or a request for one step, want now. False: leave.
bool finish_step(Cpu& cpu)
{
    cpu.stepping = false;
    u64 const dr6 = cpu.pending_debug | (cpu.step_trap ? bit(14) : 0); // DR6.BS
    if (dr6 != 0 && !cpu.debug_shadow) {
        cpu.fault = { .vector = x86::vector::debug, .dr6 = dr6 };
        if (!deliver(cpu))
            return false;
    }
    if (cpu.step_once) {
        cpu.step_once = false;
        cpu.exit_reason = RunExit::debug;
        cpu.leaving = true;
        return false;
    }
    return true;
}

// What others have set it for is looked at from now on, so the store must be done before any load that follows: one that came later would also take
// back what was set after the look.
void clear_poll(Cpu& cpu)
{
    if (cpu.poll.load(std::memory_order_relaxed) != 0)
        cpu.poll.exchange(0, std::memory_order_seq_cst);
}

// With breakpoints enabled: is one of them on the next instruction? RF lets it pass, and goes with that instruction (SDM vol. 3B 17.3.1.1).
bool hits_code_breakpoint(Cpu& cpu, bool shadow)
{
    bool const resumed = (cpu.rflags & x86::rflags::rf) != 0;
    cpu.rflags &= ~x86::rflags::rf;
    u64 const hits = resumed || shadow ? 0 : code_breakpoints(cpu);
    if (hits != 0)
        cpu.fault = { .vector = x86::vector::debug, .restarts = true, .dr6 = hits };
    return hits != 0;
}

} // namespace

u8* dispatch(Cpu& cpu)
{
    ++cpu.statistics->dispatches;
    if ((cpu.stepping || cpu.pending_debug != 0) && !finish_step(cpu))
        return leave(cpu);
    for (;;) {
        if (cpu.leaving)
            return leave(cpu);
        if (!cpu.interrupt_shadow) {
            clear_poll(cpu);
            if (cpu.mmu->runs().is_full())
                cpu.mmu->forget_pages();
            if (cpu.events.load(std::memory_order_seq_cst) != 0 && !take_events(cpu))
                return leave(cpu);
        }
        cpu.step_trap = (cpu.rflags & x86::rflags::tf) != 0;
        bool const armed = breakpoints_enabled(cpu);
        cpu.stepping = cpu.step_trap || cpu.interrupt_shadow || cpu.step_once || cpu.pending_debug != 0 || watches_next_code(cpu);
        bool const shadow = cpu.debug_shadow && !cpu.cpuid->amd(); // AMD's processors report instruction breakpoints behind MOV SS
        cpu.interrupt_shadow = cpu.debug_shadow = false;
        if (armed && hits_code_breakpoint(cpu, shadow)) {
            if (!deliver(cpu))
                return leave(cpu);
            stand_if_wanted(cpu, cpu.mmu->cache()); // a handler that begins with a breakpoint comes here again and again
            continue;
        }
        if (cpu.stepping)
            ++cpu.statistics->steps;
        stand_if_wanted(cpu, cpu.mmu->cache());
        if (!cpu.stepping) {
            if (u8* const entry = known_entry(cpu)) {
                split_flags(cpu);
                return entry;
            }
        }
        Block* block = nullptr;
        u64 guard = 0;
        if (find_block(cpu, block, guard) == Outcome::next) {
            if (!block) {
                sched_yield();
                continue;
            }
            remember_entry(cpu, *block);
            split_flags(cpu);
            return block->entry_memory;
        }
        if (!deliver(cpu))
            return leave(cpu);
    }
}

u8* deliver_and_dispatch(Cpu& cpu)
{
    if (!deliver(cpu))
        return leave(cpu);
    return dispatch(cpu);
}

namespace {

Outcome execute_and_count(Cpu& cpu, OperationSite const& site)
{
    u64 const begin = __builtin_ia32_rdtsc();
    auto const* const info = site.instruction.info;
    Outcome const outcome = site.execute(cpu, site.instruction);
    cpu.profile->count_operation(info, __builtin_ia32_rdtsc() - begin);
    return outcome;
}

} // namespace

extern "C" {

u8* runtime_operation(Cpu* cpu, OperationSite const* site)
{
    merge_flags(*cpu);
    ++cpu->statistics->operations;
    cpu->rip = site->rip;
    cpu->next_rip = site->rip + site->instruction.length;
    if (!cpu->code64())
        cpu->next_rip &= mode::code_size(cpu->mode) == x86::CodeSize::bits16 ? 0xffff : 0xffffffff;
    ModeBits const mode = cpu->mode;
    Outcome const outcome = cpu->profile ? execute_and_count(*cpu, *site) : site->execute(*cpu, site->instruction);
    cpu->mmu->finish_writes();
    switch (outcome) {
    case Outcome::next:
        cpu->rip = cpu->next_rip;
        if (site->resume && site->block->valid && cpu->mode == mode && cpu->poll.load(std::memory_order_relaxed) == 0 && !cpu->interrupt_shadow && !cpu->stepping && !cpu->leaving && cpu->pending_debug == 0) {
            split_flags(*cpu);
            return site->resume;
        }
        return dispatch(*cpu);
    case Outcome::jump:
        return dispatch(*cpu);
    case Outcome::fault:
        return deliver_and_dispatch(*cpu);
    case Outcome::halt:
        if (cpu->stepping && (cpu->step_trap || cpu->pending_debug))
            return dispatch(*cpu); // the #DB behind it ends it at once
        ++cpu->statistics->halts;
        cpu->stepping = false;
        cpu->halted = true;
        return leave(*cpu);
    case Outcome::leave:
        cpu->leaving = true;
        return leave(*cpu);
    }
    __builtin_unreachable();
}

u8* runtime_dispatch(Cpu* cpu)
{
    merge_flags(*cpu);
    return dispatch(*cpu);
}

u8* runtime_faulted(Cpu* cpu)
{
    merge_flags(*cpu);
    return deliver_and_dispatch(*cpu);
}

} // extern "C"

void run_generated_code(Cpu& cpu)
{
    RunningScope const running(cpu, cpu.mmu->cache());
    load_vector_state(cpu);
    u8* const entry = dispatch(cpu);
    if (entry != cpu.thunks->leave)
        cpu.thunks->enter(&cpu, entry);
    save_vector_state(cpu);
    reset_vector_unit();
}

} // namespace anyhyve::soft
