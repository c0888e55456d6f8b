// Interrupts that begin in the processor itself: errors, the LINT pins, the timer, and other entries of the local vector table.
#include "device/irqchip/local_apic_bits.hpp"

namespace anyhyve {

using namespace local_apic;

void LocalApic::report(Error error)
{
    u32 const bit_of_error = static_cast<u32>(error);
    bool const known = m_errors_pending & bit_of_error;
    m_errors_pending |= bit_of_error;
    // 10.5.3: one interrupt per kind of error until software looks. An error vector that is itself illegal must not recurse.
    if (!known)
        trigger_locked(LvtEntry::error);
}

void LocalApic::trigger(LvtEntry entry)
{
    std::lock_guard const lock(m_mutex);
    trigger_locked(entry);
    evaluate();
}

// 10.5.1
void LocalApic::trigger_locked(LvtEntry entry, TriggerMode trigger_mode)
{
    u32 const value = lvt(entry);
    if (value & lvt_masked)
        return;
    m_triggered[static_cast<unsigned>(entry)].fetch_add(1, std::memory_order_relaxed);
    bool const fixed_only = entry == LvtEntry::timer || entry == LvtEntry::error;
    auto const delivery = fixed_only ? DeliveryMode::fixed : static_cast<DeliveryMode>(bits(value, 10, 8));
    switch (delivery) {
    case DeliveryMode::fixed:
        request(static_cast<u8>(value), trigger_mode);
        break;
    case DeliveryMode::nmi:
        if (m_signals)
            m_signals->nmi();
        break;
    case DeliveryMode::init:
        if (m_signals)
            m_signals->init();
        break;
    default: // ExtINT is a level that evaluate() looks at; SMI goes nowhere
        break;
    }
}

void LocalApic::set_local_interrupt(LocalInterruptPin pin, bool asserted)
{
    std::lock_guard const lock(m_mutex);
    bool& level = m_pins[static_cast<unsigned>(pin)];
    bool const rising = asserted && !level;
    level = asserted;
    if (mode() == Mode::disabled) {
        // 10.4.3: LINT0 and LINT1 are the processor's INTR and NMI pins.
        if (pin == LocalInterruptPin::lint1 && rising && m_signals)
            m_signals->nmi();
    } else {
        u32 const value = lvt(pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1);
        bool const level_triggered = value & lvt_level && bits(value, 10, 8) == static_cast<u8>(DeliveryMode::fixed);
        if (level_triggered)
            service_local_level(pin);
        else if (rising)
            trigger_locked(pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1);
    }
    evaluate();
}

// A level-triggered fixed interrupt of a LINT pin: sent once, then not again until its EOI (10.5.1, remote IRR).
void LocalApic::service_local_level(LocalInterruptPin pin)
{
    LvtEntry const entry = pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1;
    u32& value = lvt(entry);
    bool const fixed = bits(value, 10, 8) == static_cast<u8>(DeliveryMode::fixed);
    if (!m_pins[static_cast<unsigned>(pin)] || !fixed || !(value & lvt_level) || value & (lvt_masked | lvt_remote_irr))
        return;
    value |= lvt_remote_irr;
    trigger_locked(entry, TriggerMode::level);
}

void LocalApic::timer_due()
{
    std::lock_guard const lock(m_mutex);
    m_timer.rang();
    run_timer();
}

void LocalApic::run_timer()
{
    if (m_timer.run()) {
        trigger_locked(LvtEntry::timer);
        evaluate();
    }
}

} // namespace anyhyve
