// Tests of the machine clock: one time for all its faces, timers that are never early, pause.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "host/tsc.hpp"
#include "vmm/clock.hpp"

namespace anyhyve {

using namespace std::chrono_literals;
static constexpr u64 s_millisecond = 1'000'000;

static u64 host_nanoseconds()
{
    return static_cast<u64>(std::chrono::steady_clock::now().time_since_epoch().count());
}

TEST(ClockTest, AllItsFacesShowTheSameTime)
{
    auto const clock = create_host_clock(5'000'000'000);
    for (int i = 0; i < 1000; ++i) {
        u64 const before = clock->now();
        u64 const ticks = clock->tsc();
        u64 const inlined = host::read_tsc() + clock->tsc_offset();
        u64 const after = clock->now();
        EXPECT_LE(before, clock->from_tsc(ticks));
        EXPECT_LE(ticks, inlined);
        EXPECT_LE(clock->from_tsc(inlined), after);
    }
    EXPECT_GE(clock->now(), 4'999'999'999u);
    EXPECT_LT(clock->now(), 8'000'000'000u);
    EXPECT_NEAR(static_cast<double>(clock->from_tsc(clock->tsc_frequency())), 1e9, 2);
    EXPECT_NEAR(static_cast<double>(clock->from_tsc(clock->tsc_frequency() * 100'000)), 1e14, 2e5);
}

TEST(ClockTest, RunsAtTheRateOfTheHost)
{
    auto const clock = create_host_clock();
    u64 const machine = clock->now(), host = host_nanoseconds();
    std::this_thread::sleep_for(50ms);
    double const machine_elapsed = static_cast<double>(clock->now() - machine);
    double const host_elapsed = static_cast<double>(host_nanoseconds() - host);
    EXPECT_NEAR(machine_elapsed / host_elapsed, 1.0, 0.01);
}

TEST(ClockTest, FiresInOrderAndNeverEarly)
{
    auto const clock = create_host_clock();
    std::mutex mutex;
    std::vector<int> order;
    std::atomic<int> early { 0 };
    std::promise<void> last;
    std::vector<std::unique_ptr<Clock::Timer>> timers;
    u64 const start = clock->now() + 2 * s_millisecond;
    constexpr int count = 50;
    for (int i = 0; i < count; ++i) {
        u64 const deadline = start + static_cast<u64>((i * 37) % count) * 100'000;
        int const rank = (i * 37) % count;
        timers.push_back(clock->create_timer([&, deadline, rank] {
            early += clock->now() < deadline;
            std::lock_guard const lock(mutex);
            order.push_back(rank);
            if (order.size() == count)
                last.set_value();
        }));
        timers.back()->arm(deadline);
    }
    ASSERT_EQ(last.get_future().wait_for(5s), std::future_status::ready);
    EXPECT_EQ(early.load(), 0);
    for (int i = 0; i < count; ++i)
        EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(ClockTest, ANewDeadlineReplacesTheOldOne)
{
    auto const clock = create_host_clock();
    std::atomic<int> fired { 0 };
    auto const timer = clock->create_timer([&] { ++fired; });
    timer->arm(clock->now() + 3600'000'000'000);
    timer->arm(clock->now() + s_millisecond);
    std::this_thread::sleep_for(30ms);
    EXPECT_EQ(fired, 1);
    timer->arm(clock->now() + 5 * s_millisecond);
    timer->arm(Clock::never);
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(fired, 1);
    timer->arm(0); // in the past: at once
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(fired, 2);
    timer->arm(clock->now() + 5 * s_millisecond);
    timer->cancel();
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(fired, 2);
}

TEST(ClockTest, CancelWaitsForTheCallbackThatRuns)
{
    auto const clock = create_host_clock();
    std::promise<void> entered;
    std::atomic<bool> returned { false };
    auto timer = clock->create_timer([&] {
        entered.set_value();
        std::this_thread::sleep_for(20ms);
        returned = true;
    });
    timer->arm(0);
    entered.get_future().wait();
    timer->cancel();
    EXPECT_TRUE(returned);

    returned = false;
    std::promise<void> again;
    auto second = clock->create_timer([&] {
        again.set_value();
        std::this_thread::sleep_for(20ms);
        returned = true;
    });
    second->arm(0);
    again.get_future().wait();
    second.reset();
    EXPECT_TRUE(returned);
}

TEST(ClockTest, ACallbackMayArmCancelOrDestroyItsTimer)
{
    auto const clock = create_host_clock();
    std::atomic<int> fired { 0 };
    std::unique_ptr<Clock::Timer> periodic;
    std::promise<void> done;
    periodic = clock->create_timer([&] {
        if (++fired < 10) {
            periodic->arm(clock->now() + 100'000);
            return;
        }
        periodic->cancel();
        done.set_value();
    });
    periodic->arm(0);
    ASSERT_EQ(done.get_future().wait_for(5s), std::future_status::ready);
    EXPECT_EQ(fired, 10);

    std::promise<void> gone;
    auto holder = std::make_shared<std::unique_ptr<Clock::Timer>>();
    *holder = clock->create_timer([holder, &gone] {
        auto const keep = holder; // the closure itself goes with its timer
        keep->reset();
        gone.set_value();
    });
    (*holder)->arm(0);
    ASSERT_EQ(gone.get_future().wait_for(5s), std::future_status::ready);
}

TEST(ClockTest, StandsStillWhilePaused)
{
    auto const clock = create_host_clock();
    std::atomic<int> fired { 0 };
    auto const timer = clock->create_timer([&] { ++fired; });
    timer->arm(clock->now() + 10 * s_millisecond);
    clock->pause();
    clock->pause();
    u64 const time = clock->now(), ticks = clock->tsc();
    std::this_thread::sleep_for(30ms);
    EXPECT_EQ(clock->now(), time);
    EXPECT_EQ(clock->tsc(), ticks);
    EXPECT_EQ(fired, 0);
    timer->arm(time); // due, but time stands
    std::this_thread::sleep_for(5ms);
    EXPECT_EQ(fired, 0);
    clock->resume();
    clock->resume();
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(fired, 1);
    EXPECT_GE(clock->now(), time);
    EXPECT_LT(clock->now(), time + 5'000 * s_millisecond);
    EXPECT_GE(host::read_tsc() + clock->tsc_offset(), ticks);
}

TEST(ClockTest, NoThreadSeesTimeGoBack)
{
    auto const clock = create_host_clock();
    std::atomic<bool> done { false };
    std::atomic<u64> latest { 0 };
    std::atomic<int> wrong { 0 };
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i)
        readers.emplace_back([&] {
            while (!done) {
                u64 seen = latest.load();
                u64 const now = clock->now();
                wrong += now < seen;
                while (seen < now && !latest.compare_exchange_weak(seen, now)) { }
            }
        });
    for (int i = 0; i < 200; ++i) {
        clock->pause();
        std::this_thread::sleep_for(50us);
        clock->resume();
    }
    done = true;
    for (auto& reader : readers)
        reader.join();
    EXPECT_EQ(wrong, 0);
}

TEST(ClockTest, TimersSurviveAStormOfArming)
{
    auto const clock = create_host_clock();
    std::atomic<u64> fired { 0 };
    std::vector<std::unique_ptr<Clock::Timer>> timers;
    for (int i = 0; i < 16; ++i)
        timers.push_back(clock->create_timer([&] { ++fired; }));
    std::vector<std::thread> threads;
    for (u64 seed = 1; seed <= 2; ++seed)
        threads.emplace_back([&, seed] {
            u64 random = seed;
            for (int i = 0; i < 20000; ++i) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                auto& timer = *timers[(random >> 33) % timers.size()];
                if ((random >> 40) % 8 == 0)
                    timer.cancel();
                else
                    timer.arm(clock->now() + (random >> 50));
            }
        });
    for (auto& thread : threads)
        thread.join();
    for (auto& timer : timers)
        timer->arm(0);
    for (int i = 0; i < 5000 && fired == 0; ++i) // the clock's thread may wait for a core
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_GT(fired, 0u);
}

TEST(ClockTest, ATimerMayOutliveItsClock)
{
    auto clock = create_host_clock();
    auto timer = clock->create_timer([] {});
    timer->arm(clock->now() + 3600'000'000'000);
    clock.reset();
    timer->arm(5);
    timer->cancel();
}

} // namespace anyhyve
