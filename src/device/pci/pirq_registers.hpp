// Between the PIRQ routing registers, which are in the LPC bridge's configuration space, and the router they control.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

constexpr unsigned pirq_count = 8;
constexpr u8 pirq_off = 0x80; // bit 7 of a routing register; bits 3..0 name an 8259 line

// The router: joins PIRQ A-H (0-7) to 8259 lines. Threads: any.
class PirqSwitch {
public:
    virtual ~PirqSwitch() = default;
    // The register of `pirq` was written.
    virtual void set_routing(unsigned pirq, u8 value) = 0;
    // Chooses a line for `pirq` before the machine starts, the same one when asked again; 0 when there is none.
    virtual unsigned assign_line(unsigned pirq) = 0;
};

// The registers.
class PirqRegisters {
public:
    virtual ~PirqRegisters() = default;
    // As PirqSwitch::assign_line(), and remembers it in the register.
    virtual unsigned assign_pirq(unsigned pirq) = 0;
};

} // namespace anyhyve
