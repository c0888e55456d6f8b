// Time in ticks of a device's oscillator, and the schedule of a periodic interrupt.
// All counters are functions of the machine's clock, so they never drift against each other.
#pragma once

#include <functional>
#include <memory>

#include "vmm/clock.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

// An oscillator that has been running since the machine's power-on.
struct TickRate {
    u64 hertz;

    static constexpr u64 second = 1'000'000'000; // in nanoseconds

    // Whole ticks at machine time `now`.
    u64 ticks(Clock::Nanoseconds now) const;
    // The first nanosecond at which ticks() is `tick` or more; Clock::never when that is beyond the end of time.
    Clock::Nanoseconds time_of(u64 tick) const;
};

// When a periodic interrupt is due. Interrupts that the host was too busy to deliver in time are made up for at up to twice the
// programmed rate, so that a guest that counts them keeps its time; a long standstill, or a period no host can keep, merges them.
class TickSchedule {
public:
    // Two interrupts are at least this far apart: the host's timers cannot be flooded.
    static constexpr Clock::Nanoseconds least_gap = 50'000;
    // A backlog longer than this is dropped.
    static constexpr Clock::Nanoseconds most_backlog = 250'000'000;

    explicit TickSchedule(TickRate rate) : m_rate(rate) {}

    // Interrupt k (k = 0, 1, ...) is due at tick first + k * period. `period` is not 0.
    void start(u64 first, u64 period);
    void stop() { m_period = 0; }
    bool running() const { return m_period != 0; }
    // When to call take(); Clock::never when stopped.
    Clock::Nanoseconds next() const;
    // True when an interrupt is due at `now`, which is thereby taken.
    bool take(Clock::Nanoseconds now);
    // Counts everything due at `now` as taken.
    void skip(Clock::Nanoseconds now);

    // How many have been due up to `now`, taken or not.
    u64 due(Clock::Nanoseconds now) const;

    void save(Encoder&) const;
    void restore(Decoder&);

private:

    TickRate m_rate;
    u64 m_first = 0;
    u64 m_period = 0; // 0: stopped
    u64 m_taken = 0;
    Clock::Nanoseconds m_not_before = 0;
};

// A clock timer that is only bothered when its deadline changes. No lock of its own: call it under the device's.
// Its callback begins with rang(), under that lock, and must bear being called early.
class Alarm {
public:
    Alarm(Clock& clock, std::function<void()> callback)
        : m_timer(clock.create_timer(std::move(callback)))
    {
    }
    void set(Clock::Nanoseconds when)
    {
        if (when != m_when)
            m_timer->arm(m_when = when);
    }
    void rang() { m_when = Clock::never; }

private:
    Clock::Nanoseconds m_when = Clock::never;
    std::unique_ptr<Clock::Timer> m_timer;
};

} // namespace anyhyve
