// PAUSE, once in a while: what the virtual CPU waits for may need the host CPU that it waits on.
// Source: Intel SDM vol. 2 PAUSE; vol. 3A 9.10.6.1 (spin-wait loops).
#include <sched.h>

#include "engine/soft/activity.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/runtime.hpp"

namespace anyhyve::soft {

// Some microseconds of waiting when virtual CPUs have to share, else some hundred: then only for whatever else the host runs.
constexpr i32 pauses_in_a_crowd = 32, pauses_alone = 2048;

Outcome execute_pause(Cpu& cpu, x86::Instruction const&)
{
    bool const crowded = cpu.crowd && cpu.crowd->is_crowded();
    cpu.pauses_left = crowded ? pauses_in_a_crowd : pauses_alone;
    ++cpu.statistics->pause_yields;
    // Nobody who wants the others to stand still has to wait until it is this one's turn again. The block may be gone afterwards.
    CodeCache& cache = cpu.mmu->cache();
    cpu.presence.store(static_cast<u8>(Presence::outside), std::memory_order_seq_cst);
    sched_yield();
    become_running(cpu, cache, Presence::outside);
    cpu.rip = cpu.next_rip;
    return Outcome::jump;
}

} // namespace anyhyve::soft
