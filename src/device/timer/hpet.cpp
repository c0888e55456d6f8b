// Registers, comparators and interrupt routes of the HPET.
#include "device/timer/hpet.hpp"

#include <algorithm>

#include "base/bits.hpp"

namespace anyhyve {

namespace {

enum class Register : u64 {
    capabilities = 0x000,   // R
    config = 0x010,         // RW
    status = 0x020,         // write 1 to clear
    counter = 0x0f0,        // RW
    first_comparator = 0x100,
};
constexpr u64 comparator_stride = 0x20;

enum class ComparatorRegister : u64 {
    config = 0x00,   // RW
    compare = 0x08,  // RW
    message = 0x10,  // RW, FSB interrupt route
};

// 2.3.5
constexpr u64 config_enable = bit(0), config_legacy = bit(1);

// 2.3.8
constexpr u64 timer_level = bit(1), timer_interrupt = bit(2), timer_periodic = bit(3), timer_periodic_capable = bit(4), timer_64_bit_capable = bit(5),
              timer_value_set = bit(6), timer_32_bit = bit(8), timer_route = bits(~u64 { 0 }, 4, 0) << 9, timer_message = bit(14), timer_message_capable = bit(15);
constexpr u64 timer_writable = timer_level | timer_interrupt | timer_periodic | timer_value_set | timer_32_bit | timer_route | timer_message;
constexpr u64 possible_routes = 0x00f00000; // IOAPIC pins 20..23
constexpr u64 timer_fixed = timer_periodic_capable | timer_64_bit_capable | timer_message_capable | possible_routes << 32;

constexpr u64 late_window = 100'000; // ticks: 10 ms

constexpr unsigned legacy_timer_interrupt = 0, legacy_rtc_interrupt = 8;

u64 mask_of(u64 config)
{
    return config & timer_32_bit ? 0xffffffff : ~u64 { 0 };
}

unsigned route_of(u64 config)
{
    return static_cast<unsigned>(bits(config, 13, 9));
}

} // namespace

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
    u64 const passed = comparator.periods.running() ? comparator.periods.due(m_clock.now()) : 0;
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
    Clock::Nanoseconds const now = m_clock.now();
    u64 const now_tick = rate.ticks(now);
    for (unsigned i = 0; i < timer_count; ++i) {
        Comparator& comparator = m_comparators[i];
        if (comparator.due && now_tick >= *comparator.due) {
            if (comparator.config & timer_32_bit) // comes round again when the low half does
                *comparator.due += align_down(now_tick - *comparator.due, bit(32)) + bit(32);
            else
                comparator.due.reset();
            fire(i);
        } else if (comparator.periods.take(now)) {
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
    catch_up();
    arm();
}

u64 Hpet::read(u64 offset, unsigned width)
{
    if (offset >= register_space)
        return mask_of_bytes(width);
    std::lock_guard const lock(m_mutex);
    u64 const shift = 8 * (offset & 7);
    return read_register(offset & ~u64 { 7 }) >> shift & mask_of_bytes(width);
}

void Hpet::write(u64 offset, unsigned width, u64 value)
{
    if (offset >= register_space)
        return;
    std::lock_guard const lock(m_mutex);
    u64 const shift = 8 * (offset & 7);
    catch_up();
    write_register(offset & ~u64 { 7 }, value << shift, mask_of_bytes(width) << shift);
    catch_up(); // what was set too late
    arm();
}

u64 Hpet::read_register(u64 offset)
{
    switch (static_cast<Register>(offset)) {
    case Register::capabilities:
        return u64 { period_femtoseconds } << 32 | hardware_id;
    case Register::config:
        return m_config;
    case Register::status:
        catch_up();
        arm();
        return m_status;
    case Register::counter:
        return counter();
    default:
        break;
    }
    u64 const place = offset - static_cast<u64>(Register::first_comparator);
    if (offset < static_cast<u64>(Register::first_comparator) || place / comparator_stride >= timer_count)
        return 0;
    return read_comparator(static_cast<unsigned>(place / comparator_stride), place % comparator_stride);
}

// `written`: which bits the access covers; the others keep their value.
void Hpet::write_register(u64 offset, u64 value, u64 written)
{
    auto const merge = [&](u64 old) { return (old & ~written) | (value & written); };
    switch (static_cast<Register>(offset)) {
    case Register::capabilities:
        return;
    case Register::config:
        write_general_config(merge(m_config) & (config_enable | config_legacy));
        return;
    case Register::status:
        m_status &= ~(value & written);
        for (unsigned i = 0; i < timer_count; ++i)
            update_line(i);
        return;
    case Register::counter:
        set_counter(merge(counter()));
        return;
    default:
        break;
    }
    u64 const place = offset - static_cast<u64>(Register::first_comparator);
    if (offset < static_cast<u64>(Register::first_comparator) || place / comparator_stride >= timer_count)
        return;
    write_comparator(static_cast<unsigned>(place / comparator_stride), place % comparator_stride, value, written);
}

void Hpet::write_general_config(u64 value)
{
    u64 const changed = m_config ^ value;
    if (changed & config_enable) {
        // What stands still keeps its values; what starts is scheduled from them.
        for (Comparator& comparator : m_comparators)
            comparator.compare = compare_now(comparator);
        m_counter = counter();
        m_started = tick();
        m_config = value;
        schedule_all();
    }
    m_config = value;
    if (changed & config_legacy) {
        bool const replaced = value & config_legacy;
        // Never two drivers on one wire: the replacement starts after the others have let go.
        if (replaced)
            m_wires.legacy_replacement(true);
        select_line(0);
        select_line(1);
        if (!replaced)
            m_wires.legacy_replacement(false);
    }
}

void Hpet::set_counter(u64 value)
{
    for (Comparator& comparator : m_comparators)
        comparator.compare = compare_now(comparator);
    m_counter = value;
    m_started = tick();
    schedule_all();
}

u64 Hpet::read_comparator(unsigned index, u64 offset) const
{
    Comparator const& comparator = m_comparators[index];
    switch (static_cast<ComparatorRegister>(offset)) {
    case ComparatorRegister::config:
        return comparator.config | timer_fixed;
    case ComparatorRegister::compare:
        return compare_now(comparator);
    case ComparatorRegister::message:
        return comparator.message;
    }
    return 0;
}

void Hpet::write_comparator(unsigned index, u64 offset, u64 value, u64 written)
{
    Comparator& comparator = m_comparators[index];
    switch (static_cast<ComparatorRegister>(offset)) {
    case ComparatorRegister::config:
        write_comparator_config(index, ((comparator.config & ~written) | (value & written)) & timer_writable);
        break;
    case ComparatorRegister::compare:
        write_compare(comparator, value, written);
        break;
    case ComparatorRegister::message:
        comparator.message = (comparator.message & ~written) | (value & written);
        break;
    }
}

void Hpet::write_comparator_config(unsigned index, u64 value)
{
    Comparator& comparator = m_comparators[index];
    u64 const changed = comparator.config ^ value;
    u64 const compare = compare_now(comparator);
    comparator.config = value;
    if (changed & (timer_periodic | timer_32_bit)) {
        comparator.compare = compare & mask_of(value);
        schedule(comparator, Late::waits);
    } else if (changed & timer_interrupt) {
        comparator.periods.skip(m_clock.now()); // what was not wanted is not made up for
    }
    if (!(value & timer_level))
        m_status &= ~bit(index);
    if (changed & timer_route)
        select_line(index);
    else
        update_line(index);
}

// 2.3.9.2.2: in periodic mode a write sets the period, and the compare value too when VAL_SET was set before.
void Hpet::write_compare(Comparator& comparator, u64 value, u64 written)
{
    u64 const compare = compare_now(comparator);
    bool const periodic = comparator.config & timer_periodic;
    bool const sets_compare = !periodic || comparator.config & timer_value_set;
    u64 const mask = mask_of(comparator.config);
    comparator.compare = sets_compare ? ((compare & ~written) | (value & written)) & mask : compare;
    if (periodic) {
        comparator.period = ((comparator.period & ~written) | (value & written)) & mask;
        comparator.config &= ~timer_value_set;
    }
    schedule(comparator, sets_compare ? Late::fires : Late::waits);
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
