// RDTSC and its relatives, and the MSRs behind them.
// Source: Intel SDM vol. 2 RDTSC, RDTSCP, RDPMC, RDPID; vol. 3B 17.17; vol. 3A 10.5.4.1 (TSC deadline).
#include "engine/soft/time_stamp.hpp"

#include "engine/soft/execute_functions.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

bool time_stamp_allowed(Cpu const& cpu)
{
    return !(cpu.cr4 & cr4::tsd) || cpu.cpl == 0;
}

void answer(Cpu& cpu, u64 value)
{
    cpu.gpr[rax] = static_cast<u32>(value);
    cpu.gpr[rdx] = value >> 32;
}

// Moves the counter by `difference`; a deadline keeps its value in the guest's terms, so it moves in the machine's.
void move_tsc(Cpu& cpu, u64 difference)
{
    u64 deadline = 0;
    bool const armed = read_tsc_deadline(cpu, deadline) && deadline != 0;
    cpu.tsc_offset += difference;
    cpu.tsc_adjust += difference;
    if (armed)
        write_tsc_deadline(cpu, deadline);
}

} // namespace

void write_tsc(Cpu& cpu, u64 value)
{
    move_tsc(cpu, value - guest_tsc(cpu));
}

void write_tsc_adjust(Cpu& cpu, u64 value)
{
    move_tsc(cpu, value - cpu.tsc_adjust);
}

bool read_tsc_deadline(Cpu& cpu, u64& value)
{
    VectorStateGuard const guard(cpu);
    if (!cpu.wires.interrupts->read_msr(msr::tsc_deadline, value))
        return false;
    if (value != 0)
        value += cpu.tsc_offset;
    return true;
}

bool write_tsc_deadline(Cpu& cpu, u64 value)
{
    if (value != 0) {
        u64 const now = guest_tsc(cpu), machine_now = now - cpu.tsc_offset;
        u64 const deadline = machine_now + (value - now);
        if (value <= now)
            value = 1; // due at once, not disarmed: it may lie before the machine's power-on
        else
            value = deadline > machine_now ? deadline : ~u64 { 0 }; // beyond the end of the machine's time
    }
    VectorStateGuard const guard(cpu);
    return cpu.wires.interrupts->write_msr(msr::tsc_deadline, value);
}

Outcome execute_rdtsc(Cpu& cpu, Instruction const&)
{
    if (!time_stamp_allowed(cpu))
        return raise_gp(cpu);
    answer(cpu, guest_tsc(cpu));
    return Outcome::next;
}

Outcome execute_rdtscp(Cpu& cpu, Instruction const&)
{
    if (!time_stamp_allowed(cpu))
        return raise_gp(cpu);
    asm volatile("lfence" : : : "memory"); // it waits for earlier instructions
    answer(cpu, guest_tsc(cpu));
    cpu.gpr[rcx] = static_cast<u32>(cpu.tsc_aux);
    return Outcome::next;
}

// CPUID leaf 0AH says that there is no performance counter, so every index is out of range.
Outcome execute_rdpmc(Cpu& cpu, Instruction const&)
{
    return raise_gp(cpu);
}

Outcome execute_rdpid(Cpu& cpu, Instruction const& instruction)
{
    cpu.set_reg(instruction.rm, cpu.code64() ? 8 : 4, cpu.tsc_aux);
    return Outcome::next;
}

} // namespace anyhyve::soft
