// The instructions MONITOR and MWAIT: see monitor.hpp.
#include "engine/soft/monitor.hpp"

#include <utility>

#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/runtime.hpp"

namespace anyhyve::soft {

using x86::Instruction;
using x86::Segment;

namespace {

// Ring 0 only, else #UD; neither instruction has an extension, nor MWAIT a hint that matters.
Outcome check_use(Cpu& cpu)
{
    if (cpu.cpl != 0)
        return raise_ud(cpu);
    return static_cast<u32>(cpu.gpr[x86::rcx]) != 0 ? raise_gp(cpu) : Outcome::next;
}

// True: the line has changed. Else something else wants to be looked at, or it is time to let the host CPU go.
bool look_around(Cpu& cpu)
{
    u64 const begin = __builtin_ia32_rdtsc();
    u64 now = begin;
    bool changed = false;
    DeviceScope const scope(cpu, cpu.mmu->cache()); // nobody who wants the others to stand still has to wait for this one
    while (!(changed = cpu.monitor.line_changed()) && cpu.poll.load(std::memory_order_relaxed) == 0 && now - begin < cpu.spin_ticks
        && !(cpu.crowd && cpu.crowd->is_crowded())) {
        __builtin_ia32_pause();
        now = __builtin_ia32_rdtsc();
    }
    cpu.monitor.since = begin;
    cpu.statistics->halted_ticks += now - begin;
    cpu.statistics->running_since += now - begin;
    return changed;
}

} // namespace

// To the memory unit it is a load of one byte. Device memory is not watched: MWAIT does not wait then.
Outcome execute_monitor(Cpu& cpu, Instruction const& instruction)
{
    STEP(check_use(cpu));
    u64 const offset = cpu.gpr[x86::rax] & mask_of_bytes(instruction.address_size);
    Segment const segment = instruction.segment_override != Segment::none ? instruction.segment_override : Segment::ds;
    u64 linear = 0;
    u8* host = nullptr;
    STEP(cpu.mmu->linear_address(segment, offset, 1, Access::read, linear));
    STEP(cpu.mmu->ram_pointer(linear, host));
    cpu.monitor.armed = false;
    if (host)
        cpu.monitor.arm(host - (linear & (Monitor::line_size - 1)));
    return Outcome::next;
}

Outcome execute_mwait(Cpu& cpu, Instruction const&)
{
    STEP(check_use(cpu));
    bool const armed = std::exchange(cpu.monitor.armed, false);
    if (!armed || look_around(cpu))
        return Outcome::next;
    cpu.monitor.waiting = true;
    cpu.rip = cpu.next_rip;
    return Outcome::halt;
}

} // namespace anyhyve::soft
