// The date in the registers of the MC146818A: formats, running and setting it, alarms; and time and memory for the outside.
#include <ctime>

#include "device/timer/rtc_registers.hpp"

namespace anyhyve {

using namespace rtc;

i64 Rtc::host_seconds(Base base)
{
    std::time_t const now = std::time(nullptr);
    std::tm local {};
    if (base == Base::local && localtime_r(&now, &local))
        return now + local.tm_gmtoff;
    return now;
}

bool Rtc::running() const
{
    return !(m_memory[status_b] & b_set) && (m_memory[status_a] & a_divider) == a_divider_runs && m_fields_valid;
}

i64 Rtc::seconds_at(Clock::Nanoseconds now) const
{
    if (!running())
        return m_base_seconds;
    return m_base_seconds + static_cast<i64>((now - m_base_time) / TickRate::second);
}

Clock::Nanoseconds Rtc::time_of_second(i64 seconds) const
{
    return m_base_time + static_cast<u64>(seconds - m_base_seconds) * TickRate::second;
}

bool Rtc::update_in_progress(Clock::Nanoseconds now) const
{
    return running() && (now - m_base_time) % TickRate::second >= TickRate::second - update_time;
}

u8 Rtc::encode(int value) const
{
    return static_cast<u8>(m_memory[status_b] & b_binary ? value : value / 10 << 4 | value % 10);
}

int Rtc::decode(u8 value) const
{
    if (m_memory[status_b] & b_binary)
        return value;
    bool const is_bcd = (value & 15) < 10 && value >> 4 < 10;
    return is_bcd ? (value >> 4) * 10 + (value & 15) : -1;
}

u8 Rtc::encode_hour(int value) const
{
    if (m_memory[status_b] & b_24_hours)
        return encode(value);
    int const twelve = value % 12 == 0 ? 12 : value % 12;
    return static_cast<u8>(encode(twelve) | (value >= 12 ? hour_pm : 0));
}

std::optional<int> Rtc::decode_hour(u8 value) const
{
    if (m_memory[status_b] & b_24_hours) {
        int const result = decode(value);
        return result >= 0 && result < 24 ? std::optional(result) : std::nullopt;
    }
    int const twelve = decode(value & static_cast<u8>(~hour_pm));
    if (twelve < 1 || twelve > 12)
        return {};
    return twelve % 12 + (value & hour_pm ? 12 : 0);
}

// Puts the running time into the date fields.
void Rtc::refresh_fields(Clock::Nanoseconds now)
{
    if (!running())
        return;
    auto const date = CalendarTime::from_seconds(seconds_at(now));
    m_memory[second] = encode(date.second);
    m_memory[minute] = encode(date.minute);
    m_memory[hour] = encode_hour(date.hour);
    m_memory[week_day] = encode(date.week_day);
    m_memory[day] = encode(date.day);
    m_memory[month] = encode(date.month);
    m_memory[year] = encode(date.year % 100);
    m_memory[century] = encode(date.year / 100 % 100);
}

// Starts the clock from the date fields.
void Rtc::take_fields(Clock::Nanoseconds now)
{
    CalendarTime date;
    auto const hours = decode_hour(m_memory[hour]);
    int const years = decode(m_memory[year]);
    int const centuries = decode(m_memory[century]);
    date.second = decode(m_memory[second]);
    date.minute = decode(m_memory[minute]);
    date.hour = hours.value_or(-1);
    date.day = decode(m_memory[day]);
    date.month = decode(m_memory[month]);
    date.year = centuries * 100 + years;
    m_fields_valid = date.valid() && years >= 0 && years < 100 && centuries >= 0 && centuries < 100;
    if (m_fields_valid)
        set_seconds(date.to_seconds(), now);
}

void Rtc::set_seconds(i64 seconds, Clock::Nanoseconds now)
{
    m_base_seconds = m_seen_second = seconds;
    m_base_time = now;
    m_next_alarm = next_alarm(seconds);
}

// The first second after `after` whose time of day matches the alarm fields.
std::optional<i64> Rtc::next_alarm(i64 after) const
{
    constexpr i64 per_day = 86400;
    auto const matches = [&](u8 field, int value) { return (field & alarm_any) == alarm_any || decode(field) == value; };
    auto const hour_matches = [&](int value) {
        u8 const field = m_memory[hour_alarm];
        return (field & alarm_any) == alarm_any || decode_hour(field) == value;
    };
    i64 const time_of_day = ((after % per_day) + per_day) % per_day;
    i64 const midnight = after - time_of_day;
    for (i64 base : { i64 { 0 }, per_day }) {
        for (int h = 0; h < 24; ++h) {
            if (!hour_matches(h) || base + (h + 1) * 3600 <= time_of_day)
                continue;
            for (int m = 0; m < 60; ++m) {
                if (!matches(m_memory[minute_alarm], m) || base + h * 3600 + (m + 1) * 60 <= time_of_day)
                    continue;
                for (int s = 0; s < 60; ++s) {
                    i64 const candidate = base + h * 3600 + m * 60 + s;
                    if (matches(m_memory[second_alarm], s) && candidate > time_of_day)
                        return midnight + candidate;
                }
            }
        }
    }
    return {};
}

i64 Rtc::time() const
{
    std::lock_guard const lock(m_mutex);
    return seconds_at(m_clock.now());
}

Result<void> Rtc::set_time(i64 seconds)
{
    constexpr i64 year_10000 = 253'402'300'800;
    if (seconds < 0 || seconds >= year_10000)
        return make_error(EINVAL, "rtc: {} is no time between the years 1970 and 9999", seconds);
    std::lock_guard const lock(m_mutex);
    Clock::Nanoseconds const now = catch_up();
    m_fields_valid = true;
    set_seconds(seconds, now);
    m_memory[status_b] &= static_cast<u8>(~b_set);
    refresh_fields(now);
    arm();
    return {};
}

Result<u8> Rtc::memory(unsigned offset) const
{
    std::lock_guard const lock(m_mutex);
    if (offset <= status_d || offset == century || offset >= memory_size)
        return make_error(EINVAL, "rtc: byte {} is not memory", offset);
    return m_memory[offset];
}

Result<void> Rtc::set_memory(unsigned offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset <= status_d || offset == century || offset >= memory_size)
        return make_error(EINVAL, "rtc: byte {} is not memory", offset);
    m_memory[offset] = value;
    return {};
}

} // namespace anyhyve
