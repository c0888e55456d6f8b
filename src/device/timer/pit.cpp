// Ports of the 8254, port 0x61, and interrupt 0.
#include "device/timer/pit.hpp"

#include <algorithm>

#include "base/bits.hpp"

namespace anyhyve {

namespace {

constexpr u64 mode_port = 3;
constexpr unsigned read_back = 3; // where a control word names the channel

// Port 0x61
constexpr u8 speaker_gate = 1 << 0, refresh_toggle = 1 << 4, speaker_output = 1 << 5;
constexpr u8 control_writable = 0x0f;
constexpr Clock::Nanoseconds refresh_period = 15'085; // 18 ticks of the 8254

} // namespace

Pit::Pit(Clock& clock, IrqLine interrupt)
    : m_clock(clock)
    , m_interrupt(interrupt)
    , m_alarm(clock, [this] { alarm_rang(); })
{
    reset();
}

void Pit::reset()
{
    std::lock_guard const lock(m_mutex);
    m_channels = {};
    m_channels[s_speaker_channel].set_gate(false, 0);
    m_system_control = 0;
    m_periodic.stop();
    m_once.reset();
    arm();
}

void Pit::alarm_rang()
{
    std::lock_guard const lock(m_mutex);
    m_alarm.rang();
    catch_up();
}

u64 Pit::catch_up()
{
    Clock::Nanoseconds const now = m_clock.now();
    u64 const tick = rate.ticks(now);
    bool const once_is_due = m_once && tick >= *m_once;
    if (once_is_due)
        m_once.reset();
    if (m_periodic.take(now) || once_is_due)
        m_interrupt.pulse();
    for (PitChannel& channel : m_channels) {
        if (channel.advance(tick) && &channel == &m_channels[s_timer_channel])
            reschedule(tick);
    }
    arm();
    return tick;
}

// After a change of channel 0.
void Pit::reschedule(u64 now)
{
    auto const edges = m_channels[s_timer_channel].edges(now);
    m_once = edges.once;
    if (edges.period != 0)
        m_periodic.start(edges.origin + edges.period, edges.period);
    else
        m_periodic.stop();
    arm();
}

void Pit::arm()
{
    Clock::Nanoseconds when = m_periodic.next();
    if (m_once)
        when = std::min(when, rate.time_of(*m_once));
    if (auto const reload = m_channels[s_timer_channel].reload_tick(); reload && m_periodic.running())
        when = std::min(when, rate.time_of(*reload));
    m_alarm.set(when);
}

u8 Pit::read_counters(u64 offset)
{
    std::lock_guard const lock(m_mutex);
    if (offset >= mode_port)
        return 0xff;
    u64 const now = catch_up();
    return m_channels[offset].read_data(now);
}

void Pit::write_counters(u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset > mode_port)
        return;
    u64 const now = catch_up();
    if (offset == mode_port) {
        write_mode(value, now);
        return;
    }
    PitChannel& channel = m_channels[offset];
    bool const reload_was_waiting = channel.reload_tick().has_value();
    channel.write_data(value, now);
    if (offset != s_timer_channel)
        return;
    if (channel.reload_tick() || reload_was_waiting)
        arm(); // the current period goes on
    else
        reschedule(now);
}

void Pit::write_mode(u8 value, u64 now)
{
    unsigned const index = static_cast<unsigned>(bits(value, 7, 6));
    if (index == read_back) {
        // "Read-Back Command": the two bits are active low.
        auto const what = static_cast<unsigned>(~bits(value, 5, 4) & 3);
        unsigned const both_swapped = (what >> 1 & 1) | (what << 1 & 2); // bit 5 is the count, bit 4 the status
        for (unsigned i = 0; i < m_channels.size(); ++i) {
            if (value >> (i + 1) & 1)
                m_channels[i].latch(static_cast<PitChannel::Latch>(both_swapped), now);
        }
        return;
    }
    PitChannel& channel = m_channels[index];
    bool const is_latch_command = bits(value, 5, 4) == 0;
    bool const before = channel.output(now);
    channel.write_control(value, now);
    if (index != s_timer_channel || is_latch_command)
        return;
    if (!before && channel.output(now))
        m_interrupt.pulse(); // most modes begin with OUT high
    reschedule(now);
}

u8 Pit::read_system_control(u64)
{
    std::lock_guard const lock(m_mutex);
    u64 const now = catch_up();
    bool const toggle = m_clock.now() / refresh_period & 1;
    return static_cast<u8>(m_system_control | (toggle ? refresh_toggle : 0) | (m_channels[s_speaker_channel].output(now) ? speaker_output : 0));
}

void Pit::write_system_control(u64, u8 value)
{
    std::lock_guard const lock(m_mutex);
    u64 const now = catch_up();
    m_system_control = value & control_writable;
    m_channels[s_speaker_channel].set_gate(value & speaker_gate, now);
}

void Pit::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    for (PitChannel const& channel : m_channels)
        channel.save(out);
    out.put_u8(m_system_control);
    m_periodic.save(out);
    out.put_bool(m_once.has_value());
    out.put_u64(m_once.value_or(0));
}

Result<void> Pit::restore(Decoder& in, u32 version)
{
    reset();
    if (version != state_version())
        return make_error(0, "atpit: version {} of its saved state is unknown", version);
    bool sane = true;
    {
        std::lock_guard const lock(m_mutex);
        for (PitChannel& channel : m_channels)
            sane = channel.restore(in) && sane;
        m_system_control = in.get_u8() & control_writable;
        m_periodic.restore(in);
        bool const once = in.get_bool();
        u64 const tick = in.get_u64();
        if (once)
            m_once = tick;
        sane = sane && in.ok();
        if (sane)
            arm();
    }
    if (!sane) {
        reset();
        return make_error(0, "atpit: its saved state is damaged");
    }
    return {};
}

} // namespace anyhyve
