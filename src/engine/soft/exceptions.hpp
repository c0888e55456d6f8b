// Delivery of exceptions and interrupts to the guest's handlers, in every mode.
// Source: Intel SDM vol. 3A chapter 6, 20.1.4, 20.2-20.3; vol. 2 INT n. The entry points for the run loop are in operations.hpp.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

enum class EventKind : u8 {
    exception,              // a fault or trap of the CPU
    software_interrupt,     // INT n
    software_exception,     // INT3, INTO
    privileged_exception,   // INT1
    hardware_interrupt,
    nmi,
};

// One event on its way through the interrupt table.
struct InterruptEvent {
    EventKind kind = EventKind::exception;
    u8 vector = 0;
    bool has_error_code = false;
    u32 error_code = 0;
    u64 return_rip = 0;
    u64 pushed_flags = 0;

    bool checks_gate_privilege() const { return kind == EventKind::software_interrupt || kind == EventKind::software_exception; }
    // The error code of faults met on the way that blame the gate: index, IDT bit. The EXT bit is added at the end.
    u32 gate_code() const { return vector * 8u + 2; }
};

// Takes the event to its handler: `jump`, or `fault` with cpu.fault describing what went wrong on the way and nothing changed
// (but by a task switch that had passed its point of no return).
Outcome deliver_event(Cpu&, InterruptEvent const&);

// The parts of it, by mode.
Outcome deliver_in_real_mode(Cpu&, InterruptEvent const&);
Outcome deliver_in_protected_mode(Cpu&, InterruptEvent const&);
Outcome deliver_in_long_mode(Cpu&, InterruptEvent const&);
// INT n of a virtual-8086 program to its own handler, when CR4.VME and the TSS's map say so: `redirected` tells.
Outcome deliver_in_virtual_8086(Cpu&, InterruptEvent const&, bool& redirected);

} // namespace anyhyve::soft
