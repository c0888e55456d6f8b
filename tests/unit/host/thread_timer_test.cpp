// Tests of timers that interrupt one thread.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include <signal.h>

#include "host/thread_timer.hpp"

namespace anyhyve::host {

namespace {

constexpr long millisecond = 1'000'000;
thread_local unsigned volatile t_count = 0;
std::atomic<unsigned> s_count { 0 };

void count_signal(int, siginfo_t*, void*)
{
    t_count = t_count + 1;
    ++s_count;
}

void wait_for(unsigned count)
{
    for (int tries = 0; s_count < count && tries < 10'000; ++tries)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

bool is_blocked(int signal)
{
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return sigismember(&mask, signal);
}

} // namespace

TEST(ThreadTimerTest, InterruptsTheThreadThatMadeIt)
{
    s_count = 0;
    unsigned here = 0;
    std::thread([&] {
        ThreadTimer timer(SIGVTALRM, count_signal);
        ASSERT_TRUE(timer.exists());
        timer.fire_every(millisecond);
        wait_for(3);
        here = t_count;
    }).join();
    EXPECT_GE(here, 3u);
    EXPECT_EQ(t_count, 0u);
}

TEST(ThreadTimerTest, FiresOnceAndAgainWhenAskedTo)
{
    s_count = 0;
    ThreadTimer timer(SIGVTALRM, count_signal);
    timer.fire_once(millisecond);
    wait_for(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(s_count, 1u);
    timer.fire_once(millisecond);
    wait_for(2);
    EXPECT_EQ(s_count, 2u);
}

TEST(ThreadTimerTest, LetsItsSignalInWhileItLives)
{
    sigset_t blocked, previous;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGVTALRM);
    pthread_sigmask(SIG_BLOCK, &blocked, &previous);
    {
        ThreadTimer timer(SIGVTALRM, count_signal);
        EXPECT_FALSE(is_blocked(SIGVTALRM));
    }
    EXPECT_TRUE(is_blocked(SIGVTALRM));
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
}

} // namespace anyhyve::host
