// INT n, INT3, INTO, INT1: straight to delivery, with the return address behind the instruction.
#include "engine/soft/interrupt_instructions.hpp"

#include <utility>

#include "engine/soft/exceptions.hpp"

namespace anyhyve::soft {

namespace {

// A single step that RFLAGS.TF has asked for is not taken behind them: the gate has cleared TF (SDM vol. 3B 17.3.1.4).
Outcome deliver(Cpu& cpu, EventKind kind, u8 vector)
{
    cpu.step_trap = false;
    return deliver_event(cpu, { .kind = kind, .vector = vector, .return_rip = cpu.next_rip, .pushed_flags = cpu.rflags });
}

} // namespace

Outcome execute_interrupt(Cpu& cpu, x86::Instruction const& insn)
{
    return deliver(cpu, EventKind::software_interrupt, static_cast<u8>(insn.immediate));
}

Outcome execute_interrupt3(Cpu& cpu, x86::Instruction const&)
{
    return deliver(cpu, EventKind::software_exception, x86::vector::breakpoint);
}

Outcome execute_interrupt_overflow(Cpu& cpu, x86::Instruction const&)
{
    if (cpu.code64())
        return raise_ud(cpu);
    if (!(cpu.rflags & x86::rflags::of))
        return Outcome::next;
    return deliver(cpu, EventKind::software_exception, x86::vector::overflow);
}

Outcome execute_interrupt1(Cpu& cpu, x86::Instruction const&)
{
    // What MOV SS has held back is reported with it.
    if (u64 const hits = std::exchange(cpu.pending_debug, 0))
        cpu.dr6 = (cpu.dr6 & ~u64 { 0xf }) | hits;
    return deliver(cpu, EventKind::privileged_exception, x86::vector::debug);
}

} // namespace anyhyve::soft
