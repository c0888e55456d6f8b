// Counting and expiry of the local APIC's timer.
#include "device/irqchip/apic_timer.hpp"

#include <algorithm>

#include "base/bits.hpp"

namespace anyhyve {

ApicTimer::ApicTimer(Clock& clock, TickRate bus, std::function<void()> due)
    : m_clock(clock)
    , m_bus(bus)
    , m_periods(bus)
    , m_alarm(clock, std::move(due))
{
}

// Figure 10-10: bits 3, 1, 0 are 0..7 for divisors 2, 4, ... 128, 1.
unsigned ApicTimer::divider() const
{
    unsigned const code = (m_divide & 3) | (m_divide >> 1 & 4);
    return 1u << ((code + 1) & 7);
}

u64 ApicTimer::elapsed(Clock::Nanoseconds now) const
{
    u64 const tick = m_bus.ticks(now);
    return tick <= m_start ? 0 : (tick - m_start) / divider();
}

bool ApicTimer::run()
{
    Clock::Nanoseconds const now = m_clock.now();
    bool expired = false;
    switch (m_mode) {
    case Mode::one_shot:
        if (m_counting && elapsed(now) >= m_initial) {
            m_counting = false;
            expired = true;
        }
        break;
    case Mode::periodic:
        expired = m_periods.take(now);
        break;
    case Mode::tsc_deadline:
        if (m_deadline != 0 && now >= m_clock.from_tsc(m_deadline)) {
            m_deadline = 0;
            expired = true;
        }
        break;
    case Mode::reserved:
        break;
    }
    arm();
    return expired && m_interrupts == Interrupts::wanted;
}

void ApicTimer::arm()
{
    Clock::Nanoseconds when = Clock::never;
    if (m_interrupts == Interrupts::wanted) {
        if (m_mode == Mode::one_shot && m_counting)
            when = m_bus.time_of(expiry_tick());
        else if (m_mode == Mode::periodic)
            when = m_periods.next();
        else if (m_mode == Mode::tsc_deadline && m_deadline != 0)
            when = m_clock.from_tsc(m_deadline);
    }
    m_alarm.set(when);
}

void ApicTimer::restart(u64 start)
{
    m_start = start;
    m_counting = m_mode == Mode::one_shot && m_initial != 0;
    if (m_mode == Mode::periodic && m_initial != 0)
        m_periods.start(expiry_tick(), u64 { m_initial } * divider());
    else
        m_periods.stop();
    arm();
}

void ApicTimer::configure(Mode mode, Interrupts interrupts)
{
    Mode const before = m_mode;
    bool const was_masked = m_interrupts == Interrupts::masked;
    m_interrupts = interrupts;
    if (mode != before) {
        bool const was_counting = before == Mode::periodic ? m_periods.running() : m_counting;
        u64 const start = before == Mode::periodic ? m_bus.ticks(m_clock.now()) - (m_initial - current_count()) * u64 { divider() } : m_start;
        m_mode = mode;
        m_deadline = 0;
        // 10.5.4.1: a change to or from TSC-deadline mode disarms the timer; between the others counting goes on.
        if (mode == Mode::tsc_deadline || before == Mode::tsc_deadline || mode == Mode::reserved || before == Mode::reserved || !was_counting) {
            m_counting = false;
            m_periods.stop();
        } else {
            restart(start);
        }
    }
    if (was_masked || interrupts == Interrupts::masked) // what expired in silence is not made up for
        m_periods.skip(m_clock.now());
    arm();
}

void ApicTimer::set_divide_configuration(u8 value)
{
    Clock::Nanoseconds const now = m_clock.now();
    bool const counting = m_counting || m_periods.running();
    u64 const passed = counting ? m_initial - current_count() : 0;
    m_divide = value & 0xb;
    if (counting) {
        u64 const tick = m_bus.ticks(now);
        u64 const behind = passed * divider();
        restart(tick > behind ? tick - behind : 0);
    }
}

void ApicTimer::set_initial_count(u32 count)
{
    if (m_mode == Mode::tsc_deadline)
        return;
    m_initial = count;
    restart(m_bus.ticks(m_clock.now()));
}

u32 ApicTimer::current_count()
{
    if (m_initial == 0)
        return 0;
    u64 const passed = elapsed(m_clock.now());
    if (m_mode == Mode::periodic && m_periods.running())
        return m_initial - static_cast<u32>(passed % m_initial);
    if (m_mode == Mode::one_shot && m_counting)
        return passed >= m_initial ? 0 : m_initial - static_cast<u32>(passed);
    return 0;
}

void ApicTimer::set_deadline(u64 tsc)
{
    if (m_mode != Mode::tsc_deadline)
        return;
    m_deadline = tsc;
    arm();
}

void ApicTimer::reset()
{
    m_mode = Mode::one_shot;
    m_interrupts = Interrupts::masked;
    m_divide = 0;
    m_initial = 0;
    m_start = 0;
    m_counting = false;
    m_deadline = 0;
    m_periods.stop();
    arm();
}

void ApicTimer::save(Encoder& out) const
{
    out.put_u8(static_cast<u8>(m_mode));
    out.put_u8(static_cast<u8>(m_interrupts));
    out.put_u8(m_divide);
    out.put_u32(m_initial);
    out.put_u64(m_start);
    out.put_bool(m_counting);
    out.put_u64(m_deadline);
    m_periods.save(out);
}

bool ApicTimer::restore(Decoder& in)
{
    u8 const mode = in.get_u8();
    u8 const interrupts = in.get_u8();
    m_divide = in.get_u8() & 0xb;
    m_initial = in.get_u32();
    m_start = in.get_u64();
    m_counting = in.get_bool();
    m_deadline = in.get_u64();
    m_periods.restore(in);
    bool const sane = in.ok() && mode <= static_cast<u8>(Mode::reserved) && interrupts <= 1 && m_start <= m_bus.ticks(m_clock.now())
        && (!m_periods.running() || (mode == static_cast<u8>(Mode::periodic) && m_initial != 0))
        && (!m_counting || (mode == static_cast<u8>(Mode::one_shot) && m_initial != 0));
    if (!sane) {
        reset();
        return false;
    }
    m_mode = static_cast<Mode>(mode);
    m_interrupts = static_cast<Interrupts>(interrupts);
    arm();
    return true;
}

} // namespace anyhyve
