// The 16550A serial port: registers, FIFOs and interrupts.
#include "device/console/uart.hpp"

#include <algorithm>

#include "base/bits.hpp"

namespace anyhyve {

namespace {

// Interrupt enable (PC16550D 8.7).
constexpr u8 enable_received = 1 << 0;
constexpr u8 enable_transmit = 1 << 1;
constexpr u8 enable_line_status = 1 << 2;
constexpr u8 enable_modem_status = 1 << 3;
constexpr u8 enable_all = 0x0f;

// Interrupt identification (8.6), the highest priority first.
constexpr u8 identify_line_status = 0x06;
constexpr u8 identify_received = 0x04;
constexpr u8 identify_timeout = 0x0c;
constexpr u8 identify_transmit = 0x02;
constexpr u8 identify_modem_status = 0x00;
constexpr u8 identify_none = 0x01;
constexpr u8 identify_fifo = 0xc0;

// FIFO control (8.5).
constexpr u8 fifo_enable = 1 << 0;
constexpr u8 fifo_clear_receiver = 1 << 1;
constexpr u8 fifo_kept_bits = 0xc1; // enable, trigger level

constexpr u8 line_divisor_latch = 1 << 7;

// Modem control (8.8) and status (8.9).
constexpr u8 modem_dtr = 1 << 0;
constexpr u8 modem_rts = 1 << 1;
constexpr u8 modem_out1 = 1 << 2;
constexpr u8 modem_out2 = 1 << 3;
constexpr u8 modem_loopback = 1 << 4;
constexpr u8 modem_control_bits = 0x1f;
constexpr u8 status_cts = 1 << 4;
constexpr u8 status_dsr = 1 << 5;
constexpr u8 status_ring = 1 << 6;
constexpr u8 status_carrier = 1 << 7;
constexpr u8 status_deltas = 0x0f;
constexpr u8 status_ring_ended = 1 << 2;
constexpr u8 status_connected = status_cts | status_dsr | status_carrier; // with carrier, so that opening does not wait

// Line status (8.4).
constexpr u8 line_data_ready = 1 << 0;
constexpr u8 line_overrun = 1 << 1;
constexpr u8 line_transmit_empty = 1 << 5 | 1 << 6; // holding register and shift register

constexpr u64 input_clock = 1'843'200; // Hz, sixteen times the baud rate at divisor 1
constexpr u64 bits_per_character = 10;
constexpr u64 longest_timeout = 10'000'000; // ns: a guest may program 2 baud

} // namespace

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

unsigned Uart::capacity() const
{
    return m_state.fifo_control & fifo_enable ? fifo_size : 1;
}

unsigned Uart::trigger() const
{
    static constexpr std::array<u8, 4> levels { 1, 4, 8, 14 };
    return m_state.fifo_control & fifo_enable ? levels[m_state.fifo_control >> 6] : 1;
}

u8 Uart::read_received()
{
    if (m_state.count == 0)
        return 0;
    u8 const value = m_state.received[m_state.first];
    m_state.first = (m_state.first + 1) % fifo_size;
    --m_state.count;
    m_state.timeout_interrupt = false;
    update_timeout();
    if (m_state.count == 0)
        m_backend->receiver_ready();
    return value;
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

void Uart::clear_received()
{
    m_state.first = m_state.count = 0;
    m_state.timeout_interrupt = false;
    m_backend->receiver_ready();
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

std::size_t Uart::receive(std::span<u8 const> bytes)
{
    std::lock_guard lock(m_mutex);
    if (loopback())
        return 0; // the input is disconnected
    std::size_t const count = std::min<std::size_t>(bytes.size(), capacity() - std::min<unsigned>(capacity(), m_state.count));
    for (std::size_t i = 0; i < count; ++i)
        m_state.received[(m_state.first + m_state.count++) % fifo_size] = bytes[i];
    m_bytes_in += count;
    update_timeout();
    update_line();
    return count;
}

void Uart::output_drained()
{
    std::lock_guard lock(m_mutex);
    if (m_waits_for_room && m_backend->has_room()) {
        m_waits_for_room = false;
        m_state.transmit_interrupt = true;
        update_line();
    }
}

// 8.6: characters below the trigger level make an interrupt after four character times without another.
void Uart::update_timeout()
{
    bool const waits = (m_state.fifo_control & fifo_enable) && (m_state.interrupt_enable & enable_received) && m_state.count != 0
        && m_state.count < trigger() && !m_state.timeout_interrupt;
    if (!waits) {
        m_timeout_at = Clock::never;
        return;
    }
    u64 const divisor = m_state.divisor ? m_state.divisor : 1;
    u64 const character = bits_per_character * 16 * divisor * 1'000'000'000 / input_clock;
    m_timeout_at = m_clock.now() + std::min(4 * character, longest_timeout);
    m_timer->arm(m_timeout_at);
}

void Uart::timed_out()
{
    std::lock_guard lock(m_mutex);
    if (m_timeout_at == Clock::never)
        return;
    if (m_clock.now() < m_timeout_at) {
        m_timer->arm(m_timeout_at);
        return;
    }
    m_timeout_at = Clock::never;
    m_state.timeout_interrupt = m_state.count != 0;
    update_line();
}

void Uart::reset()
{
    std::lock_guard lock(m_mutex);
    m_state = {};
    m_state.modem_status = status_connected;
    m_waits_for_room = false;
    m_timeout_at = Clock::never;
    m_backend->receiver_ready();
    update_line();
}

void Uart::save(Encoder& encoder) const
{
    std::lock_guard lock(m_mutex);
    for (u8 const value : { m_state.interrupt_enable, m_state.fifo_control, m_state.line_control, m_state.modem_control,
             m_state.line_errors, m_state.modem_status, m_state.scratch })
        encoder.put_u8(value);
    encoder.put_u16(m_state.divisor);
    encoder.put_bool(m_state.transmit_interrupt);
    encoder.put_bool(m_state.timeout_interrupt);
    encoder.put_bytes(m_state.received);
    encoder.put_u8(m_state.first);
    encoder.put_u8(m_state.count);
}

Result<void> Uart::restore(Decoder& decoder, u32 version)
{
    State state;
    for (u8* value : { &state.interrupt_enable, &state.fifo_control, &state.line_control, &state.modem_control, &state.line_errors,
             &state.modem_status, &state.scratch })
        *value = decoder.get_u8();
    state.interrupt_enable &= enable_all;
    state.fifo_control &= fifo_kept_bits;
    state.modem_control &= modem_control_bits;
    state.line_errors &= line_overrun;
    state.divisor = decoder.get_u16();
    state.transmit_interrupt = decoder.get_bool();
    state.timeout_interrupt = decoder.get_bool();
    decoder.get_bytes(state.received);
    state.first = decoder.get_u8();
    state.count = decoder.get_u8();
    bool const sound = version == state_version() && decoder.ok() && decoder.at_end() && state.first < fifo_size && state.count <= fifo_size;
    if (!sound) {
        reset();
        return make_error(EINVAL, "{}: the saved state is of another version or damaged", m_name);
    }
    std::lock_guard lock(m_mutex);
    m_state = state;
    m_waits_for_room = false;
    update_timeout();
    update_line();
    m_backend->receiver_ready();
    return {};
}

std::vector<Statistic> Uart::statistics() const
{
    std::lock_guard lock(m_mutex);
    return { { "bytes received", m_bytes_in }, { "bytes sent", m_bytes_out } };
}

} // namespace anyhyve
