// Destination matching, arbitration and delivery (SDM vol. 3A 10.6.2).
#include "device/irqchip/apic_bus.hpp"

#include "base/assert.hpp"
#include "base/log.hpp"
#include "device/irqchip/local_apic.hpp"

namespace anyhyve {

void ApicBus::attach(LocalApic& apic)
{
    ASSERT(m_count < most_apics && apic.id() == m_count, "local APICs are attached in the order of their IDs, at most 64");
    m_apics[m_count++] = &apic;
}

void ApicBus::detach(LocalApic& apic)
{
    m_apics[apic.id()] = nullptr;
}

bool ApicBus::matches(LocalApic const& apic, ApicMessage const& message, LocalApic const* sender) const
{
    switch (message.shorthand) {
    case Shorthand::self:
        return &apic == sender;
    case Shorthand::all:
        return apic.hardware_enabled();
    case Shorthand::all_but_self:
        return &apic != sender && apic.hardware_enabled();
    case Shorthand::none:
        break;
    }
    return apic.is_addressed_by(message.destination, message.destination_mode);
}

// 10.6.2.4: the processor of lowest priority wins; among equals each gets its turn.
LocalApic* ApicBus::arbitrate(ApicMessage const& message, LocalApic const* sender)
{
    LocalApic* winner = nullptr;
    unsigned const first = m_next_winner.fetch_add(1, std::memory_order_relaxed);
    for (unsigned i = 0; i < m_count; ++i) {
        LocalApic* const apic = m_apics[(first + i) % m_count];
        if (!apic || !apic->software_enabled() || !matches(*apic, message, sender))
            continue;
        if (!winner || apic->processor_priority() >> 4 < winner->processor_priority() >> 4)
            winner = apic;
    }
    return winner;
}

void ApicBus::deliver(ApicMessage const& message, LocalApic* sender)
{
    auto const give_to = [&](LocalApic& apic) {
        if (sender)
            sender->count_message_to(apic.id());
        apic.accept(message.mode, message.vector, message.trigger);
    };
    if (message.mode == DeliveryMode::lowest_priority) {
        if (LocalApic* const winner = arbitrate(message, sender))
            give_to(*winner);
        return;
    }
    bool const one_target = message.shorthand == Shorthand::none && message.destination_mode == DestinationMode::physical
        && message.destination != ApicMessage::broadcast;
    if (one_target && !m_ids_changed.load(std::memory_order_relaxed)) {
        LocalApic* const target = apic(message.destination);
        if (target && target->hardware_enabled())
            give_to(*target);
        return;
    }
    for (unsigned i = 0; i < m_count; ++i) {
        if (m_apics[i] && matches(*m_apics[i], message, sender))
            give_to(*m_apics[i]);
    }
}

void ApicBus::send_msi(u64 address, u32 data)
{
    static log::RateLimit limit;
    if (!MsiMessage::is_message(address)) {
        log::guest(limit, "a message-signalled interrupt to {:#x} reaches no local APIC", address);
        return;
    }
    ApicMessage const message = MsiMessage { address, data }.decode();
    // 10.11.2: these modes mean nothing in a message.
    if (message.mode == DeliveryMode::startup || message.mode == DeliveryMode::reserved)
        return;
    deliver(message);
}

void ApicBus::set_external_output(bool asserted)
{
    for (unsigned i = 0; i < m_count; ++i) {
        if (m_apics[i])
            m_apics[i]->set_local_interrupt(LocalInterruptPin::lint0, asserted);
    }
}

void ApicBus::set_nmi_line(bool asserted)
{
    for (unsigned i = 0; i < m_count; ++i) {
        if (m_apics[i])
            m_apics[i]->set_local_interrupt(LocalInterruptPin::lint1, asserted);
    }
}

void ApicBus::broadcast_eoi(u8 vector)
{
    if (m_eoi_listener)
        m_eoi_listener->end_of_interrupt(vector);
}

int ApicBus::acknowledge_external()
{
    return m_external_source ? m_external_source->acknowledge() : -1;
}

} // namespace anyhyve
