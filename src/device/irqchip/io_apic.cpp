// Registers and pins of the I/O APIC.
#include "device/irqchip/io_apic.hpp"

namespace anyhyve {

namespace {

enum class Window : u64 {
    select = 0x00,           // RW, IOREGSEL
    data = 0x10,             // RW, IOWIN
    end_of_interrupt = 0x40, // W, EOI
};

enum class Index : u8 {
    id = 0x00,          // RW
    version = 0x01,     // R
    arbitration = 0x02, // R
    redirection = 0x10, // RW, two registers per pin
};

constexpr u32 version_value = 0x20 | (IoApic::pin_count - 1) << 16;

// Redirection entry, 82093AA 3.2.4
constexpr u64 entry_logical = bit(11), entry_delivery_status = bit(12), entry_remote_irr = bit(14), entry_level = bit(15), entry_masked = bit(16);
constexpr u64 entry_read_only = entry_delivery_status | entry_remote_irr;
constexpr u64 entry_writable = ((bit(17) - 1) | u64 { 0xff } << 56) & ~entry_read_only;

DeliveryMode delivery_of(u64 entry)
{
    return static_cast<DeliveryMode>(bits(entry, 10, 8));
}

// 3.2.4: only fixed and lowest-priority interrupts can be level-triggered.
bool is_level(u64 entry)
{
    return entry & entry_level && (delivery_of(entry) == DeliveryMode::fixed || delivery_of(entry) == DeliveryMode::lowest_priority);
}

} // namespace

IoApic::IoApic(MsiSink& messages, u8 id)
    : m_messages(messages)
    , m_initial_id(id & 15)
{
    reset();
}

void IoApic::reset()
{
    std::lock_guard const lock(m_mutex);
    m_select = 0;
    m_id = m_initial_id;
    m_entries.fill(entry_masked);
}

u64 IoApic::read(u64 offset, unsigned width)
{
    std::lock_guard const lock(m_mutex);
    switch (static_cast<Window>(offset & 0xff)) {
    case Window::select:
        return m_select;
    case Window::data:
        return read_indexed(m_select) & mask_of_bytes(width);
    default:
        return mask_of_bytes(width);
    }
}

void IoApic::write(u64 offset, unsigned, u64 value)
{
    std::lock_guard const lock(m_mutex);
    switch (static_cast<Window>(offset & 0xff)) {
    case Window::select:
        m_select = static_cast<u8>(value);
        break;
    case Window::data:
        write_indexed(m_select, static_cast<u32>(value));
        break;
    case Window::end_of_interrupt:
        end_locked(static_cast<u8>(value));
        break;
    default:
        break;
    }
}

u32 IoApic::read_indexed(u8 index) const
{
    switch (static_cast<Index>(index)) {
    case Index::id:
    case Index::arbitration:
        return u32 { m_id } << 24;
    case Index::version:
        return version_value;
    default:
        break;
    }
    unsigned const position = index - static_cast<unsigned>(Index::redirection);
    if (position >= 2 * pin_count)
        return 0xffffffff;
    return static_cast<u32>(m_entries[position / 2] >> (position % 2 * 32));
}

void IoApic::write_indexed(u8 index, u32 value)
{
    if (static_cast<Index>(index) == Index::id) {
        m_id = value >> 24 & 15;
        return;
    }
    unsigned const position = index - static_cast<unsigned>(Index::redirection);
    if (position >= 2 * pin_count)
        return;
    u64 const entry = m_entries[position / 2];
    u64 const half = 0xffffffff;
    write_entry(position / 2, position % 2 ? (entry & half) | u64 { value } << 32 : (entry & ~half) | value);
}

void IoApic::write_entry(unsigned pin, u64 value)
{
    u64& entry = m_entries[pin];
    entry = (value & entry_writable) | (entry & entry_remote_irr);
    // Software without an EOI register ends an interrupt by making its pin edge-triggered and level-triggered again.
    if (!is_level(entry))
        entry &= ~entry_remote_irr;
    service_level(pin);
}

void IoApic::set_level(unsigned pin, bool asserted)
{
    if (pin >= pin_count)
        return;
    std::lock_guard const lock(m_mutex);
    u32& assertions = m_assertions[pin];
    if (!asserted) {
        assertions -= assertions != 0;
        return;
    }
    if (assertions++ != 0)
        return;
    u64 const entry = m_entries[pin];
    if (is_level(entry))
        service_level(pin);
    else if (!(entry & entry_masked)) // 3.2.4, mask: edges of a masked pin are lost
        send(pin);
}

// A level-triggered pin sends once per assertion, then waits for the EOI.
void IoApic::service_level(unsigned pin)
{
    u64& entry = m_entries[pin];
    if (m_assertions[pin] == 0 || !is_level(entry) || entry & (entry_masked | entry_remote_irr))
        return;
    entry |= entry_remote_irr;
    send(pin);
}

void IoApic::send(unsigned pin)
{
    MsiMessage const message = route_locked(pin).message;
    m_messages.send_msi(message.address, message.data);
}

IoApic::Route IoApic::route_locked(unsigned pin) const
{
    u64 const entry = m_entries[pin];
    TriggerMode const trigger = is_level(entry) ? TriggerMode::level : TriggerMode::edge;
    auto const destination_mode = entry & entry_logical ? DestinationMode::logical : DestinationMode::physical;
    return { MsiMessage::encode(static_cast<u8>(entry >> 56), destination_mode, delivery_of(entry), trigger, static_cast<u8>(entry)),
        trigger, (entry & entry_masked) != 0 };
}

IoApic::Route IoApic::route(unsigned pin) const
{
    if (pin >= pin_count)
        return {};
    std::lock_guard const lock(m_mutex);
    return route_locked(pin);
}

void IoApic::end_of_interrupt(u8 vector)
{
    std::lock_guard const lock(m_mutex);
    end_locked(vector);
}

void IoApic::end_locked(u8 vector)
{
    for (unsigned pin = 0; pin < pin_count; ++pin) {
        u64& entry = m_entries[pin];
        if (entry & entry_remote_irr && static_cast<u8>(entry) == vector) {
            entry &= ~entry_remote_irr;
            service_level(pin);
        }
    }
}

void IoApic::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_u8(m_select);
    out.put_u8(m_id);
    for (u64 const entry : m_entries)
        out.put_u64(entry);
}

Result<void> IoApic::restore(Decoder& in, u32 version)
{
    reset();
    if (version != state_version())
        return make_error(0, "ioapic: version {} of its saved state is unknown", version);
    std::lock_guard const lock(m_mutex);
    m_select = in.get_u8();
    m_id = in.get_u8() & 15;
    for (u64& entry : m_entries) {
        entry = in.get_u64() & (entry_writable | entry_remote_irr);
        if (!is_level(entry))
            entry &= ~entry_remote_irr;
    }
    if (!in.ok()) {
        m_entries.fill(entry_masked);
        return make_error(0, "ioapic: its saved state is damaged");
    }
    for (unsigned pin = 0; pin < pin_count; ++pin)
        service_level(pin);
    return {};
}

} // namespace anyhyve
