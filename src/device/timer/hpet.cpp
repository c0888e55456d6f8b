// Counter, comparators and interrupt routes of the HPET. Its registers are in hpet_registers.cpp.
#include <algorithm>

#include "device/timer/hpet_registers.hpp"

namespace anyhyve {

using namespace hpet;

Hpet::Hpet(Clock& clock, Wires wires)
    : m_clock(clock)
    , m_wires(std::move(wires))
    , m_alarm(clock, [this] { alarm_rang(); })
{
    clear();
}

void Hpet::reset()
{
    std::lock_guard const lock(m_mutex);
    clear();
}

void Hpet::clear()
{
    look_at_clock();
    write_general_config(0);
    m_status = 0;
    m_counter = m_started = 0;
    for (unsigned i = 0; i < timer_count; ++i) {
        m_comparators[i].line.lower();
        m_comparators[i] = {};
        m_comparators[i].compare = ~u64 { 0 };
        select_line(i);
    }
    arm();
}

bool Hpet::enabled() const
{
    return m_config & config_enable;
}

u64 Hpet::counter() const
{
    return enabled() ? m_counter + (tick() - m_started) : m_counter;
}

// Periodic comparators move on with every interrupt (2.3.9.2.2).
u64 Hpet::compare_now(Comparator const& comparator) const
{
    u64 const passed = comparator.periods.running() ? comparator.periods.due(m_now) : 0;
    return (comparator.compare + passed * (comparator.period & mask_of(comparator.config))) & mask_of(comparator.config);
}

// From counter and compare value, when it will fire next.
void Hpet::schedule(Comparator& comparator, Late late)
{
    comparator.due.reset();
    comparator.periods.stop();
    if (!enabled())
        return;
    u64 const mask = mask_of(comparator.config);
    u64 distance = (comparator.compare - counter()) & mask;
    if (late == Late::fires && mask - distance < late_window)
        distance = 0;
    u64 const now = tick();
    u64 const when = distance > ~u64 { 0 } - now ? ~u64 { 0 } : now + distance;
    u64 const period = comparator.period & mask;
    if (comparator.config & timer_periodic && period != 0)
        comparator.periods.start(when, period);
    else
        comparator.due = when;
}

void Hpet::schedule_all()
{
    for (Comparator& comparator : m_comparators)
        schedule(comparator, Late::waits);
}

void Hpet::catch_up()
{
    u64 const now_tick = tick();
    for (unsigned i = 0; i < timer_count; ++i) {
        Comparator& comparator = m_comparators[i];
        if (comparator.due && now_tick >= *comparator.due) {
            if (comparator.config & timer_32_bit) // comes round again when the low half does
                *comparator.due += align_down(now_tick - *comparator.due, bit(32)) + bit(32);
            else
                comparator.due.reset();
            fire(i);
        } else if (comparator.periods.take(m_now)) {
            fire(i);
        }
    }
}

void Hpet::fire(unsigned index)
{
    Comparator& comparator = m_comparators[index];
    bool const wanted = comparator.config & timer_interrupt;
    if (comparator.config & timer_message) {
        if (wanted)
            m_wires.messages.send_msi(comparator.message >> 32, static_cast<u32>(comparator.message));
    } else if (comparator.config & timer_level) {
        m_status |= bit(index);
        update_line(index);
    } else if (wanted) {
        comparator.line.pulse();
    }
}

void Hpet::update_line(unsigned index)
{
    Comparator& comparator = m_comparators[index];
    bool const by_level = comparator.config & timer_level && comparator.config & timer_interrupt && !(comparator.config & timer_message);
    comparator.line.set(by_level && m_status & bit(index));
}

bool Hpet::replaces_legacy(unsigned index) const
{
    return m_config & config_legacy && index < 2;
}

void Hpet::select_line(unsigned index)
{
    Comparator& comparator = m_comparators[index];
    comparator.line.lower();
    unsigned const route = route_of(comparator.config);
    if (replaces_legacy(index))
        comparator.line = IrqLine(m_wires.legacy, index == 0 ? legacy_timer_interrupt : legacy_rtc_interrupt);
    else if (possible_routes >> route & 1)
        comparator.line = IrqLine(m_wires.io_apic, route);
    else
        comparator.line = IrqLine();
    update_line(index);
}

void Hpet::arm()
{
    Clock::Nanoseconds when = Clock::never;
    for (Comparator const& comparator : m_comparators) {
        if (!(comparator.config & timer_interrupt))
            continue;
        when = std::min(when, comparator.periods.next());
        if (comparator.due)
            when = std::min(when, rate.time_of(*comparator.due));
    }
    m_alarm.set(when);
}

void Hpet::alarm_rang()
{
    std::lock_guard const lock(m_mutex);
    m_alarm.rang();
    look_at_clock();
    catch_up();
    arm();
}

void Hpet::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_u64(m_config);
    out.put_u64(m_status);
    out.put_u64(m_counter);
    out.put_u64(m_started);
    for (Comparator const& comparator : m_comparators) {
        out.put_u64(comparator.config);
        out.put_u64(comparator.compare);
        out.put_u64(comparator.period);
        out.put_u64(comparator.message);
        out.put_bool(comparator.due.has_value());
        out.put_u64(comparator.due.value_or(0));
        comparator.periods.save(out);
    }
}

Result<void> Hpet::restore(Decoder& in, u32 version)
{
    std::lock_guard const lock(m_mutex);
    clear();
    if (version != state_version())
        return make_error(0, "hpet: version {} of its saved state is unknown", version);
    u64 const config = in.get_u64() & (config_enable | config_legacy);
    u64 const status = in.get_u64() & (bit(timer_count) - 1);
    u64 const counter_value = in.get_u64();
    u64 const started = in.get_u64();
    write_general_config(config);
    m_counter = counter_value;
    m_started = started;
    m_status = status;
    for (unsigned i = 0; i < timer_count; ++i) {
        Comparator& comparator = m_comparators[i];
        comparator.config = in.get_u64() & timer_writable;
        comparator.compare = in.get_u64() & mask_of(comparator.config);
        comparator.period = in.get_u64();
        comparator.message = in.get_u64();
        bool const armed = in.get_bool();
        u64 const due = in.get_u64();
        comparator.due = armed ? std::optional(due) : std::nullopt;
        comparator.periods.restore(in);
        select_line(i);
    }
    if (!in.ok() || m_started > tick()) {
        clear();
        return make_error(0, "hpet: its saved state is damaged");
    }
    arm();
    return {};
}

} // namespace anyhyve
