// Registers, flags and interrupts of the MC146818A.
#include <algorithm>

#include "base/bits.hpp"
#include "device/timer/rtc_registers.hpp"

namespace anyhyve {

using namespace rtc;

Rtc::Rtc(Clock& clock, IrqLine interrupt, i64 seconds, u64 low, u64 high)
    : m_clock(clock)
    , m_interrupt(interrupt)
    , m_base_seconds(seconds)
    , m_base_time(clock.now())
    , m_seen_second(seconds)
    , m_alarm(clock, [this] { alarm_rang(); })
{
    auto const put = [&](unsigned at, unsigned bytes, u64 value) {
        for (unsigned i = 0; i < bytes; ++i)
            m_memory[at + i] = static_cast<u8>(value >> (8 * i));
    };
    u64 const above_1_mib = std::min<u64>(low > MiB ? (low - MiB) / KiB : 0, 0xffff);
    put(base_memory, 2, 640);
    put(extended_memory, 2, above_1_mib);
    put(extended_memory_again, 2, above_1_mib);
    put(memory_above_16_mib, 2, std::min<u64>(low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0, 0xffff));
    put(memory_above_4_gib, 3, std::min<u64>(high / (64 * KiB), 0xffffff));
    m_memory[status_a] = initial_a;
    m_memory[status_b] = b_24_hours;
    m_memory[status_d] = d_valid_ram_and_time;
    refresh_fields(m_base_time);
    restart_periods(m_base_time);
}

// The battery keeps date and memory; the reset pin clears interrupt enables and flags (data sheet, "RESET").
void Rtc::reset()
{
    std::lock_guard const lock(m_mutex);
    catch_up();
    m_index = 0;
    m_memory[status_b] &= static_cast<u8>(~(b_periodic | b_alarm | b_update));
    m_memory[status_c] = 0;
    update_line();
    arm();
}

// In ticks of the oscillator (table 5, 32.768 kHz time base); 0: no periodic flag.
u64 Rtc::period() const
{
    unsigned const rate = m_memory[status_a] & a_rate;
    if (rate == 0 || (m_memory[status_a] & a_divider) != a_divider_runs)
        return 0;
    return bit(rate <= 2 ? rate + 6 : rate - 1);
}

void Rtc::restart_periods(Clock::Nanoseconds now)
{
    u64 const ticks = period();
    if (ticks == 0)
        m_periods.stop();
    else
        m_periods.start(align_down(oscillator.ticks(now), ticks) + ticks, ticks); // the divider chain goes on whatever tap is chosen
}

Clock::Nanoseconds Rtc::catch_up()
{
    Clock::Nanoseconds const now = m_clock.now();
    if (m_periods.take(now)) {
        m_memory[status_c] |= c_periodic;
        if (!(m_memory[status_b] & b_periodic))
            m_periods.skip(now); // a flag that is only polled has no backlog
    }
    i64 const seconds = seconds_at(now);
    if (seconds > m_seen_second) {
        m_seen_second = seconds;
        m_memory[status_c] |= c_update;
        if (m_next_alarm && *m_next_alarm <= seconds) {
            m_memory[status_c] |= c_alarm;
            m_next_alarm = next_alarm(seconds);
        }
    }
    update_line();
    arm();
    return now;
}

void Rtc::update_line()
{
    u8& flags = m_memory[status_c];
    bool const wanted = flags & m_memory[status_b] & c_flags;
    flags = static_cast<u8>((flags & c_flags) | (wanted ? c_interrupt : 0));
    m_interrupt.set(wanted);
}

void Rtc::arm()
{
    u8 const enabled = m_memory[status_b];
    Clock::Nanoseconds when = Clock::never;
    if (enabled & b_periodic)
        when = m_periods.next();
    if (running() && enabled & b_update)
        when = std::min(when, time_of_second(m_seen_second + 1));
    if (running() && enabled & b_alarm && m_next_alarm)
        when = std::min(when, time_of_second(*m_next_alarm));
    m_alarm.set(when);
}

void Rtc::alarm_rang()
{
    std::lock_guard const lock(m_mutex);
    m_alarm.rang();
    catch_up();
}

u8 Rtc::read_port(u64 offset)
{
    std::lock_guard const lock(m_mutex);
    return offset == 1 ? read_register(m_index) : 0xff; // the index cannot be read
}

void Rtc::write_port(u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset == 0)
        m_index = value & (memory_size - 1); // bit 7 masks NMIs, of which the board has none to mask
    else if (offset == 1)
        write_register(m_index, value);
}

u8 Rtc::read_register(u8 index)
{
    Clock::Nanoseconds const now = catch_up();
    if (is_date_field(index))
        refresh_fields(now);
    if (index == status_a)
        return static_cast<u8>(m_memory[status_a] | (update_in_progress(now) ? a_update_in_progress : 0));
    if (index == status_c)
        return read_flags();
    return m_memory[index];
}

u8 Rtc::read_flags()
{
    u8 const flags = m_memory[status_c];
    m_memory[status_c] = 0;
    update_line();
    return flags;
}

void Rtc::write_register(u8 index, u8 value)
{
    Clock::Nanoseconds const now = catch_up();
    if (index == status_a) {
        write_status_a(value, now);
    } else if (index == status_b) {
        write_status_b(value, now);
    } else if (index == status_c || index == status_d) {
        return;
    } else if (is_date_field(index)) {
        refresh_fields(now);
        m_memory[index] = value;
        if (!(m_memory[status_b] & b_set))
            take_fields(now);
    } else {
        m_memory[index] = value;
        if (is_alarm_field(index))
            m_next_alarm = next_alarm(m_seen_second);
    }
    arm();
}

void Rtc::write_status_a(u8 value, Clock::Nanoseconds now)
{
    bool const was_running = running();
    i64 const seconds = seconds_at(now);
    refresh_fields(now);
    m_memory[status_a] = value & static_cast<u8>(~a_update_in_progress);
    // A divider that starts anew updates half a second later (data sheet, "Divider Control").
    if (!was_running && running())
        take_fields(now - std::min(now, TickRate::second / 2));
    else if (was_running && !running())
        set_seconds(seconds, now);
    restart_periods(now);
}

void Rtc::write_status_b(u8 value, Clock::Nanoseconds now)
{
    bool const was_set = m_memory[status_b] & b_set;
    refresh_fields(now);
    if (value & b_set && !was_set)
        m_base_seconds = seconds_at(now);
    bool const periodic_begins = value & b_periodic && !(m_memory[status_b] & b_periodic);
    u8 const format = m_memory[status_b] ^ value;
    m_memory[status_b] = value & b_set ? value & static_cast<u8>(~b_update) : value; // SET clears UIE
    if (was_set && !(value & b_set))
        take_fields(now);
    else if (format & (b_binary | b_24_hours))
        refresh_fields(now); // a running clock goes on in the new format
    if (periodic_begins)
        m_periods.skip(now);
    m_next_alarm = next_alarm(m_seen_second);
    update_line();
}

void Rtc::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_bytes(m_memory);
    out.put_u8(m_index);
    out.put_u64(static_cast<u64>(m_base_seconds));
    out.put_u64(m_base_time);
    out.put_bool(m_fields_valid);
    out.put_u64(static_cast<u64>(m_seen_second));
    m_periods.save(out);
}

Result<void> Rtc::restore(Decoder& in, u32 version)
{
    if (version != state_version())
        return make_error(0, "rtc: version {} of its saved state is unknown", version);
    std::array<u8, memory_size> memory {};
    in.get_bytes(memory);
    u8 const index = in.get_u8();
    i64 const base_seconds = static_cast<i64>(in.get_u64());
    Clock::Nanoseconds const base_time = in.get_u64();
    bool const valid = in.get_bool();
    i64 const seen = static_cast<i64>(in.get_u64());
    TickSchedule periods(oscillator);
    periods.restore(in);

    constexpr i64 far = i64 { 1 } << 40; // 35,000 years
    bool const sane = in.ok() && base_time <= m_clock.now() && base_seconds > -far && base_seconds < far && seen >= base_seconds && seen < far
        && index < memory_size;
    if (!sane) {
        reset();
        return make_error(0, "rtc: its saved state is damaged");
    }
    std::lock_guard const lock(m_mutex);
    m_memory = memory;
    m_memory[status_a] &= static_cast<u8>(~a_update_in_progress);
    m_memory[status_d] = d_valid_ram_and_time;
    m_index = index;
    m_base_seconds = base_seconds;
    m_base_time = base_time;
    m_fields_valid = valid;
    m_seen_second = seen;
    m_periods = periods;
    if (m_periods.running() != (period() != 0))
        restart_periods(m_clock.now());
    m_next_alarm = next_alarm(m_seen_second);
    update_line();
    arm();
    return {};
}

} // namespace anyhyve
