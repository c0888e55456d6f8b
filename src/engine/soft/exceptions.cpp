// Entry points of exception and interrupt delivery: bookkeeping of CR2, DR6, RF, and the double fault rules.
#include "engine/soft/exceptions.hpp"

#include "engine/soft/mmu.hpp"
#include "engine/soft/operations.hpp"

namespace anyhyve::soft {

namespace rflags = x86::rflags;
namespace vector = x86::vector;

namespace {

constexpr u64 dr6_breakpoints = 0xf, dr6_general_detect = 1 << 13, dr7_general_detect = 1 << 13;
constexpr u32 error_code_external = 1;

constexpr bool in_set(u8 number, u32 set) { return number < 32 && ((set >> number) & 1); }
constexpr u32 bit(u8 number) { return u32 { 1 } << number; }

// SDM vol. 3A table 6-4. 21 is #CP.
constexpr u32 contributory_set = bit(vector::divide_error) | bit(vector::invalid_tss) | bit(vector::segment_not_present) | bit(vector::stack_fault)
                                 | bit(vector::general_protection) | bit(21);
// Exceptions reported before the instruction: restarted with RF set (SDM vol. 3B 17.3.1.1). 20 is #VE.
constexpr u32 fault_class_set = contributory_set | bit(vector::bound) | bit(vector::invalid_opcode) | bit(vector::device_not_available)
                                | bit(vector::page_fault) | bit(vector::x87_error) | bit(vector::alignment_check) | bit(vector::simd_error) | bit(20);
// Whose error codes name a selector, so that they carry the EXT bit.
constexpr u32 selector_code_set = bit(vector::invalid_tss) | bit(vector::segment_not_present) | bit(vector::stack_fault)
                                  | bit(vector::general_protection);

bool is_fault_class(PendingFault const& fault)
{
    return in_set(fault.vector, fault_class_set) || (fault.vector == vector::debug && ((fault.dr6 & dr6_general_detect) || fault.restarts));
}

// What an exception leaves in CR2, DR6 and DR7 whether its handler is reached or not.
void record(Cpu& cpu, PendingFault const& fault)
{
    if (fault.software || fault.external)
        return;
    if (fault.vector == vector::page_fault)
        cpu.cr2 = fault.address;
    if (fault.vector == vector::debug) {
        cpu.dr6 = (cpu.dr6 & ~dr6_breakpoints) | fault.dr6;
        cpu.dr7 &= ~dr7_general_detect;
    }
}

InterruptEvent event_of(Cpu const& cpu, PendingFault const& fault)
{
    InterruptEvent event { .kind = EventKind::exception,
                           .vector = fault.vector,
                           .has_error_code = fault.has_error_code,
                           .error_code = fault.error_code,
                           .return_rip = cpu.rip,
                           .pushed_flags = cpu.rflags };
    if (fault.software) {
        event.kind = EventKind::software_interrupt;
        event.return_rip = cpu.next_rip;
    } else if (fault.external)
        event.kind = EventKind::hardware_interrupt;
    else if (is_fault_class(fault))
        event.pushed_flags |= rflags::rf;
    return event;
}

// SDM vol. 3A table 6-5: what becomes of `second`, met while `first` was delivered. False: shutdown.
bool combine(Cpu& cpu, PendingFault const& first, PendingFault& second)
{
    bool const benign_first = first.software || first.external;
    bool const second_page_fault = second.vector == vector::page_fault;
    bool const second_severe = second_page_fault || in_set(second.vector, contributory_set);
    if (benign_first || !second_severe)
        return true;
    if (first.vector == vector::double_fault)
        return false;
    bool const doubles = first.vector == vector::page_fault || (in_set(first.vector, contributory_set) && !second_page_fault);
    if (doubles) {
        record(cpu, second);
        second = { .vector = vector::double_fault, .has_error_code = true };
    }
    return true;
}

} // namespace

Outcome deliver_event(Cpu& cpu, InterruptEvent const& event)
{
    Outcome const outcome = cpu.long_mode() ? deliver_in_long_mode(cpu, event)
                            : cpu.real_mode() ? deliver_in_real_mode(cpu, event)
                                              : deliver_in_protected_mode(cpu, event);
    if (outcome == Outcome::fault && !event.checks_gate_privilege() && in_set(cpu.fault.vector, selector_code_set))
        cpu.fault.error_code |= error_code_external;
    return outcome;
}

Outcome deliver_fault(Cpu& cpu)
{
    // Bounded: every round that is not the last makes the event more severe, or ends in a benign one that is delivered or shuts down.
    for (unsigned round = 0; round < 8; round++) {
        PendingFault const first = cpu.fault;
        record(cpu, first);
        Outcome const outcome = deliver_event(cpu, event_of(cpu, first));
        if (outcome != Outcome::fault)
            return outcome;
        PendingFault second = cpu.fault;
        if (!combine(cpu, first, second))
            break;
        cpu.fault = second;
    }
    cpu.exit_reason = RunExit::triple_fault;
    return Outcome::leave;
}

Outcome deliver_interrupt(Cpu& cpu, u8 number, bool nmi)
{
    InterruptEvent const event { .kind = nmi ? EventKind::nmi : EventKind::hardware_interrupt,
                                 .vector = number,
                                 .return_rip = cpu.rip,
                                 .pushed_flags = cpu.rflags };
    if (nmi)
        cpu.nmi_blocked = true;
    Outcome const outcome = deliver_event(cpu, event);
    return outcome == Outcome::fault ? deliver_fault(cpu) : outcome;
}

} // namespace anyhyve::soft
