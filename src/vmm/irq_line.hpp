// One interrupt wire, as the device at its end sees it.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

// Whoever the wire leads to: IOAPIC and 8259 together, or a test. Threads: any.
class InterruptSink {
public:
    virtual ~InterruptSink() = default;
    // `pin` is a global system interrupt number. Several devices may share a level-triggered pin: the sink counts assertions.
    virtual void set_level(unsigned pin, bool asserted) = 0;
};

class IrqLine {
public:
    IrqLine() = default; // leads nowhere
    IrqLine(InterruptSink& sink, unsigned pin) : m_sink(&sink), m_pin(pin) {}

    unsigned pin() const { return m_pin; }
    // Remembers its level, so that raising twice counts once. Not thread-safe by itself: call under the device's lock.
    void set(bool asserted)
    {
        if (m_sink && asserted != m_asserted)
            m_sink->set_level(m_pin, m_asserted = asserted);
    }
    void raise() { set(true); }
    void lower() { set(false); }
    // An edge: for edge-triggered pins.
    void pulse()
    {
        raise();
        lower();
    }

private:
    InterruptSink* m_sink = nullptr;
    unsigned m_pin = 0;
    bool m_asserted = false;
};

// Message-signalled interrupts: a 32-bit write to 0xFEExxxxx (SDM vol. 3A 10.11). The same path for the IOAPIC's messages.
class MsiSink {
public:
    virtual ~MsiSink() = default;
    virtual void send_msi(u64 address, u32 data) = 0;
};

} // namespace anyhyve
