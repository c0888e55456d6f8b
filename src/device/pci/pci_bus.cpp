// Lookup of functions, routing of INTx pins, configuration cycles.
#include "device/pci/pci_bus.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/bits.hpp"

namespace anyhyve {

PciBus::PciBus(Sinks sinks, InterruptMap map)
    : m_sinks(sinks)
    , m_interrupt_map(map)
    , m_bars(sinks.memory, sinks.ports)
{
}

Result<void> PciBus::add(PciFunction& function)
{
    PciAddress const address = function.address();
    auto& slots = m_functions[address.bus];
    if (!slots)
        slots = std::make_unique<Slots>();
    auto*& place = (*slots)[address.number() & 0xff];
    if (place)
        return make_error(EEXIST, "pci slot {} already occupied by {}", address.text(), place->name());
    place = &function;

    // A device with several functions says so in its function 0 (PCI Local Bus 3.0, 6.2.1).
    auto* const first = (*slots)[address.slot << 3];
    bool const has_more = std::any_of(&(*slots)[(address.slot << 3) + 1], &(*slots)[address.slot << 3] + 8, [](auto* f) { return f; });
    if (first && has_more)
        first->set_multifunction();

    if (function.wants_intx()) {
        u8 const pin = static_cast<u8>(1 + address.function % 4);
        function.connect_intx(pin, IrqLine(m_sinks.interrupts, route_of(address.bus, address.slot, pin).gsi));
    }
    return {};
}

PciInterruptRoute& PciBus::route_of(u8 bus, u8 slot, u8 pin)
{
    for (auto& route : m_routes) {
        if (route.bus == bus && route.slot == slot && route.pin == pin)
            return route;
    }
    unsigned const place = m_interrupt_map == InterruptMap::round_robin ? m_next_gsi++ : 4U + slot + pin;
    u8 const pirq = static_cast<u8>(place % gsi_count);
    m_routes.push_back({ bus, slot, pin, static_cast<u8>(first_gsi + pirq), pirq, 0 });
    return m_routes.back();
}

PciFunction* PciBus::find(PciAddress address) const
{
    auto const& slots = m_functions[address.bus];
    return slots ? (*slots)[address.number() & 0xff] : nullptr;
}

std::vector<PciFunction*> PciBus::functions() const
{
    std::vector<PciFunction*> all;
    for (auto const& slots : m_functions) {
        if (slots)
            std::copy_if(slots->begin(), slots->end(), std::back_inserter(all), [](auto* function) { return function; });
    }
    return all;
}

std::vector<u8> PciBus::buses() const
{
    std::vector<u8> used { 0 };
    for (unsigned bus = 1; bus < m_functions.size(); ++bus) {
        if (m_functions[bus])
            used.push_back(static_cast<u8>(bus));
    }
    return used;
}

void PciBus::assign_interrupts(PirqRegisters* registers)
{
    for (auto& route : m_routes)
        route.pirq_irq = static_cast<u8>(registers ? registers->assign_pirq(route.pirq) : 0);
    for (auto* function : functions()) {
        if (u8 const pin = function->intx_pin(); pin && registers)
            function->set_interrupt_line(route_of(function->address().bus, function->address().slot, pin).pirq_irq);
        function->capture_power_on_state();
    }
}

u32 PciBus::config_read(PciAddress address, u16 offset, unsigned width) const
{
    auto* const function = find(address);
    return function ? function->config_read(offset, width) : static_cast<u32>(mask_of_bytes(width));
}

void PciBus::config_write(PciAddress address, u16 offset, unsigned width, u32 value)
{
    if (auto* const function = find(address))
        function->config_write(offset, width, value);
}

void PciBus::quiesce()
{
    for (auto* function : functions())
        function->quiesce();
}

} // namespace anyhyve
