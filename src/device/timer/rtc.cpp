// Registers, flags and interrupts of the MC146818A.
#include "device/timer/rtc.hpp"

#include <algorithm>
#include <ctime>

#include "base/bits.hpp"

namespace anyhyve {

namespace {

enum Register : u8 {
    second = 0x00,        // RW
    second_alarm = 0x01,  // RW
    minute = 0x02,        // RW
    minute_alarm = 0x03,  // RW
    hour = 0x04,          // RW
    hour_alarm = 0x05,    // RW
    week_day = 0x06,      // RW
    day = 0x07,           // RW
    month = 0x08,         // RW
    year = 0x09,          // RW
    status_a = 0x0a,      // RW, update in progress R
    status_b = 0x0b,      // RW
    status_c = 0x0c,      // R, cleared by reading
    status_d = 0x0d,      // R
    base_memory = 0x15,   // two bytes, KiB below 640 KiB
    extended_memory = 0x17,        // two bytes, KiB above 1 MiB, at most 0xffff
    extended_memory_again = 0x30,  // the same
    century = 0x32,       // RW
    memory_above_16_mib = 0x34,    // two bytes, 64 KiB units
    memory_above_4_gib = 0x5b,     // three bytes, 64 KiB units
};

constexpr u8 a_update_in_progress = 1 << 7, a_divider = 7 << 4, a_rate = 15, a_divider_runs = 2 << 4;
constexpr u8 b_set = 1 << 7, b_periodic = 1 << 6, b_alarm = 1 << 5, b_update = 1 << 4, b_binary = 1 << 2, b_24_hours = 1 << 1;
constexpr u8 c_interrupt = 1 << 7, c_periodic = 1 << 6, c_alarm = 1 << 5, c_update = 1 << 4;
constexpr u8 c_flags = c_periodic | c_alarm | c_update; // the same bits enable the interrupts in register B
constexpr u8 d_valid_ram_and_time = 1 << 7;
constexpr u8 initial_a = a_divider_runs | 6; // 1024 Hz
constexpr u8 alarm_any = 0xc0; // a "don't care" code has both bits set
constexpr u8 hour_pm = 0x80;

constexpr Clock::Nanoseconds update_time = 244'000 + 1'984'000; // how long before the second UIP is set (table 5)

bool is_date_field(u8 index)
{
    return index == second || index == minute || index == hour || (index >= week_day && index <= year) || index == century;
}

bool is_alarm_field(u8 index)
{
    return index == second_alarm || index == minute_alarm || index == hour_alarm;
}

} // namespace

i64 Rtc::host_seconds(Base base)
{
    std::time_t const now = std::time(nullptr);
    std::tm local {};
    if (base == Base::local && localtime_r(&now, &local))
        return now + local.tm_gmtoff;
    return now;
}

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

// Sets the flags of everything that has happened by now.
void Rtc::catch_up()
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
    catch_up();
    if (is_date_field(index))
        refresh_fields(m_clock.now());
    if (index == status_a)
        return static_cast<u8>(m_memory[status_a] | (update_in_progress(m_clock.now()) ? a_update_in_progress : 0));
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
    catch_up();
    Clock::Nanoseconds const now = m_clock.now();
    if (index == status_a) {
        write_status_a(value);
    } else if (index == status_b) {
        write_status_b(value);
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

void Rtc::write_status_a(u8 value)
{
    Clock::Nanoseconds const now = m_clock.now();
    bool const was_running = running();
    i64 const seconds = seconds_at(now);
    refresh_fields(now);
    m_memory[status_a] = value & static_cast<u8>(~a_update_in_progress);
    // A divider that starts anew updates half a second later (data sheet, "Divider Control"); here the second starts anew.
    if (!was_running && running())
        take_fields(now);
    else if (was_running && !running())
        set_seconds(seconds, now);
    restart_periods(now);
}

void Rtc::write_status_b(u8 value)
{
    Clock::Nanoseconds const now = m_clock.now();
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

i64 Rtc::time() const
{
    std::lock_guard const lock(m_mutex);
    return seconds_at(m_clock.now());
}

void Rtc::set_time(i64 seconds)
{
    std::lock_guard const lock(m_mutex);
    catch_up();
    Clock::Nanoseconds const now = m_clock.now();
    m_fields_valid = true;
    set_seconds(seconds, now);
    m_memory[status_b] &= static_cast<u8>(~b_set);
    refresh_fields(now);
    arm();
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
