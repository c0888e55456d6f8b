// Forwarding of the board's interrupt wires.
#include "device/irqchip/interrupt_router.hpp"

#include "base/assert.hpp"

namespace anyhyve {

namespace {

constexpr unsigned timer_line = 0, rtc_line = 8;
constexpr unsigned timer_pin = 2;
constexpr u8 routing_writable = 0x8f;

} // namespace

PirqRouter::PirqRouter(Pic& pic)
    : m_pic(pic)
{
}

void PirqRouter::reset()
{
    std::lock_guard const lock(m_mutex);
    for (Link& link : m_links) {
        route(link, link.initial);
        if (is_routed(link.initial))
            m_pic.set_trigger(link.initial & 15, TriggerMode::level);
    }
}

void PirqRouter::route(Link& link, u8 routing)
{
    if (link.assertions != 0 && is_routed(link.routing))
        m_pic.set_level(link.routing & 15, false);
    link.routing = routing;
    if (link.assertions != 0 && is_routed(link.routing))
        m_pic.set_level(link.routing & 15, true);
}

void PirqRouter::set_level(unsigned link, bool asserted)
{
    if (link >= link_count)
        return;
    std::lock_guard const lock(m_mutex);
    Link& wire = m_links[link];
    bool const before = wire.assertions != 0;
    if (asserted)
        ++wire.assertions;
    else
        wire.assertions -= wire.assertions != 0;
    if (before != (wire.assertions != 0) && is_routed(wire.routing))
        m_pic.set_level(wire.routing & 15, wire.assertions != 0);
}

u8 PirqRouter::routing(unsigned link) const
{
    std::lock_guard const lock(m_mutex);
    return link < link_count ? m_links[link].routing : 0xff;
}

void PirqRouter::set_routing(unsigned link, u8 value)
{
    if (link >= link_count)
        return;
    std::lock_guard const lock(m_mutex);
    route(m_links[link], value & routing_writable);
}

std::optional<unsigned> PirqRouter::link_of_register(unsigned offset)
{
    if (offset >= 0x60 && offset <= 0x63)
        return offset - 0x60;
    if (offset >= 0x68 && offset <= 0x6b)
        return offset - 0x68 + 4;
    return {};
}

void PirqRouter::reserve_line(unsigned line)
{
    std::lock_guard const lock(m_mutex);
    if (line < Pic::line_count)
        m_uses[line] += 1000; // more than there are links
}

unsigned PirqRouter::assign_line(unsigned link)
{
    ASSERT(link < link_count, "there are eight PIRQ links");
    std::lock_guard const lock(m_mutex);
    Link& wire = m_links[link];
    if (!is_routed(wire.initial)) {
        unsigned best = 0;
        for (unsigned line = 0; line < Pic::line_count; ++line) {
            if (legal_lines >> line & 1 && (best == 0 || m_uses[line] < m_uses[best]))
                best = line;
        }
        ++m_uses[best];
        wire.initial = static_cast<u8>(best);
        route(wire, wire.initial);
        m_pic.set_trigger(best, TriggerMode::level);
    }
    return wire.initial & 15;
}

void PirqRouter::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    for (Link const& link : m_links)
        out.put_u8(link.routing);
}

Result<void> PirqRouter::restore(Decoder& in, u32 version)
{
    if (version != state_version())
        return make_error(0, "pirq: version {} of its saved state is unknown", version);
    std::array<u8, link_count> values {};
    for (u8& value : values)
        value = in.get_u8();
    if (!in.ok()) {
        reset();
        return make_error(0, "pirq: its saved state is damaged");
    }
    for (unsigned link = 0; link < link_count; ++link)
        set_routing(link, values[link]);
    return {};
}

InterruptRouter::InterruptRouter(IoApic& io_apic, Pic& pic, PirqRouter& pirq)
    : m_io_apic(io_apic)
    , m_pic(pic)
    , m_pirq(pirq)
{
}

void InterruptRouter::set_level(unsigned pin, bool asserted)
{
    if (pin == timer_line) {
        set_switched(timer_line, m_timer, asserted);
    } else if (pin == rtc_line) {
        set_switched(rtc_line, m_rtc, asserted);
    } else if (pin < first_pci_interrupt) {
        forward_isa(pin, asserted);
    } else {
        m_io_apic.set_level(pin, asserted);
        m_pirq.set_level(pin - first_pci_interrupt, asserted);
    }
}

void InterruptRouter::forward_isa(unsigned line, bool asserted)
{
    m_io_apic.set_level(line == timer_line ? timer_pin : line, asserted);
    m_pic.set_level(line, asserted);
}

void InterruptRouter::set_switched(unsigned line, Switched& wire, bool asserted)
{
    std::lock_guard const lock(m_mutex);
    if (asserted)
        ++wire.assertions;
    else
        wire.assertions -= wire.assertions != 0;
    pass_on(line, wire);
}

void InterruptRouter::pass_on(unsigned line, Switched& wire)
{
    bool const wanted = wire.assertions != 0 && m_source == LegacySource::timer_and_rtc;
    if (wanted != wire.passed_on)
        forward_isa(line, wire.passed_on = wanted);
}

void InterruptRouter::select_legacy_source(LegacySource source)
{
    std::lock_guard const lock(m_mutex);
    m_source = source;
    pass_on(timer_line, m_timer);
    pass_on(rtc_line, m_rtc);
}

void InterruptRouter::Replacement::set_level(unsigned pin, bool asserted)
{
    m_router.forward_isa(pin, asserted);
}

} // namespace anyhyve
