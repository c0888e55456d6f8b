// A serial port on a clock that only the test moves, and a back end that remembers.
#pragma once

#include <map>
#include <string>

#include <gmock/gmock.h>

#include "device/console/uart.hpp"

namespace anyhyve {

class ManualClock final : public Clock {
public:
    Nanoseconds now() override { return m_now; }
    u64 tsc() override { return m_now; }
    u64 tsc_frequency() const override { return 1'000'000'000; }
    u64 tsc_offset() const override { return 0; }
    Nanoseconds from_tsc(u64 tsc) const override { return tsc; }
    std::unique_ptr<Timer> create_timer(std::function<void()> callback) override
    {
        return std::make_unique<ManualTimer>(*this, std::move(callback));
    }
    void pause() override {}
    void resume() override {}

    void advance(Nanoseconds step)
    {
        m_now += step;
        for (auto& [timer, deadline] : m_timers) {
            if (deadline <= m_now) {
                deadline = never;
                timer->callback();
            }
        }
    }

private:
    struct ManualTimer final : Timer {
        ManualTimer(ManualClock& owner, std::function<void()> function) : clock(owner), callback(std::move(function)) { cancel(); }
        ~ManualTimer() override { clock.m_timers.erase(this); }
        void arm(Nanoseconds deadline) override { clock.m_timers[this] = deadline; }
        void cancel() override { clock.m_timers[this] = never; }
        ManualClock& clock;
        std::function<void()> callback;
    };
    Nanoseconds m_now = 1000;
    std::map<ManualTimer*, Nanoseconds> m_timers;
};

class RecordingConsole final : public ConsoleBackend {
public:
    void write(std::span<u8 const> bytes) override { output.append(bytes.begin(), bytes.end()); }
    bool has_room() override { return room; }
    void set_receiver(Receiver take, Drained empty) override
    {
        receiver = std::move(take);
        drained = std::move(empty);
    }
    void receiver_ready() override { ++ready; }
    std::string description() const override { return "recording"; }

    // Offers `text` and returns what was not taken.
    std::string type(std::string const& text)
    {
        std::vector<u8> const bytes(text.begin(), text.end());
        return text.substr(receiver(bytes));
    }

    std::string output;
    bool room = true;
    int ready = 0;
    Receiver receiver;
    Drained drained;
};

struct OneLine final : InterruptSink {
    void set_level(unsigned, bool asserted) override
    {
        level = asserted;
        edges += asserted;
    }
    bool level = false;
    int edges = 0;
};

} // namespace anyhyve
