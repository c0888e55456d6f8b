// Tick arithmetic and the pacing of periodic interrupts.
#include "device/timer/tick_schedule.hpp"

#include <gtest/gtest.h>

namespace anyhyve {

TEST(TickRate, TimeOfIsTheFirstMomentOfATick)
{
    for (u64 const hertz : { u64 { 32768 }, u64 { 1'193'182 }, u64 { 3'579'545 }, u64 { 10'000'000 }, u64 { 134'217'728 } }) {
        TickRate const rate { hertz };
        for (u64 const tick : { u64 { 1 }, u64 { 2 }, u64 { 3 }, u64 { 1000 }, u64 { 123'456'789'012 } }) {
            auto const when = rate.time_of(tick);
            EXPECT_GE(rate.ticks(when), tick);
            EXPECT_LT(rate.ticks(when - 1), tick);
        }
        EXPECT_EQ(rate.time_of(~u64 { 0 }), hertz < TickRate::second ? Clock::never : rate.time_of(~u64 { 0 }));
    }
}

TEST(TickSchedule, KeepsThePhaseForever)
{
    TickSchedule schedule(TickRate { 1000 });
    schedule.start(10, 10);
    for (u64 i = 1; i <= 1000; ++i) {
        EXPECT_EQ(schedule.next(), i * 10'000'000);
        EXPECT_FALSE(schedule.take(i * 10'000'000 - 1));
        EXPECT_TRUE(schedule.take(i * 10'000'000 + 1'000'000));
        EXPECT_FALSE(schedule.take(i * 10'000'000 + 1'000'000));
    }
}

TEST(TickSchedule, MakesUpForShortDelays)
{
    TickSchedule schedule(TickRate { 1000 });
    schedule.start(10, 10); // every 10 ms
    u64 now = 55'000'000;   // five are due
    unsigned taken = 0;
    while (now < 200'000'000) {
        taken += schedule.take(now);
        now += 100'000;
    }
    EXPECT_EQ(taken, 19u); // 10 ms .. 190 ms, none lost
}

TEST(TickSchedule, DropsALongBacklog)
{
    TickSchedule schedule(TickRate { 1000 });
    schedule.start(10, 10);
    EXPECT_TRUE(schedule.take(60'000'000'000));
    EXPECT_EQ(schedule.next(), 60'010'000'000);
}

TEST(TickSchedule, CannotFloodTheHost)
{
    TickSchedule schedule(TickRate { 134'217'728 });
    schedule.start(1, 1);
    u64 now = 0;
    unsigned taken = 0;
    for (; now < 10'000'000; now = std::max(now + 1, schedule.next()))
        taken += schedule.take(now);
    EXPECT_LE(taken, 10'000'000 / TickSchedule::least_gap + 1);
    EXPECT_GT(taken, 100u);
}

TEST(TickSchedule, HugePeriodsNeverComeDue)
{
    TickSchedule schedule(TickRate { 10'000'000 });
    schedule.start(~u64 { 0 } - 5, ~u64 { 0 });
    EXPECT_EQ(schedule.next(), Clock::never);
    EXPECT_FALSE(schedule.take(~u64 { 0 } - 1));
}

TEST(TickSchedule, SkipForgetsWhatIsDue)
{
    TickSchedule schedule(TickRate { 1000 });
    schedule.start(10, 10);
    schedule.skip(35'000'000);
    EXPECT_FALSE(schedule.take(35'000'000));
    EXPECT_EQ(schedule.next(), 40'000'000u);
}

} // namespace anyhyve
