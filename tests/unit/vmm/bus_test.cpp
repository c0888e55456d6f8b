// Tests of the bus: places, crossings, counting, and changing the map under readers.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/bits.hpp"
#include "vmm/bus.hpp"

namespace anyhyve {

namespace {
// Reads as its own number in the high bits and the offset below; remembers the last write.
struct Probe final : BusDevice {
    explicit Probe(u64 number = 0) : tag(number) {}
    u64 read(u64 offset, unsigned) override { return tag << 32 | offset; }
    void write(u64 offset, unsigned width, u64 value) override
    {
        last_offset = offset;
        last_width = width;
        last_value = value;
        ++writes;
    }
    u64 tag;
    u64 last_offset = 0, last_value = 0;
    unsigned last_width = 0, writes = 0;
};
} // namespace

TEST(BusTest, FindsTheDeviceOfAnAddress)
{
    Bus bus("mmio");
    Probe a(1), b(2);
    ASSERT_TRUE(bus.add(0x1000, 0x100, a, "a").ok());
    ASSERT_TRUE(bus.add(0x1100, 0x100, b, "b").ok());
    u64 value = 0;
    EXPECT_TRUE(bus.read(0x1000, 8, value));
    EXPECT_EQ(value, u64 { 1 } << 32);
    EXPECT_TRUE(bus.read(0x10f8, 8, value));
    EXPECT_EQ(value, (u64 { 1 } << 32) | 0xf8);
    EXPECT_TRUE(bus.read(0x1100, 8, value));
    EXPECT_EQ(value, u64 { 2 } << 32);
    EXPECT_TRUE(bus.read(0x1104, 4, value));
    EXPECT_EQ(value, 4u); // cut to the width
    EXPECT_TRUE(bus.write(0x11ff, 1, 0x1ab));
    EXPECT_EQ(b.last_offset, 0xffu);
    EXPECT_EQ(b.last_value, 0xabu);
}

TEST(BusTest, NobodyReadsAsAllOnes)
{
    Bus bus("ports");
    Probe a;
    ASSERT_TRUE(bus.add(0x60, 1, a, "a").ok());
    for (unsigned width : { 1, 2, 4 }) {
        u64 value = 0;
        EXPECT_FALSE(bus.read(0x70, width, value));
        EXPECT_EQ(value, mask_of_bytes(width));
    }
    EXPECT_FALSE(bus.write(0x70, 4, 1));
    EXPECT_FALSE(bus.write(~u64 { 0 }, 8, 1));
    EXPECT_EQ(a.writes, 0u);
}

TEST(BusTest, SplitsWhatCrossesAnEdge)
{
    Bus bus("ports");
    Probe a, b;
    ASSERT_TRUE(bus.add(0x10, 2, a, "a").ok());
    ASSERT_TRUE(bus.add(0x12, 1, b, "b").ok());
    u64 value = 0;
    EXPECT_TRUE(bus.read(0x10, 4, value)); // a0 a1 b0 nobody
    EXPECT_EQ(value, 0xff000100u);
    EXPECT_TRUE(bus.read(0x0f, 2, value)); // nobody a0
    EXPECT_EQ(value, 0x00ffu);
    EXPECT_TRUE(bus.write(0x11, 2, 0xbbaa));
    EXPECT_EQ(a.last_offset, 1u);
    EXPECT_EQ(a.last_value, 0xaau);
    EXPECT_EQ(a.last_width, 1u);
    EXPECT_EQ(b.last_value, 0xbbu);
    EXPECT_TRUE(bus.write(0x0e, 4, 0x44332211)); // nobody nobody a0 a1
    EXPECT_EQ(a.last_value, 0x44u);
}

TEST(BusTest, RefusesOverlapAndNonsense)
{
    Bus bus("mmio");
    Probe a;
    ASSERT_TRUE(bus.add(0x1000, 0x1000, a, "first").ok());
    auto const overlap = [&](u64 base, u64 size) { return bus.add(base, size, a, "second").error(); };
    EXPECT_EQ(overlap(0x1fff, 1).code(), EEXIST);
    EXPECT_EQ(overlap(0xfff, 2).code(), EEXIST);
    EXPECT_EQ(overlap(0, 0x10000).code(), EEXIST);
    EXPECT_EQ(overlap(0, ~u64 { 0 }).code(), EEXIST);
    EXPECT_EQ(overlap(0x5000, 0).code(), EINVAL);
    EXPECT_EQ(overlap(~u64 { 0 }, 2).code(), EINVAL);
    EXPECT_NE(overlap(0x1800, 1).message().find("first"), std::string::npos);
    EXPECT_TRUE(bus.add(~u64 { 0 } - 15, 16, a, "last bytes").ok());
    u64 value = 0;
    EXPECT_TRUE(bus.read(~u64 { 0 }, 1, value));
    EXPECT_EQ(value, 15u);
}

TEST(BusTest, AMovedDeviceAnswersOnlyAtItsNewPlace)
{
    Bus bus("mmio");
    Probe a(1), b(2);
    ASSERT_TRUE(bus.add(0x1000, 0x1000, a, "a").ok());
    u64 value = 0;
    EXPECT_TRUE(bus.read(0x1000, 4, value));
    bus.remove(0x1000);
    bus.remove(0x1000);
    EXPECT_FALSE(bus.read(0x1000, 4, value));
    ASSERT_TRUE(bus.add(0x8000, 0x1000, a, "a").ok());
    ASSERT_TRUE(bus.add(0x1000, 0x1000, b, "b").ok());
    EXPECT_TRUE(bus.read(0x1000, 8, value));
    EXPECT_EQ(value >> 32, 2u);
    EXPECT_TRUE(bus.read(0x8000, 8, value));
    EXPECT_EQ(value >> 32, 1u);
}

TEST(BusTest, RememberedHitsDoNotOutliveTheirBus)
{
    for (u64 round = 0; round < 100; ++round) {
        Bus bus("ports"); // most likely at the same address each time
        Probe probe(round);
        ASSERT_TRUE(bus.add(0x40, 8, probe, "probe").ok());
        u64 value = 0;
        ASSERT_TRUE(bus.read(0x40, 8, value));
        ASSERT_EQ(value >> 32, round);
    }
}

TEST(BusTest, HoldsManyDevicesAndCountsTheirAccesses)
{
    Bus bus("mmio");
    std::vector<Probe> probes(300);
    for (u64 i = 0; i < probes.size(); ++i)
        ASSERT_TRUE(bus.add(((i * 7) % 300) * 0x1000, 0x800, probes[i], "probe").ok());
    u64 value = 0;
    for (u64 i = 0; i < probes.size(); ++i) {
        EXPECT_TRUE(bus.read(i * 0x1000 + 0x7fc, 4, value));
        EXPECT_EQ(value, 0x7fcu);
        EXPECT_FALSE(bus.read(i * 0x1000 + 0x800, 4, value));
        EXPECT_TRUE(bus.write(i * 0x1000, 4, 1));
        EXPECT_TRUE(bus.write(i * 0x1000, 4, 2));
    }
    auto const statistics = bus.statistics();
    ASSERT_EQ(statistics.size(), 300u);
    EXPECT_EQ(statistics[5].base, 0x5000u);
    EXPECT_EQ(statistics[5].reads, 1u);
    EXPECT_EQ(statistics[5].writes, 2u);
}

TEST(BusTest, ReadersSeeAWholeMapWhileItChanges)
{
    Bus bus("mmio");
    Probe fixed(9), low(1), high(2);
    ASSERT_TRUE(bus.add(0x100000, 0x1000, fixed, "fixed").ok());
    std::atomic<bool> done { false };
    std::atomic<u64> wrong { 0 };
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i)
        readers.emplace_back([&] {
            while (!done.load(std::memory_order_relaxed)) {
                u64 value = 0;
                // One that is always there, and one that two devices take turns at: only whole answers may come.
                wrong += !bus.read(0x100010, 8, value) || value != ((u64 { 9 } << 32) | 0x10);
                if (bus.read(0x3010, 8, value))
                    wrong += value != ((u64 { 1 } << 32) | 0x1010) && value != ((u64 { 2 } << 32) | 0x10);
            }
        });
    for (int i = 0; i < 20000; ++i) {
        ASSERT_TRUE(bus.add(0x2000, 0x2000, low, "low").ok());
        bus.remove(0x2000);
        ASSERT_TRUE(bus.add(0x3000, 0x1000, high, "high").ok());
        bus.remove(0x3000);
    }
    done = true;
    for (auto& reader : readers)
        reader.join();
    EXPECT_EQ(wrong.load(), 0u);
}

} // namespace anyhyve
