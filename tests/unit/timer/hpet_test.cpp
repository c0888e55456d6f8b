// The HPET: counter, comparators, routes, state.
#include "device/timer/hpet.hpp"

#include <random>

#include "fake_clock.hpp"
#include "base/bits.hpp"
#include "fake_wires.hpp"

namespace anyhyve {

class HpetTest : public ::testing::Test {
protected:
    static constexpr u64 ms = 1'000'000;
    FakeClock clock;
    FakeSink io_apic, legacy;
    FakeMessages messages;
    bool replaced = false;
    Hpet hpet { clock, { io_apic, legacy, messages, [this](bool now) { replaced = now; } } };

    u64 get(u64 offset, unsigned width = 8) { return hpet.read(offset, width); }
    void set(u64 offset, u64 value, unsigned width = 8) { hpet.write(offset, width, value); }
    static constexpr u64 config(unsigned n) { return 0x100 + 0x20 * n; }
    static constexpr u64 compare(unsigned n) { return 0x108 + 0x20 * n; }
    static constexpr u64 route(unsigned n) { return 0x110 + 0x20 * n; }
};

TEST_F(HpetTest, Capabilities)
{
    EXPECT_EQ(get(0), 0x05f5e100'8086a701u);
    EXPECT_EQ(get(4, 4), 100'000'000u);
    EXPECT_EQ(get(config(0)) >> 32, 0x00f00000u);
    EXPECT_EQ(get(config(7)) & 0x8030, 0x8030u);
    EXPECT_EQ(get(config(8)), 0u);
    EXPECT_EQ(get(0x3f0, 4), 0u);
}

TEST_F(HpetTest, CounterRunsWhenEnabled)
{
    clock.advance(ms);
    EXPECT_EQ(get(0xf0), 0u);
    set(0x10, 1);
    clock.advance(ms);
    EXPECT_EQ(get(0xf0), 10'000u);
    EXPECT_EQ(get(0xf0, 4), 10'000u);
    set(0x10, 0);
    clock.advance(ms);
    EXPECT_EQ(get(0xf0), 10'000u);
    set(0xf0, 0x1'0000'0000);
    set(0x10, 1);
    clock.advance(100);
    EXPECT_EQ(get(0xf0), 0x1'0000'0001u);
    EXPECT_EQ(get(0xf4, 4), 1u);
}

TEST_F(HpetTest, OneShotEdge)
{
    set(config(2), 1 << 2 | 20 << 9);
    set(0x10, 1);
    set(compare(2), 5'000);
    clock.advance(ms / 2 - 1);
    EXPECT_EQ(io_apic.edges(20), 0);
    clock.advance(1);
    EXPECT_EQ(io_apic.edges(20), 1);
    EXPECT_FALSE(io_apic.level(20));
    clock.advance(1000 * ms);
    EXPECT_EQ(io_apic.edges(20), 1);
    EXPECT_EQ(get(0x20), 0u);
}

TEST_F(HpetTest, LevelStaysUntilCleared)
{
    set(config(1), 1 << 1 | 1 << 2 | 23 << 9);
    set(0x10, 1);
    set(compare(1), 1'000);
    clock.advance(ms);
    EXPECT_TRUE(io_apic.level(23));
    EXPECT_EQ(get(0x20), 2u);
    set(0x20, 1);
    EXPECT_TRUE(io_apic.level(23));
    set(0x20, 2);
    EXPECT_FALSE(io_apic.level(23));
    EXPECT_EQ(get(0x20), 0u);
}

TEST_F(HpetTest, PeriodicAsLinuxProgramsIt)
{
    set(0x10, 1);
    clock.advance(ms);
    set(config(0), 1 << 2 | 1 << 3 | 1 << 6 | 1 << 8 | 21 << 9, 4);
    set(compare(0), get(0xf0, 4) + 10'000, 4);
    set(compare(0), 10'000, 4);
    clock.advance(100 * ms);
    EXPECT_EQ(io_apic.edges(21), 100);
    EXPECT_EQ(get(compare(0), 4), 10'000u + 10'000 + 100 * 10'000);
    EXPECT_FALSE(get(config(0)) & 1 << 6);
}

TEST_F(HpetTest, PeriodicWithOneWriteBeforeItRuns)
{
    set(config(0), 1 << 2 | 1 << 3 | 1 << 6 | 21 << 9);
    set(compare(0), 10'000);
    set(0x10, 1);
    clock.advance(10 * ms);
    EXPECT_EQ(io_apic.edges(21), 10);
    set(0x10, 0);
    clock.advance(10 * ms);
    EXPECT_EQ(io_apic.edges(21), 10);
    set(0x10, 1);
    clock.advance(10 * ms);
    EXPECT_EQ(io_apic.edges(21), 20);
}

TEST_F(HpetTest, ThirtyTwoBitTimersComeRound)
{
    set(config(3), 1 << 2 | 1 << 8 | 20 << 9);
    set(0x10, 1);
    set(compare(3), 1'000);
    clock.advance(ms);
    EXPECT_EQ(io_apic.edges(20), 1);
    clock.advance((u64 { 1 } << 32) * 100);
    EXPECT_EQ(io_apic.edges(20), 2);
}

TEST_F(HpetTest, JustTooLateFiresAtOnce)
{
    set(config(3), 1 << 2 | 20 << 9);
    set(0x10, 1);
    clock.advance(ms);
    set(compare(3), 9'990);
    EXPECT_EQ(io_apic.edges(20), 1);
    set(compare(3), 20'000);
    EXPECT_EQ(io_apic.edges(20), 1);
}

TEST_F(HpetTest, MessageDelivery)
{
    set(route(4), 0xfee01000'00004031);
    set(config(4), 1 << 2 | 1 << 14);
    set(0x10, 1);
    set(compare(4), 10);
    clock.advance(ms);
    ASSERT_EQ(messages.sent.size(), 1u);
    EXPECT_EQ(messages.sent[0], std::make_pair(u64 { 0xfee01000 }, u32 { 0x4031 }));
}

TEST_F(HpetTest, LegacyReplacement)
{
    set(config(0), 1 << 2 | 20 << 9);
    set(config(1), 1 << 1 | 1 << 2 | 20 << 9);
    set(0x10, 3);
    EXPECT_TRUE(replaced);
    set(compare(0), 1'000);
    set(compare(1), 1'000);
    clock.advance(ms);
    EXPECT_EQ(legacy.edges(0), 1);
    EXPECT_TRUE(legacy.level(8));
    EXPECT_EQ(io_apic.edges(20), 0);
    set(0x10, 1);
    EXPECT_FALSE(replaced);
    EXPECT_FALSE(legacy.level(8));
    EXPECT_TRUE(io_apic.level(20));
    hpet.reset();
    EXPECT_FALSE(io_apic.level(20));
}

// A comparator that comes due while software stops the counter has fired, or will when it runs again.
TEST_F(HpetTest, NothingIsLostAsTheCounterIsStopped)
{
    constexpr u64 look = 100; // as long as a tick
    for (u64 early = 0; early < 16; ++early) {
        hpet.reset();
        set(config(0), 1 << 2 | 1 << 3 | 1 << 6 | 21 << 9);
        set(compare(0), 10'000);
        set(config(1), 1 << 2 | 22 << 9);
        set(compare(1), 10'000);
        set(0x10, 1);
        int const periodic = io_apic.edges(21), once = io_apic.edges(22);
        clock.advance(ms - early * look);
        clock.set_look(look);
        set(0x10, 0);
        clock.set_look(0);
        set(0x10, 1);
        clock.advance(5 * ms);
        EXPECT_GE(io_apic.edges(22), once + 1) << early;
        EXPECT_GE(io_apic.edges(21), periodic + 5) << early;
    }
}

TEST_F(HpetTest, UnroutedOrDisabledTimersStaySilent)
{
    set(config(2), 1 << 2 | 4 << 9); // not a possible pin
    set(config(3), 1 << 1 | 20 << 9); // interrupts off
    set(0x10, 1);
    set(compare(2), 100);
    set(compare(3), 100);
    clock.advance(ms);
    EXPECT_EQ(io_apic.total_edges(), 0);
    EXPECT_EQ(get(0x20), 8u); // the level-triggered one still shows its status
}

TEST_F(HpetTest, StateSurvives)
{
    set(config(0), 1 << 2 | 1 << 3 | 1 << 6 | 21 << 9);
    set(compare(0), 10'000);
    set(config(1), 1 << 1 | 1 << 2 | 22 << 9);
    set(compare(1), 5'000);
    set(config(2), 1 << 2 | 23 << 9);
    set(compare(2), 5'000'000);
    set(0x10, 3);
    clock.advance(ms * 3 / 2);
    auto const state = saved(hpet);
    FakeSink other_io_apic, other_legacy;
    bool other_replaced = false;
    Hpet other(clock, { other_io_apic, other_legacy, messages, [&](bool now) { other_replaced = now; } });
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_EQ(saved(other), state);
    EXPECT_TRUE(other_replaced);
    EXPECT_TRUE(other_legacy.level(8));
    int const before = legacy.edges(0);
    clock.advance(1000 * ms);
    EXPECT_EQ(other_legacy.edges(0), legacy.edges(0) - before);
    EXPECT_EQ(other_io_apic.edges(23), 1);
    expect_robust_restore(other, state);
}

TEST_F(HpetTest, SurvivesAnything)
{
    std::mt19937_64 random(3);
    for (int i = 0; i < 100'000; ++i) {
        u64 const offset = random() % 4 == 0 ? random() % 0x400 : (random() % 0x40) * 8;
        unsigned const width = 1u << random() % 4;
        u64 const value = random() % 2 ? random() : random() % 20'000;
        if (random() % 4)
            hpet.write(offset, width, value & mask_of_bytes(width));
        else
            (void)hpet.read(offset, width);
        if (random() % 8 == 0)
            clock.advance(random() % ms);
        if (random() % 1000 == 0) {
            auto const state = saved(hpet);
            ASSERT_TRUE(restore_into(hpet, state));
            auto const again = saved(hpet);
            for (std::size_t at = 0; at < state.size(); ++at)
                ASSERT_EQ(again[at], state[at]) << "byte " << at << " of " << state.size();
        }
    }
}

} // namespace anyhyve
