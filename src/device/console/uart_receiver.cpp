// The 16550A serial port: the receiver with its FIFO and timeout, saving and reset.
#include <algorithm>

#include "device/console/uart.hpp"
#include "device/console/uart_bits.hpp"

namespace anyhyve {

using namespace uart_bits;

namespace {

constexpr u64 input_clock = 1'843'200; // Hz, sixteen times the baud rate at divisor 1
constexpr u64 bits_per_character = 10;
constexpr u64 longest_timeout = 10'000'000; // ns: a guest may program 2 baud

} // namespace

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

void Uart::clear_received()
{
    m_state.first = m_state.count = 0;
    m_state.timeout_interrupt = false;
    m_backend->receiver_ready();
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
