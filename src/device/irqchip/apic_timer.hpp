// The timer of a local APIC: one-shot, periodic and TSC-deadline.
// Spec: Intel SDM vol. 3A 10.5.4. State: initial count, divider, mode, deadline. Missing: nothing.
// It has no lock of its own: the local APIC calls it under its lock.
#pragma once

#include "device/timer/tick_schedule.hpp"

namespace anyhyve {

class ApicTimer {
public:
    enum class Mode : u8 { one_shot = 0, periodic = 1, tsc_deadline = 2, reserved = 3 };
    enum class Interrupts : u8 { masked, wanted };

    // `due` is called on the clock's thread: then rang() and run() are to be called.
    ApicTimer(Clock&, TickRate bus, std::function<void()> due);

    void rang() { m_alarm.rang(); }
    // True when the timer has expired since the last call: its interrupt is to be sent. Call it before any other function here.
    bool run();

    void configure(Mode, Interrupts);
    void set_divide_configuration(u8 value);
    u8 divide_configuration() const { return m_divide; }
    void set_initial_count(u32);
    u32 initial_count() const { return m_initial; }
    u32 current_count();
    // IA32_TSC_DEADLINE; 0: not armed. In other modes it reads 0 and ignores writes.
    void set_deadline(u64 tsc);
    u64 deadline() const { return m_deadline; }

    void reset();
    void save(Encoder&) const;
    bool restore(Decoder&);

private:
    unsigned divider() const;
    u64 elapsed(Clock::Nanoseconds now) const;
    u64 expiry_tick() const { return m_start + u64 { m_initial } * divider(); }
    void restart(u64 start);
    void arm();

    Clock& m_clock;
    TickRate m_bus;
    Mode m_mode = Mode::one_shot;
    Interrupts m_interrupts = Interrupts::masked;
    u8 m_divide = 0;
    u32 m_initial = 0;
    u64 m_start = 0;           // bus tick at which counting from m_initial began
    bool m_counting = false;   // one-shot: not yet expired
    u64 m_deadline = 0;
    TickSchedule m_periods;
    Alarm m_alarm; // last: destroyed first, which waits for its callback
};

} // namespace anyhyve
