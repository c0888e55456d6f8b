// A clock for tests: time moves only when the test says so, and timers fire in order on the test's own thread.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "vmm/clock.hpp"

namespace anyhyve {

class FakeClock final : public Clock {
public:
    static constexpr u64 ticks_per_nanosecond = 2;

    Nanoseconds now() override { return std::exchange(m_now, m_now + m_look); }
    u64 tsc() override { return m_now * ticks_per_nanosecond; }
    u64 tsc_frequency() const override { return ticks_per_nanosecond * 1'000'000'000; }
    u64 tsc_offset() const override { return 0; }
    Nanoseconds from_tsc(u64 tsc) const override { return (tsc + ticks_per_nanosecond - 1) / ticks_per_nanosecond; }
    std::unique_ptr<Timer> create_timer(std::function<void()> callback) override { return std::make_unique<FakeTimer>(*this, std::move(callback)); }
    void pause() override {}
    void resume() override {}

    // Fires everything due on the way, each at its own time.
    void advance(Nanoseconds by) { advance_to(m_now + by); }
    void advance_to(Nanoseconds end)
    {
        while (FakeTimer* const timer = first(end))
            fire(*timer, std::max(m_now, timer->deadline));
        m_now = end;
    }
    // A host too busy to fire timers: they all come late.
    void stall(Nanoseconds by) { m_now += by; }
    // Time goes on while devices look at it: so much with every look.
    void set_look(Nanoseconds look) { m_look = look; }
    // How many timers are armed, and how often any has fired.
    unsigned armed() const
    {
        return static_cast<unsigned>(std::count_if(m_timers.begin(), m_timers.end(), [](FakeTimer const* timer) { return timer->deadline != never; }));
    }
    u64 fired() const { return m_fired; }

private:
    struct FakeTimer final : Timer {
        FakeTimer(FakeClock& its_clock, std::function<void()> its_callback)
            : clock(its_clock)
            , callback(std::move(its_callback))
        {
            clock.m_timers.push_back(this);
        }
        ~FakeTimer() override { std::erase(clock.m_timers, this); }
        void arm(Nanoseconds when) override { deadline = when; }
        void cancel() override { deadline = never; }

        FakeClock& clock;
        std::function<void()> callback;
        Nanoseconds deadline = never;
    };

    FakeTimer* first(Nanoseconds end) const
    {
        FakeTimer* best = nullptr;
        for (FakeTimer* const timer : m_timers) {
            if (timer->deadline != never && timer->deadline <= end && (!best || timer->deadline < best->deadline))
                best = timer;
        }
        return best;
    }
    void fire(FakeTimer& timer, Nanoseconds at)
    {
        m_now = at;
        timer.deadline = never;
        ++m_fired;
        timer.callback();
    }

    Nanoseconds m_now = 0;
    Nanoseconds m_look = 0;
    u64 m_fired = 0;
    std::vector<FakeTimer*> m_timers;
};

} // namespace anyhyve
