// The real-time clock: formats, setting, interrupts, memory, state.
#include "device/timer/rtc.hpp"

#include <limits>
#include <random>

#include "fake_clock.hpp"
#include "fake_wires.hpp"

namespace anyhyve {

TEST(Calendar, AgreesWithTheCLibrary)
{
    std::mt19937_64 random(7);
    for (int i = 0; i < 20'000; ++i) {
        std::time_t const seconds = static_cast<std::time_t>(random() % 8'000'000'000) - 2'000'000'000;
        std::tm expected {};
        gmtime_r(&seconds, &expected);
        auto const date = CalendarTime::from_seconds(seconds);
        ASSERT_EQ(date.year, expected.tm_year + 1900);
        ASSERT_EQ(date.month, expected.tm_mon + 1);
        ASSERT_EQ(date.day, expected.tm_mday);
        ASSERT_EQ(date.week_day, expected.tm_wday + 1);
        ASSERT_EQ(date.hour, expected.tm_hour);
        ASSERT_EQ(date.minute, expected.tm_min);
        ASSERT_EQ(date.second, expected.tm_sec);
        ASSERT_EQ(date.to_seconds(), seconds);
        ASSERT_TRUE(date.valid());
    }
}

class RtcTest : public ::testing::Test {
protected:
    static constexpr u64 second = 1'000'000'000;
    static constexpr i64 start = 1'709'164'799; // Wednesday 2024-02-28 23:59:59 UTC
    FakeClock clock;
    FakeSink sink;
    Rtc rtc { clock, IrqLine(sink, 8), start, 3 * GiB, 5 * GiB };

    u8 get(u8 index)
    {
        rtc.ports().write(0, 1, index);
        return static_cast<u8>(rtc.ports().read(1, 1));
    }
    void set(u8 index, u8 value)
    {
        rtc.ports().write(0, 1, index);
        rtc.ports().write(1, 1, value);
    }
};

TEST_F(RtcTest, ShowsTheDateInBcd)
{
    EXPECT_EQ(get(0), 0x59);
    EXPECT_EQ(get(2), 0x59);
    EXPECT_EQ(get(4), 0x23);
    EXPECT_EQ(get(6), 4);
    EXPECT_EQ(get(7), 0x28);
    EXPECT_EQ(get(8), 0x02);
    EXPECT_EQ(get(9), 0x24);
    EXPECT_EQ(get(0x32), 0x20);
    clock.advance(second);
    EXPECT_EQ(get(0), 0x00);
    EXPECT_EQ(get(4), 0x00);
    EXPECT_EQ(get(7), 0x29); // a leap day
    EXPECT_EQ(get(0x0d), 0x80);
}

TEST_F(RtcTest, BinaryAndTwelveHours)
{
    set(0x0b, 0x06);
    EXPECT_EQ(get(4), 23);
    EXPECT_EQ(get(0), 59);
    set(0x0b, 0x04); // 12 hours, binary
    EXPECT_EQ(get(4), 0x80 | 11);
    set(0x0b, 0x00);
    EXPECT_EQ(get(4), 0x91);
    clock.advance(second);
    EXPECT_EQ(get(4), 0x12); // midnight is 12 AM
}

TEST_F(RtcTest, OneWideWriteSetsIndexAndData)
{
    rtc.ports().write(0, 2, 0x5a00 | 0x40);
    EXPECT_EQ(get(0x40), 0x5a);
    EXPECT_EQ(rtc.ports().read(0, 1), 0xffu);
}

TEST_F(RtcTest, UpdateInProgressPrecedesTheSecond)
{
    EXPECT_FALSE(get(0x0a) & 0x80);
    clock.advance(second - 1'000'000);
    EXPECT_TRUE(get(0x0a) & 0x80);
    EXPECT_EQ(get(0), 0x59);
    clock.advance(1'000'000);
    EXPECT_FALSE(get(0x0a) & 0x80);
    EXPECT_EQ(get(0), 0x00);
}

TEST_F(RtcTest, SettingTheDate)
{
    set(0x0b, 0x82); // SET
    set(0, 0x30);
    set(2, 0x15);
    set(4, 0x08);
    set(7, 0x31);
    set(8, 0x12);
    set(9, 0x99);
    set(0x32, 0x19);
    clock.advance(10 * second);
    EXPECT_EQ(get(0), 0x30);
    EXPECT_FALSE(get(0x0a) & 0x80);
    set(0x0b, 0x02);
    EXPECT_EQ(rtc.time(), 946'628'130);
    clock.advance(5 * second);
    EXPECT_EQ(get(0), 0x35);
    EXPECT_EQ(get(6), 6); // a Friday
}

TEST_F(RtcTest, ImpossibleDatesStandStill)
{
    set(8, 0x13);
    clock.advance(3 * second);
    EXPECT_EQ(get(8), 0x13);
    EXPECT_EQ(get(0), 0x59);
    set(8, 0x03);
    clock.advance(second);
    EXPECT_EQ(get(8), 0x03);
    EXPECT_EQ(get(0), 0x00);
}

TEST_F(RtcTest, DividerResetStopsTheClock)
{
    set(0x0a, 0x76);
    clock.advance(100 * second);
    EXPECT_EQ(rtc.time(), start);
    set(0x0a, 0x26);
    clock.advance(second);
    EXPECT_EQ(rtc.time(), start + 1);
}

// Data sheet, "Divider Control": the first update comes half a second later. Linux, which sets the clock so, writes at half past a second.
TEST_F(RtcTest, FirstUpdateHalfASecondAfterADividerReset)
{
    clock.advance(10 * second);
    set(0x0b, 0x92); // SET, as Linux does it
    set(0x0a, 0x76);
    set(0, 0x30);
    set(0x0b, 0x12);
    set(0x0a, 0x26);
    get(0x0c);
    EXPECT_EQ(get(0), 0x30);
    clock.advance(second / 2 - 1);
    EXPECT_EQ(get(0), 0x30);
    EXPECT_TRUE(get(0x0a) & 0x80);
    EXPECT_FALSE(sink.level(8));
    clock.advance(1);
    EXPECT_EQ(get(0), 0x31);
    EXPECT_FALSE(get(0x0a) & 0x80);
    clock.advance(second - 1);
    EXPECT_EQ(get(0), 0x31);
    clock.advance(1);
    EXPECT_EQ(get(0), 0x32);
}

TEST_F(RtcTest, UpdateInterrupt)
{
    set(0x0b, 0x12);
    clock.advance(second - 1);
    EXPECT_FALSE(sink.level(8));
    clock.advance(1);
    EXPECT_TRUE(sink.level(8));
    clock.advance(5 * second);
    EXPECT_EQ(sink.edges(8), 1); // not again before C has been read
    EXPECT_EQ(get(0x0c) & 0x90, 0x90);
    EXPECT_FALSE(sink.level(8));
    clock.advance(second);
    EXPECT_EQ(sink.edges(8), 2);
}

TEST_F(RtcTest, PeriodicInterrupt)
{
    set(0x0a, 0x26); // 1024 Hz
    set(0x0b, 0x42);
    int count = 0;
    for (int i = 0; i < 10'000; ++i) {
        clock.advance(100'000);
        if (sink.level(8)) {
            EXPECT_EQ(get(0x0c) & 0xc0, 0xc0);
            ++count;
        }
    }
    EXPECT_EQ(count, 1024);
}

TEST_F(RtcTest, PeriodicFlagCanBePolled)
{
    set(0x0a, 0x2f); // 2 Hz
    get(0x0c);
    int count = 0;
    for (int i = 0; i < 100; ++i) {
        clock.advance(second / 10);
        count += (get(0x0c) & 0x40) != 0;
    }
    EXPECT_EQ(count, 20);
    EXPECT_EQ(sink.edges(8), 0);
    EXPECT_EQ(clock.armed(), 0u);
}

TEST_F(RtcTest, AlarmAtATimeOfDay)
{
    set(1, 0x30);
    set(3, 0x01);
    set(5, 0x00);
    set(0x0b, 0x22);
    clock.advance(91 * second - 1);
    EXPECT_FALSE(sink.level(8));
    clock.advance(1);
    EXPECT_TRUE(sink.level(8));
    EXPECT_EQ(get(0x0c) & 0xa0, 0xa0);
    clock.advance(86'399 * second);
    EXPECT_FALSE(sink.level(8));
    clock.advance(second);
    EXPECT_TRUE(sink.level(8));
}

TEST_F(RtcTest, AlarmEverySecondAndEveryMinute)
{
    set(1, 0xff);
    set(3, 0xc0);
    set(5, 0xff);
    set(0x0b, 0x22);
    for (int i = 0; i < 5; ++i) {
        clock.advance(second);
        EXPECT_TRUE(get(0x0c) & 0x20);
    }
    set(1, 0x10);
    get(0x0c);
    int count = 0;
    for (int i = 0; i < 180; ++i) {
        clock.advance(second);
        count += (get(0x0c) & 0x20) != 0;
    }
    EXPECT_EQ(count, 3);
}

TEST_F(RtcTest, ImpossibleAlarmNeverRings)
{
    set(1, 0x99);
    set(0x0b, 0x22);
    clock.advance(200'000 * second);
    EXPECT_EQ(sink.edges(8), 0);
}

TEST_F(RtcTest, MemorySizesForFirmware)
{
    u64 const above_16_mib = (3 * GiB - 16 * MiB) / (64 * KiB);
    EXPECT_EQ(get(0x34) | get(0x35) << 8, above_16_mib);
    EXPECT_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 * GiB / (64 * KiB));
    EXPECT_EQ(get(0x15) | get(0x16) << 8, 640);
    EXPECT_EQ(get(0x17) | get(0x18) << 8, 0xffff);
}

TEST_F(RtcTest, OutsideAccess)
{
    ASSERT_TRUE(rtc.set_time(0).ok());
    EXPECT_EQ(rtc.time(), 0);
    EXPECT_EQ(get(9), 0x70);
    ASSERT_TRUE(rtc.set_memory(0x40, 7).ok());
    EXPECT_EQ(get(0x40), 7);
    EXPECT_EQ(rtc.memory(0x40).value(), 7);
    EXPECT_FALSE(rtc.memory(0).ok());
    EXPECT_FALSE(rtc.set_memory(0x32, 1).ok());
    EXPECT_FALSE(rtc.memory(128).ok());
}

// One that no register can show was kept all the same, and made the saved state a damaged one.
TEST_F(RtcTest, ATimeFromOutsideIsOneThatTheRegistersShow)
{
    constexpr i64 last = 253'402'300'799; // 9999-12-31 23:59:59
    for (i64 const seconds : { i64 { -1 }, last + 1, std::numeric_limits<i64>::max(), std::numeric_limits<i64>::min() })
        EXPECT_FALSE(rtc.set_time(seconds).ok()) << seconds;
    EXPECT_EQ(rtc.time(), start);
    ASSERT_TRUE(rtc.set_time(last).ok());
    EXPECT_EQ(get(9), 0x99);
    EXPECT_EQ(get(0x32), 0x99);
    EXPECT_TRUE(restore_into(rtc, saved(rtc)));
}

TEST_F(RtcTest, ResetKeepsTimeAndMemory)
{
    set(0x0f, 0x0a);
    set(0x0b, 0x72);
    clock.advance(2 * second);
    EXPECT_TRUE(sink.level(8));
    rtc.reset();
    EXPECT_FALSE(sink.level(8));
    EXPECT_EQ(get(0x0b), 0x02);
    EXPECT_EQ(get(0x0f), 0x0a);
    EXPECT_EQ(rtc.time(), start + 2);
}

TEST_F(RtcTest, StateSurvives)
{
    set(0x0b, 0x52);
    clock.advance(second * 3 / 2);
    auto const state = saved(rtc);
    FakeSink other_sink;
    Rtc other(clock, IrqLine(other_sink, 8), 0, 0, 0);
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_EQ(saved(other), state);
    EXPECT_EQ(other.time(), rtc.time());
    EXPECT_TRUE(other_sink.level(8));
    expect_robust_restore(other, state);
}

// A second may end while software sets SET.
TEST_F(RtcTest, StateSurvivesAtTheEndOfASecond)
{
    constexpr u64 look = 100;
    for (u64 early = 0; early < 16; ++early) {
        set(0x0b, 0x02);
        clock.advance(second - early * look);
        clock.set_look(look);
        set(0x0b, 0x82);
        clock.set_look(0);
        auto const state = saved(rtc);
        EXPECT_TRUE(restore_into(rtc, state)) << early;
    }
}

TEST_F(RtcTest, SurvivesAnything)
{
    std::mt19937 random(2);
    for (int i = 0; i < 50'000; ++i) {
        if (random() % 3)
            set(static_cast<u8>(random() % 4 ? random() % 16 : random()), static_cast<u8>(random()));
        else
            (void)get(static_cast<u8>(random()));
        if (random() % 8 == 0)
            clock.advance(random() % 10'000'000);
        if (random() % 500 == 0) {
            auto const state = saved(rtc);
            ASSERT_TRUE(restore_into(rtc, state));
        }
    }
}

TEST(RtcBase, LocalDiffersFromUtcByTheZone)
{
    i64 const difference = Rtc::host_seconds(Rtc::Base::local) - Rtc::host_seconds(Rtc::Base::utc);
    EXPECT_LE(std::abs(difference), 15 * 3600);
}

} // namespace anyhyve
