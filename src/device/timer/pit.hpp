// The 8254 interval timer of a PC and the system control port that gates its speaker channel.
//
// Spec: Intel 8254 data sheet; port 0x61 from the PIIX3 data sheet 2.5.6.
// State: three channels, the speaker bits of port 0x61.
// Missing: a sound; a new count in mode 3 waits for the end of the whole period, not of its half.
// Threads: any; one lock, held while interrupt 0 is pulsed.
#pragma once

#include <array>
#include <mutex>

#include "device/timer/pit_channel.hpp"
#include "device/timer/tick_schedule.hpp"
#include "vmm/byte_window.hpp"
#include "vmm/irq_line.hpp"

namespace anyhyve {

class Pit final : public Persistent {
public:
    static constexpr TickRate rate { 1'193'182 };

    Pit(Clock&, IrqLine interrupt);

    BusDevice& counters() { return m_counters_window; } // four ports at 0x40
    BusDevice& system_control() { return m_control_window; } // port 0x61

    std::string_view state_name() const override { return "atpit"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    u8 read_counters(u64 offset);
    void write_counters(u64 offset, u8 value);
    u8 read_system_control(u64 offset);
    void write_system_control(u64 offset, u8 value);
    void write_mode(u8 value, u64 now);
    void alarm_rang();
    // Everything that has happened by `now`: reloads, and interrupts of channel 0.
    u64 catch_up();
    void reschedule(u64 now);
    void arm();

    static constexpr unsigned s_timer_channel = 0, s_speaker_channel = 2;

    Clock& m_clock;
    IrqLine m_interrupt;
    mutable std::mutex m_mutex;
    std::array<PitChannel, 3> m_channels;
    u8 m_system_control = 0;
    TickSchedule m_periodic { rate };
    std::optional<u64> m_once; // tick of the one interrupt that a mode other than 2 and 3 makes

    ByteWindow<Pit, &Pit::read_counters, &Pit::write_counters> m_counters_window { *this };
    ByteWindow<Pit, &Pit::read_system_control, &Pit::write_system_control> m_control_window { *this };
    Alarm m_alarm; // last: destroyed first, which waits for its callback
};

} // namespace anyhyve
