// The 16550A serial port: registers, transmitter, interrupts, modem lines.
#include "device/console/uart.hpp"

#include <array>

#include "base/bits.hpp"
#include "device/console/uart_bits.hpp"

namespace anyhyve {

using namespace uart_bits;

Uart::Uart(std::string name, IrqLine line, Clock& clock, std::unique_ptr<ConsoleBackend> backend)
    : m_name(std::move(name))
    , m_line(line)
    , m_clock(clock)
    , m_backend(std::move(backend))
{
    m_state.modem_status = status_connected;
    m_timer = m_clock.create_timer([this] { timed_out(); });
    m_backend->set_receiver([this](std::span<u8 const> bytes) { return receive(bytes); }, [this] { output_drained(); });
}

Uart::~Uart()
{
    m_backend->set_receiver({}, {});
    m_timer.reset();
}

u64 Uart::read(u64 offset, unsigned width)
{
    std::lock_guard lock(m_mutex);
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i) {
        u8 const byte = offset + i < port_count ? read_byte(static_cast<Register>(offset + i)) : 0xff;
        value |= u64 { byte } << (8 * i);
    }
    update_line();
    return value;
}

void Uart::write(u64 offset, unsigned width, u64 value)
{
    std::lock_guard lock(m_mutex);
    for (unsigned i = 0; i < width && offset + i < port_count; ++i)
        write_byte(static_cast<Register>(offset + i), static_cast<u8>(value >> (8 * i)));
    update_line();
}

u8 Uart::read_byte(Register reg)
{
    switch (reg) {
    case Register::data:
        return divisor_latch() ? static_cast<u8>(m_state.divisor) : read_received();
    case Register::interrupt_enable:
        return divisor_latch() ? static_cast<u8>(m_state.divisor >> 8) : m_state.interrupt_enable;
    case Register::interrupt_identification:
        return identify_interrupt();
    case Register::line_control:
        return m_state.line_control;
    case Register::modem_control:
        return m_state.modem_control;
    case Register::line_status:
        return line_status();
    case Register::modem_status: {
        u8 const value = m_state.modem_status;
        m_state.modem_status = value & static_cast<u8>(~status_deltas);
        return value;
    }
    case Register::scratch:
        return m_state.scratch;
    }
    return 0xff;
}

void Uart::write_byte(Register reg, u8 value)
{
    switch (reg) {
    case Register::data:
        if (divisor_latch())
            m_state.divisor = static_cast<u16>((m_state.divisor & 0xff00) | value);
        else
            transmit(value);
        break;
    case Register::interrupt_enable:
        if (divisor_latch())
            m_state.divisor = static_cast<u16>((m_state.divisor & 0x00ff) | value << 8);
        else
            write_interrupt_enable(value);
        break;
    case Register::interrupt_identification:
        write_fifo_control(value);
        break;
    case Register::line_control:
        m_state.line_control = value;
        break;
    case Register::modem_control:
        write_modem_control(value);
        break;
    case Register::scratch:
        m_state.scratch = value;
        break;
    case Register::line_status: // for factory tests only (8.4)
    case Register::modem_status:
        break;
    }
}

bool Uart::divisor_latch() const
{
    return m_state.line_control & line_divisor_latch;
}

bool Uart::loopback() const
{
    return m_state.modem_control & modem_loopback;
}

u8 Uart::line_status()
{
    u8 value = m_state.line_errors;
    m_state.line_errors = 0;
    if (m_state.count)
        value |= line_data_ready;
    if (m_waits_for_room && m_backend->has_room()) {
        m_waits_for_room = false;
        m_state.transmit_interrupt = true;
    }
    if (!m_waits_for_room)
        value |= line_transmit_empty;
    return value;
}

u8 Uart::highest_interrupt() const
{
    u8 const enabled = m_state.interrupt_enable;
    if ((enabled & enable_line_status) && m_state.line_errors)
        return identify_line_status;
    if ((enabled & enable_received) && m_state.count >= trigger())
        return identify_received;
    if ((enabled & enable_received) && m_state.timeout_interrupt)
        return identify_timeout;
    if ((enabled & enable_transmit) && m_state.transmit_interrupt)
        return identify_transmit;
    if ((enabled & enable_modem_status) && (m_state.modem_status & status_deltas))
        return identify_modem_status;
    return identify_none;
}

u8 Uart::identify_interrupt()
{
    u8 const highest = highest_interrupt();
    if (highest == identify_transmit)
        m_state.transmit_interrupt = false;
    return highest | (m_state.fifo_control & fifo_enable ? identify_fifo : 0);
}

void Uart::update_line()
{
    m_line.set(highest_interrupt() != identify_none);
}

void Uart::transmit(u8 byte)
{
    m_state.transmit_interrupt = false;
    if (loopback()) {
        if (m_state.count == capacity()) {
            m_state.line_errors |= line_overrun;
        } else {
            m_state.received[(m_state.first + m_state.count++) % fifo_size] = byte;
            update_timeout();
        }
        m_state.transmit_interrupt = true;
        return;
    }
    m_backend->write({ &byte, 1 });
    ++m_bytes_out;
    m_waits_for_room = !m_backend->has_room();
    m_state.transmit_interrupt = !m_waits_for_room;
}

void Uart::write_interrupt_enable(u8 value)
{
    // 8.7: enabling the transmitter's interrupt while the register is empty raises it at once.
    bool const turned_on = (value & enable_transmit) && !(m_state.interrupt_enable & enable_transmit);
    m_state.interrupt_enable = value & enable_all;
    if (turned_on && !m_waits_for_room)
        m_state.transmit_interrupt = true;
    update_timeout();
}

void Uart::write_fifo_control(u8 value)
{
    bool const toggled = (value ^ m_state.fifo_control) & fifo_enable;
    // 8.5: the other bits count only together with the enable bit.
    m_state.fifo_control = value & fifo_enable ? value & fifo_kept_bits : 0;
    if (toggled || (value & fifo_clear_receiver))
        clear_received();
    update_timeout();
}

void Uart::write_modem_control(u8 value)
{
    bool const was_loopback = loopback();
    m_state.modem_control = value & modem_control_bits;
    update_modem_status();
    if (was_loopback && !loopback())
        m_backend->receiver_ready();
}

void Uart::update_modem_status()
{
    u8 lines = status_connected;
    if (loopback()) {
        u8 const control = m_state.modem_control;
        lines = static_cast<u8>((control & modem_rts ? status_cts : 0) | (control & modem_dtr ? status_dsr : 0)
            | (control & modem_out1 ? status_ring : 0) | (control & modem_out2 ? status_carrier : 0));
    }
    u8 const changed = lines ^ (m_state.modem_status & 0xf0);
    u8 deltas = changed >> 4;
    if (lines & status_ring)
        deltas &= static_cast<u8>(~status_ring_ended); // only its end counts
    m_state.modem_status = lines | (m_state.modem_status & status_deltas) | deltas;
}

} // namespace anyhyve
