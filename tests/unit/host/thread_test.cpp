// Tests of thread naming, signal masks, CPU binding and CPU lists.
#include <gtest/gtest.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "host/thread.hpp"

namespace anyhyve::host {

TEST(ThreadTest, HasItsNameAndHearsNoSignals)
{
    char name[32] {};
    bool term_blocked = false, fault_blocked = true;
    auto started = start_thread("a name that is too long", [&] {
        pthread_getname_np(pthread_self(), name, sizeof name);
        sigset_t mask;
        pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        term_blocked = sigismember(&mask, SIGTERM);
        fault_blocked = sigismember(&mask, SIGSEGV);
    });
    ASSERT_TRUE(started.ok());
    started.value().join();
    EXPECT_STREQ(name, "a name that is ");
    EXPECT_TRUE(term_blocked);
    EXPECT_FALSE(fault_blocked);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    EXPECT_FALSE(sigismember(&mask, SIGTERM)); // ours is as before
}

TEST(ThreadTest, IsBoundToACpuOfTheHost)
{
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    unsigned cpu = 0;
    while (!CPU_ISSET(cpu, &allowed))
        ++cpu;
    bool bound = false;
    auto started = start_thread("bound", [&] {
        bound = pin_thread({ cpu }).ok();
        cpu_set_t now;
        bound = bound && sched_getaffinity(0, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now);
        bound = bound && pin_thread({ 9999 }).error().code() == EINVAL && pin_thread({}).error().code() == EINVAL;
    });
    started.value().join();
    EXPECT_TRUE(bound);
}

TEST(ThreadTest, ReadsListsOfCpus)
{
    EXPECT_EQ(parse_cpu_list("0").value(), (std::vector<unsigned> { 0 }));
    EXPECT_EQ(parse_cpu_list("8,0-3,2").value(), (std::vector<unsigned> { 0, 1, 2, 3, 8 }));
    for (char const* wrong : { "", "-", "1-", "3-1", "a", "1,", ",1", "1 ", "65536", "1-99999999999", "-1" })
        EXPECT_FALSE(parse_cpu_list(wrong).ok()) << wrong;
}

} // namespace anyhyve::host
