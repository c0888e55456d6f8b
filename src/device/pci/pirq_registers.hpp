// The PIRQ routing registers of the LPC bridge, as the interrupt router behind them sees them.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

constexpr unsigned pirq_count = 8;
constexpr u8 pirq_off = 0x80;        // bit 7 of a routing register
constexpr u16 pirq_legal_irqs = 0xdef8; // 3-7, 9-12, 14, 15 (Intel 82371 datasheet, PIRQRC)

// Whoever joins PIRQ A-H to the inputs of the 8259 pair. Threads: any.
class PirqSwitch {
public:
    virtual ~PirqSwitch() = default;
    // PIRQ `pirq` (0 is A) now leads to 8259 input `irq`, or nowhere when `irq` is 0.
    virtual void set_pirq_route(unsigned pirq, unsigned irq) = 0;
};

// Who holds the registers: the LPC bridge.
class PirqRegisters {
public:
    virtual ~PirqRegisters() = default;
    virtual void set_pirq(unsigned pirq, u8 value) = 0;
};

} // namespace anyhyve
