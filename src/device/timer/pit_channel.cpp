// The six counting modes.
#include "device/timer/pit_channel.hpp"

#include "base/bits.hpp"

namespace anyhyve {

namespace {

constexpr u8 status_output = 1 << 7, status_null_count = 1 << 6;

} // namespace

u32 PitChannel::decode(u16 raw) const
{
    u32 count = raw;
    if (m_bcd) {
        count = static_cast<u32>(bits(raw, 3, 0) + 10 * bits(raw, 7, 4) + 100 * bits(raw, 11, 8) + 1000 * bits(raw, 15, 12));
        count %= modulus();
    }
    return count == 0 ? modulus() : count;
}

u16 PitChannel::encode(u32 count) const
{
    count %= modulus();
    if (m_bcd)
        count = count % 10 | count / 10 % 10 << 4 | count / 100 % 10 << 8 | count / 1000 << 12;
    return static_cast<u16>(count);
}

u64 PitChannel::elapsed(u64 now) const
{
    if (m_frozen)
        return *m_frozen;
    return now <= m_origin ? 0 : now - m_origin;
}

void PitChannel::start(u64 now)
{
    m_origin = now + 1; // the oscillator's next tick loads the counting element
    m_counting = true;
    m_null_count = false;
    m_frozen.reset();
    if (!m_gate && !is_triggered_by_gate())
        m_frozen = 0;
}

void PitChannel::load(u32 count, u64 now)
{
    if (is_triggered_by_gate()) {
        m_null_count = true;
        // While a pulse is being timed, the count waits for the next trigger.
        (m_counting ? m_next_count : m_count) = count;
        m_reload_tick = ~u64 { 0 };
        return;
    }
    if (is_periodic() && m_counting && !m_frozen) {
        m_null_count = true;
        m_next_count = count;
        m_reload_tick = m_origin + (elapsed(now) / m_count + 1) * m_count;
        return;
    }
    m_count = count;
    start(now);
}

bool PitChannel::advance(u64 now)
{
    if (m_next_count == 0 || now < m_reload_tick)
        return false;
    m_count = m_next_count;
    m_next_count = 0;
    m_null_count = false;
    m_origin = m_reload_tick;
    return true;
}

void PitChannel::write_control(u8 value, u64 now)
{
    auto const access = static_cast<Access>(bits(value, 5, 4));
    if (access == Access::latch) {
        latch(Latch::count, now);
        return;
    }
    unsigned const mode = static_cast<unsigned>(bits(value, 3, 1));
    m_mode = static_cast<Mode>(mode > 5 ? mode - 4 : mode); // 6 and 7 are 2 and 3
    m_access = access;
    m_bcd = value & 1;
    m_counting = false;
    m_null_count = true;
    m_count = m_next_count = 0;
    m_frozen.reset();
    m_low_written.reset();
    m_high_next = false;
    m_latched_count.reset();
    m_latched_status.reset();
}

void PitChannel::write_data(u8 value, u64 now)
{
    switch (m_access) {
    case Access::low:
        load(decode(value), now);
        break;
    case Access::high:
        load(decode(static_cast<u16>(value << 8)), now);
        break;
    default:
        if (m_low_written) {
            u16 const raw = static_cast<u16>(*m_low_written | value << 8);
            m_low_written.reset();
            load(decode(raw), now);
        } else {
            m_low_written = value;
            if (m_mode == Mode::terminal_count && m_counting) {
                m_frozen.reset();
                m_counting = false; // "Mode 0": the first byte stops counting, OUT goes low at once
            }
        }
    }
}

u16 PitChannel::current(u64 now) const
{
    if (m_count == 0 || !m_counting)
        return encode(m_count);
    u64 const passed = elapsed(now);
    switch (m_mode) {
    case Mode::rate_generator:
        return encode(m_count - static_cast<u32>(passed % m_count));
    case Mode::square_wave: {
        // Counts down by two in each half; an odd count makes the first half one tick longer.
        u32 const position = static_cast<u32>(passed % m_count);
        u32 const high = (m_count + 1) / 2;
        u32 const in_half = position < high ? position : position - high;
        return encode((m_count & ~1u) - 2 * in_half);
    }
    default: {
        u32 const part = static_cast<u32>(passed % modulus());
        return encode(m_count + modulus() - part);
    }
    }
}

bool PitChannel::output(u64 now) const
{
    if (!m_counting)
        return m_mode != Mode::terminal_count;
    u64 const passed = elapsed(now);
    switch (m_mode) {
    case Mode::terminal_count:
        return (m_frozen || now >= m_origin) && passed >= m_count;
    case Mode::one_shot:
        return now < m_origin || passed >= m_count;
    case Mode::rate_generator:
        return !m_gate || passed % m_count != m_count - 1 || m_count == 1;
    case Mode::square_wave:
        return !m_gate || passed % m_count < (m_count + 1) / 2;
    default: // strobes
        return passed != m_count;
    }
}

PitChannel::Edges PitChannel::edges(u64 now) const
{
    Edges edges;
    if (!m_counting || m_frozen)
        return edges;
    if (is_periodic()) {
        edges.origin = m_origin;
        edges.period = m_count;
        return edges;
    }
    bool const strobe = m_mode == Mode::software_strobe || m_mode == Mode::hardware_strobe;
    u64 const edge = m_origin + m_count + (strobe ? 1 : 0);
    if (edge > now)
        edges.once = edge;
    return edges;
}

u8 PitChannel::status(u64 now) const
{
    u8 const word = static_cast<u8>(static_cast<unsigned>(m_access) << 4 | static_cast<unsigned>(m_mode) << 1 | (m_bcd ? 1 : 0));
    return static_cast<u8>(word | (output(now) ? status_output : 0) | (m_null_count ? status_null_count : 0));
}

// A latched value stays until it has been read; later latch commands are ignored ("Counter Latch Command").
void PitChannel::latch(Latch what, u64 now)
{
    bool const count = static_cast<u8>(what) & static_cast<u8>(Latch::count);
    bool const own_status = static_cast<u8>(what) & static_cast<u8>(Latch::status);
    if (count && !m_latched_count)
        m_latched_count = current(now);
    if (own_status && !m_latched_status)
        m_latched_status = status(now);
}

u8 PitChannel::read_data(u64 now)
{
    if (m_latched_status) {
        u8 const value = *m_latched_status;
        m_latched_status.reset();
        return value;
    }
    u16 const value = m_latched_count ? *m_latched_count : current(now);
    bool const high = m_access == Access::high || (m_access == Access::low_then_high && m_high_next);
    if (m_access == Access::low_then_high)
        m_high_next = !m_high_next;
    if (m_access != Access::low_then_high || high)
        m_latched_count.reset();
    return static_cast<u8>(high ? value >> 8 : value);
}

void PitChannel::set_gate(bool level, u64 now)
{
    if (level == m_gate)
        return;
    m_gate = level;
    if (is_triggered_by_gate()) {
        if (level && (m_count != 0 || m_next_count != 0)) {
            if (m_next_count != 0)
                m_count = m_next_count;
            m_next_count = 0;
            start(now);
        }
        return;
    }
    if (!m_counting)
        return;
    if (!level) {
        m_frozen = elapsed(now);
    } else if (is_periodic()) {
        if (m_next_count != 0)
            m_count = m_next_count;
        m_next_count = 0;
        start(now); // a rising gate starts the period anew
    } else {
        m_origin = now - *m_frozen; // elapsed ticks never exceed the time that passed
        m_frozen.reset();
    }
}

void PitChannel::save(Encoder& out) const
{
    out.put_u8(static_cast<u8>(m_mode));
    out.put_u8(static_cast<u8>(m_access));
    for (bool const flag : { m_bcd, m_gate, m_counting, m_null_count, m_high_next })
        out.put_bool(flag);
    out.put_u32(m_count);
    out.put_u32(m_next_count);
    out.put_u64(m_reload_tick);
    out.put_u64(m_origin);
    out.put_bool(m_frozen.has_value());
    out.put_u64(m_frozen.value_or(0));
    out.put_bool(m_low_written.has_value());
    out.put_u8(m_low_written.value_or(0));
    out.put_bool(m_latched_count.has_value());
    out.put_u16(m_latched_count.value_or(0));
    out.put_bool(m_latched_status.has_value());
    out.put_u8(m_latched_status.value_or(0));
}

bool PitChannel::restore(Decoder& in)
{
    auto const optional_of = [&](auto get) {
        bool const present = in.get_bool();
        auto const value = get();
        return present ? std::optional(value) : std::nullopt;
    };
    u8 const mode = in.get_u8();
    u8 const access = in.get_u8();
    for (bool* const flag : { &m_bcd, &m_gate, &m_counting, &m_null_count, &m_high_next })
        *flag = in.get_bool();
    m_count = in.get_u32();
    m_next_count = in.get_u32();
    m_reload_tick = in.get_u64();
    m_origin = in.get_u64();
    m_frozen = optional_of([&] { return in.get_u64(); });
    m_low_written = optional_of([&] { return in.get_u8(); });
    m_latched_count = optional_of([&] { return in.get_u16(); });
    m_latched_status = optional_of([&] { return in.get_u8(); });
    if (!in.ok() || mode > static_cast<u8>(Mode::hardware_strobe) || access == 0 || access > 3)
        return false;
    m_mode = static_cast<Mode>(mode);
    m_access = static_cast<Access>(access);
    constexpr u64 far_future = u64 { 1 } << 62;
    return m_count <= modulus() && m_next_count <= modulus() && (!m_counting || m_count != 0) && m_origin < far_future
        && m_frozen.value_or(0) <= m_origin + far_future;
}

} // namespace anyhyve
