// The real-time clock of a PC with its 128 bytes of battery-backed memory.
//
// Spec: Motorola MC146818A data sheet. The layout of memory sizes (0x34, 0x5b) and the century (0x32) is the one that firmware
// for virtual machines reads.
// State: the date as seconds at a machine time, all 128 bytes. Missing: daylight saving (bit DSE is kept, without effect), square wave.
// Threads: any; one lock, held while interrupt 8 changes.
#pragma once

#include <array>
#include <mutex>
#include <optional>

#include "device/timer/calendar.hpp"
#include "device/timer/tick_schedule.hpp"
#include "vmm/byte_window.hpp"
#include "vmm/irq_line.hpp"

namespace anyhyve {

class Rtc final : public Persistent {
public:
    static constexpr unsigned memory_size = 128;
    static constexpr TickRate oscillator { 32768 };

    // What the registers show when the host's clock shows UTC.
    enum class Base : u8 { utc, local };
    static i64 host_seconds(Base);

    // `seconds`: what the clock shows now, as seconds since 1970. `low` and `high`: bytes of RAM below and above 4 GiB.
    Rtc(Clock&, IrqLine interrupt, i64 seconds, u64 low, u64 high);

    BusDevice& ports() { return m_window; } // two ports at 0x70

    // For bhyvectl.
    i64 time() const;
    // Fails when the registers cannot show it: they have four digits for the year.
    Result<void> set_time(i64 seconds);
    Result<u8> memory(unsigned offset) const;
    Result<void> set_memory(unsigned offset, u8 value);

    std::string_view state_name() const override { return "rtc"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    u8 read_port(u64 offset);
    void write_port(u64 offset, u8 value);
    u8 read_register(u8 index);
    void write_register(u8 index, u8 value);
    u8 read_flags();
    void write_status_a(u8 value, Clock::Nanoseconds now);
    void write_status_b(u8 value, Clock::Nanoseconds now);

    bool running() const;
    i64 seconds_at(Clock::Nanoseconds now) const;
    bool update_in_progress(Clock::Nanoseconds now) const;
    Clock::Nanoseconds time_of_second(i64 seconds) const;
    u8 encode(int value) const;
    int decode(u8 value) const;
    u8 encode_hour(int hour) const;
    std::optional<int> decode_hour(u8 value) const;
    void refresh_fields(Clock::Nanoseconds now);
    void take_fields(Clock::Nanoseconds now);
    void set_seconds(i64 seconds, Clock::Nanoseconds now);
    std::optional<i64> next_alarm(i64 after) const;
    u64 period() const;

    void restart_periods(Clock::Nanoseconds now);
    // Sets the flags of everything that has happened by now, which it returns: nothing more happens amid an access.
    Clock::Nanoseconds catch_up();
    void update_line();
    void arm();
    void alarm_rang();

    Clock& m_clock;
    IrqLine m_interrupt;
    mutable std::mutex m_mutex;
    std::array<u8, memory_size> m_memory {}; // registers A-D and the date fields included
    u8 m_index = 0;
    i64 m_base_seconds;                 // what the clock showed ...
    Clock::Nanoseconds m_base_time;     // ... at this machine time
    bool m_fields_valid = true;         // false: the guest wrote no possible date, which stands until it writes another
    i64 m_seen_second;                  // updates and alarms up to this second have set their flags
    std::optional<i64> m_next_alarm;
    TickSchedule m_periods { oscillator };

    ByteWindow<Rtc, &Rtc::read_port, &Rtc::write_port> m_window { *this };
    Alarm m_alarm; // last: destroyed first, which waits for its callback
};

} // namespace anyhyve
