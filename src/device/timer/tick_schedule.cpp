// Conversions between ticks and nanoseconds, and the pacing of periodic interrupts.
#include "device/timer/tick_schedule.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace anyhyve {

__extension__ using u128 = unsigned __int128;

static u64 saturate(u128 value)
{
    return value > ~u64 { 0 } ? ~u64 { 0 } : static_cast<u64>(value);
}

u64 TickRate::ticks(Clock::Nanoseconds now) const
{
    return saturate(u128 { now } * hertz / second);
}

Clock::Nanoseconds TickRate::time_of(u64 tick) const
{
    return saturate((u128 { tick } * second + hertz - 1) / hertz);
}

void TickSchedule::start(u64 first, u64 period)
{
    ASSERT(period != 0, "a periodic timer has a period");
    m_first = first;
    m_period = period;
    m_taken = 0;
    m_not_before = 0;
}

u64 TickSchedule::due(Clock::Nanoseconds now) const
{
    u64 const tick = m_rate.ticks(now);
    return m_period == 0 || tick < m_first ? 0 : (tick - m_first) / m_period + 1;
}

Clock::Nanoseconds TickSchedule::next() const
{
    if (!running())
        return Clock::never;
    u128 const tick = m_first + u128 { m_taken } * m_period;
    return std::max(m_rate.time_of(saturate(tick)), m_not_before);
}

bool TickSchedule::take(Clock::Nanoseconds now)
{
    u64 const due_now = due(now);
    if (due_now <= m_taken || now < m_not_before)
        return false;
    Clock::Nanoseconds const period = m_rate.time_of(m_period);
    u128 const backlog = u128 { due_now - m_taken } * period;
    m_taken = backlog > most_backlog + period || period < 2 * least_gap ? due_now : m_taken + 1;
    m_not_before = now + std::clamp(period / 2, least_gap, most_backlog);
    return true;
}

void TickSchedule::skip(Clock::Nanoseconds now)
{
    m_taken = std::max(m_taken, due(now));
}

void TickSchedule::save(Encoder& out) const
{
    out.put_u64(m_first);
    out.put_u64(m_period);
    out.put_u64(m_taken);
    out.put_u64(m_not_before);
}

void TickSchedule::restore(Decoder& in)
{
    m_first = in.get_u64();
    m_period = in.get_u64();
    m_taken = in.get_u64();
    m_not_before = in.get_u64();
}

} // namespace anyhyve
