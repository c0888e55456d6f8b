// The 8254: modes, latches, gates, interrupt 0, state.
#include "device/timer/pit.hpp"

#include <random>

#include "fake_clock.hpp"
#include "fake_wires.hpp"

namespace anyhyve {

class PitTest : public ::testing::Test {
protected:
    static constexpr u64 ms = 1'000'000;
    FakeClock clock;
    FakeSink sink;
    Pit pit { clock, IrqLine(sink, 0) };

    void out(unsigned port, u8 value) { pit.counters().write(port - 0x40, 1, value); }
    u8 in(unsigned port) { return static_cast<u8>(pit.counters().read(port - 0x40, 1)); }
    u16 in16(unsigned port)
    {
        u8 const low = in(port);
        return static_cast<u16>(low | in(port) << 8);
    }
    void program(unsigned channel, unsigned mode, u16 count, bool bcd = false)
    {
        out(0x43, static_cast<u8>(channel << 6 | 3 << 4 | mode << 1 | (bcd ? 1 : 0)));
        out(0x40 + channel, static_cast<u8>(count));
        out(0x40 + channel, static_cast<u8>(count >> 8));
    }
    u16 latched(unsigned channel)
    {
        out(0x43, static_cast<u8>(channel << 6));
        return in16(0x40 + channel);
    }
    u8 status(unsigned channel)
    {
        out(0x43, static_cast<u8>(0xe0 | 2 << channel));
        return in(0x40 + channel);
    }
    void ticks(u64 n) { clock.advance_to(Pit::rate.time_of(Pit::rate.ticks(clock.now()) + n)); }
    u8 port61() { return static_cast<u8>(pit.system_control().read(0, 1)); }
    void set_port61(u8 value) { pit.system_control().write(0, 1, value); }
};

TEST_F(PitTest, RateGeneratorInterruptsWithoutDrift)
{
    program(0, 2, 11932); // 100.0 Hz
    clock.advance(10'000 * ms);
    EXPECT_EQ(sink.edges(0), 999);
    EXPECT_FALSE(sink.level(0));
}

TEST_F(PitTest, SquareWaveInterruptsOncePerPeriod)
{
    program(0, 3, 0); // 65536: 18.2 Hz
    clock.advance(10'000 * ms);
    EXPECT_EQ(sink.edges(0), 182);
}

TEST_F(PitTest, TerminalCountInterruptsOnce)
{
    program(0, 0, 1193);
    EXPECT_FALSE(status(0) & 0x80);
    clock.advance(ms / 2);
    EXPECT_EQ(sink.edges(0), 0);
    clock.advance(ms);
    EXPECT_EQ(sink.edges(0), 1);
    EXPECT_TRUE(status(0) & 0x80);
    clock.advance(1000 * ms);
    EXPECT_EQ(sink.edges(0), 1);
    EXPECT_EQ(clock.armed(), 0u);
}

TEST_F(PitTest, SoftwareStrobeInterruptsAtTheEndOfTheStrobe)
{
    program(0, 4, 1000);
    ticks(1001);
    EXPECT_FALSE(status(0) & 0x80);
    EXPECT_EQ(sink.edges(0), 0);
    ticks(1);
    EXPECT_TRUE(status(0) & 0x80);
    EXPECT_EQ(sink.edges(0), 1);
}

TEST_F(PitTest, CountsDown)
{
    program(0, 2, 1000);
    ticks(1);
    EXPECT_EQ(latched(0), 1000);
    ticks(1);
    EXPECT_EQ(latched(0), 999);
    ticks(998);
    EXPECT_EQ(latched(0), 1);
    ticks(1);
    EXPECT_EQ(latched(0), 1000);
}

TEST_F(PitTest, TerminalCountGoesOnThroughZero)
{
    program(0, 0, 10);
    ticks(11);
    EXPECT_EQ(latched(0), 0);
    ticks(1);
    EXPECT_EQ(latched(0), 0xffff);
}

TEST_F(PitTest, SquareWaveCountsByTwo)
{
    program(0, 3, 1000);
    ticks(1);
    EXPECT_EQ(latched(0), 1000);
    ticks(1);
    EXPECT_EQ(latched(0), 998);
    EXPECT_TRUE(status(0) & 0x80);
    ticks(499);
    EXPECT_EQ(latched(0), 1000);
    EXPECT_FALSE(status(0) & 0x80);
    ticks(500);
    EXPECT_TRUE(status(0) & 0x80);
}

TEST_F(PitTest, OddSquareWaveIsHighOneTickLonger)
{
    program(0, 3, 5);
    ticks(1);
    std::string wave;
    for (int i = 0; i < 10; ++i) {
        wave += status(0) & 0x80 ? '1' : '0';
        ticks(1);
    }
    EXPECT_EQ(wave, "1110011100");
}

TEST_F(PitTest, CountsInBcd)
{
    program(0, 2, 0x1000, true);
    ticks(2);
    EXPECT_EQ(latched(0), 0x0999);
    program(0, 0, 0x0000, true); // 10000
    ticks(2);
    EXPECT_EQ(latched(0), 0x9999);
}

TEST_F(PitTest, LatchHoldsUntilRead)
{
    program(0, 2, 1000);
    ticks(1);
    out(0x43, 0x00);
    ticks(100);
    out(0x43, 0x00); // ignored
    EXPECT_EQ(in16(0x40), 1000);
    EXPECT_EQ(in16(0x40), 900);
}

TEST_F(PitTest, ReadBackLatchesSeveralChannels)
{
    program(0, 2, 1000);
    program(1, 2, 500);
    ticks(11);
    out(0x43, 0xc0 | 0x06); // count and status of channels 0 and 1
    ticks(100);
    EXPECT_EQ(in(0x40), 0xb4); // OUT high, both bytes, mode 2
    EXPECT_EQ(in16(0x40), 990);
    EXPECT_EQ(in(0x41), 0xb4);
    EXPECT_EQ(in16(0x41), 490);
}

TEST_F(PitTest, NullCountUntilTheCountIsWritten)
{
    out(0x43, 0x34);
    EXPECT_TRUE(status(0) & 0x40);
    out(0x40, 0);
    EXPECT_TRUE(status(0) & 0x40);
    out(0x40, 4);
    EXPECT_FALSE(status(0) & 0x40);
}

TEST_F(PitTest, NewCountWaitsForTheEndOfThePeriod)
{
    program(0, 2, 1000);
    ticks(501);
    out(0x40, 100);
    out(0x40, 0);
    EXPECT_TRUE(status(0) & 0x40);
    EXPECT_EQ(latched(0), 500);
    ticks(499);
    EXPECT_EQ(sink.edges(0), 0);
    ticks(1);
    EXPECT_EQ(sink.edges(0), 1);
    EXPECT_FALSE(status(0) & 0x40);
    EXPECT_EQ(latched(0), 100);
    ticks(100);
    EXPECT_EQ(sink.edges(0), 2);
}

TEST_F(PitTest, SpeakerChannelIsGatedAndReadable)
{
    set_port61(0);
    program(2, 0, 1193);
    clock.advance(5 * ms);
    EXPECT_FALSE(port61() & 0x20);
    set_port61(1);
    clock.advance(ms / 2);
    EXPECT_FALSE(port61() & 0x20);
    set_port61(0); // suspends
    clock.advance(5 * ms);
    EXPECT_FALSE(port61() & 0x20);
    set_port61(1);
    clock.advance(ms / 2 + ms / 100);
    EXPECT_TRUE(port61() & 0x20);
    EXPECT_EQ(port61() & 0x0f, 1);
}

TEST_F(PitTest, OneShotIsTriggeredByTheGate)
{
    set_port61(0);
    program(2, 1, 1000);
    EXPECT_TRUE(port61() & 0x20);
    ticks(5000);
    EXPECT_TRUE(port61() & 0x20);
    set_port61(1);
    ticks(1);
    EXPECT_FALSE(port61() & 0x20);
    ticks(999);
    EXPECT_FALSE(port61() & 0x20);
    set_port61(0);
    set_port61(1); // retriggers
    ticks(1000);
    EXPECT_FALSE(port61() & 0x20);
    ticks(1);
    EXPECT_TRUE(port61() & 0x20);
}

TEST_F(PitTest, HardwareStrobe)
{
    program(2, 5, 10);
    ticks(100);
    EXPECT_TRUE(port61() & 0x20);
    set_port61(1);
    ticks(11);
    EXPECT_FALSE(port61() & 0x20);
    ticks(1);
    EXPECT_TRUE(port61() & 0x20);
}

TEST_F(PitTest, RefreshBitToggles)
{
    unsigned changes = 0;
    u8 before = port61();
    for (int i = 0; i < 1000; ++i) {
        clock.advance(1000);
        u8 const now = port61();
        changes += (now ^ before) >> 4 & 1;
        before = now;
    }
    EXPECT_NEAR(changes, 66, 1); // in 1 ms
}

TEST_F(PitTest, LateTicksAreMadeUpFor)
{
    program(0, 2, 11932);
    clock.stall(55 * ms);
    clock.advance(145 * ms);
    EXPECT_EQ(sink.edges(0), 19);
}

TEST_F(PitTest, WideAccessesAreBytes)
{
    pit.counters().write(3, 1, 0x34);
    pit.counters().write(0, 1, 0xe8);
    pit.counters().write(0, 1, 0x03);
    EXPECT_EQ(pit.counters().read(3, 1), 0xffu);
    EXPECT_EQ(pit.counters().read(0, 4) >> 24, 0xffu);
}

TEST_F(PitTest, StateSurvives)
{
    program(0, 2, 11932);
    program(2, 0, 5000);
    set_port61(1);
    clock.advance(123 * ms);
    out(0x43, 0x00);
    out(0x40, 0x55);
    auto const state = saved(pit);
    FakeSink other_sink;
    Pit other(clock, IrqLine(other_sink, 0));
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_EQ(saved(other), state);
    int const before = sink.edges(0);
    clock.advance(1000 * ms);
    EXPECT_EQ(other_sink.edges(0), sink.edges(0) - before);
    EXPECT_EQ(saved(other), saved(pit));
    expect_robust_restore(other, state);
}

TEST_F(PitTest, SurvivesAnything)
{
    std::mt19937 random(1);
    for (int i = 0; i < 200'000; ++i) {
        auto const port = random() % 5;
        BusDevice& device = port == 4 ? pit.system_control() : pit.counters();
        if (random() % 2)
            device.write(port & 3, 1u << random() % 3, random());
        else
            (void)device.read(port & 3, 1u << random() % 3);
        if (random() % 8 == 0)
            clock.advance(random() % 100'000);
        if (random() % 1000 == 0) {
            auto const state = saved(pit);
            ASSERT_TRUE(restore_into(pit, state));
            ASSERT_EQ(saved(pit), state);
        }
    }
    EXPECT_LT(clock.fired(), clock.now() / TickSchedule::least_gap + 100'000);
}

} // namespace anyhyve
