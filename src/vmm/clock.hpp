// The one clock of a machine: TSC, local APIC timer, HPET, 8254, RTC and PM timer all read it, so they never disagree.
// It stands still while the machine is paused or stopped. Threads: all calls from any thread; callbacks on the clock's own thread.
#pragma once

#include <functional>
#include <memory>

#include "base/integer.hpp"

namespace anyhyve {

class Clock {
public:
    using Nanoseconds = u64;
    static constexpr Nanoseconds never = ~u64 { 0 };

    // A one-shot alarm. Destroying or cancelling it waits until a callback that runs right now has returned (unless called from it).
    class Timer {
    public:
        virtual ~Timer() = default;
        virtual void arm(Nanoseconds deadline) = 0; // replaces an earlier deadline; one in the past fires at once
        // Waits for a running callback, so never call it with a lock held that the callback takes: arm(never) disarms and never waits.
        virtual void cancel() = 0;
    };

    virtual ~Clock() = default;
    // Nanoseconds of machine time since the machine's power-on.
    virtual Nanoseconds now() = 0;
    // The guest's TSC before any offset of its own, in ticks of tsc_frequency(). Reads the host's TSC.
    virtual u64 tsc() = 0;
    virtual u64 tsc_frequency() const = 0; // Hz
    // host TSC + offset == tsc(): lets an engine read it inline. Changes only while the machine is paused.
    virtual u64 tsc_offset() const = 0;
    virtual Nanoseconds from_tsc(u64 tsc) const = 0; // machine time at which tsc() reads `tsc`
    virtual std::unique_ptr<Timer> create_timer(std::function<void()> callback) = 0;
    // Waits, like Timer::cancel(), for a running callback; no callback runs from then until resume().
    virtual void pause() = 0;
    virtual void resume() = 0;
};

// The machine clock on the host's monotonic clock and invariant TSC. `start` is the machine time to begin at (a restored machine's).
std::unique_ptr<Clock> create_host_clock(Clock::Nanoseconds start = 0);

} // namespace anyhyve
