// Virtqueues under guests that are right, wrong and hostile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/virtio/virtio_registers.hpp"
#include "guest_ring.hpp"

namespace anyhyve {
namespace {

using testing::HasSubstr;
using Pop = Virtqueue::Pop;

struct VirtqueueTest : testing::Test {
    static constexpr u16 size = 8;
    static constexpr u64 ring_base = 0x10000;
    static constexpr u64 table = 0x20000;
    static constexpr u64 buffer = 0x30000;
    std::unique_ptr<GuestMemory> memory = GuestMemory::create_anonymous(4 * MiB).release_value();
    GuestRing ring { *memory, ring_base, size };
    Virtqueue queue { *memory, 16 };
    Virtqueue::Chain chain;

    void SetUp() override { start(virtio_indirect_descriptors); }
    void start(u64 features)
    {
        queue.reset();
        ring = GuestRing(*memory, ring_base, size);
        queue.set_features(features);
        queue.set_layout(ring.layout);
        ASSERT_TRUE(queue.enable());
    }
    Pop offer(u16 head)
    {
        ring.offer(head);
        return queue.pop(chain);
    }
    void expect_broken(Pop popped, std::string const& why)
    {
        EXPECT_EQ(popped, Pop::broken);
        EXPECT_TRUE(queue.broken());
        EXPECT_THAT(queue.problem(), HasSubstr(why));
        EXPECT_EQ(queue.pop(chain), Pop::broken); // and stays so
        queue.push(0, 0);
        EXPECT_EQ(ring.used_index(), 0);
    }
};

TEST_F(VirtqueueTest, TakesChainsInOrder)
{
    EXPECT_EQ(queue.pop(chain), Pop::empty);
    ring.describe(3, buffer, 16, ring_next, 5);
    ring.describe(5, buffer + 0x100, 512, ring_next | ring_write, 1);
    ring.describe(1, buffer + 0x400, 1, ring_write);
    ring.describe(0, buffer, 4, 0);
    ring.offer(3);
    ring.offer(0);
    ASSERT_EQ(queue.pop(chain), Pop::chain);
    EXPECT_EQ(chain.head, 3);
    ASSERT_EQ(chain.readable.size(), 1U);
    ASSERT_EQ(chain.writable.size(), 2U);
    EXPECT_EQ(chain.readable_bytes, 16U);
    EXPECT_EQ(chain.writable_bytes, 513U);
    EXPECT_EQ(chain.writable[0].address, Gpa(buffer + 0x100));
    EXPECT_EQ(chain.writable[0].memory, memory->range(Gpa(buffer + 0x100), 512));
    ASSERT_EQ(queue.pop(chain), Pop::chain);
    EXPECT_EQ(chain.head, 0);
    EXPECT_TRUE(chain.writable.empty());
    EXPECT_EQ(queue.pop(chain), Pop::empty);
    queue.push(3, 513);
    EXPECT_EQ(ring.used_index(), 1);
    EXPECT_EQ(ring.used_id(0), 3U);
    EXPECT_EQ(ring.used_length(0), 513U);
}

TEST_F(VirtqueueTest, GoesRoundManyTimes)
{
    ring.describe(2, buffer, 1, 0);
    for (unsigned i = 0; i < 70'000; ++i) {
        ASSERT_EQ(offer(2), Pop::chain);
        queue.push(chain.head, i);
        ASSERT_EQ(ring.used_index(), static_cast<u16>(i + 1));
        ASSERT_EQ(ring.used_length(static_cast<u16>(i)), i);
    }
}

TEST_F(VirtqueueTest, AFullChainIsAllowed)
{
    for (u16 i = 0; i < size; ++i)
        ring.describe(i, buffer + i, 1, i + 1 < size ? ring_next : 0, static_cast<u16>(i + 1));
    EXPECT_EQ(offer(0), Pop::chain);
    EXPECT_EQ(chain.readable.size(), size);
}

TEST_F(VirtqueueTest, Loop)
{
    for (u16 i = 0; i < size; ++i)
        ring.describe(i, buffer, 1, ring_next, static_cast<u16>((i + 1) % size));
    expect_broken(offer(0), "longer than the queue");
}

TEST_F(VirtqueueTest, LoopOnItself)
{
    ring.describe(0, buffer, 1, ring_next, 0);
    expect_broken(offer(0), "longer than the queue");
}

TEST_F(VirtqueueTest, HeadBeyondTheTable)
{
    expect_broken(offer(size), "beyond the table");
}

TEST_F(VirtqueueTest, NextBeyondTheTable)
{
    ring.describe(0, buffer, 1, ring_next, 0xffff);
    expect_broken(offer(0), "beyond the table");
}

TEST_F(VirtqueueTest, AvailableIndexRunsAhead)
{
    ring.set_available_index(size + 1);
    expect_broken(queue.pop(chain), "runs ahead");
}

TEST_F(VirtqueueTest, AvailableIndexGoesBack)
{
    ring.describe(0, buffer, 1, 0);
    ASSERT_EQ(offer(0), Pop::chain);
    ring.set_available_index(0);
    expect_broken(queue.pop(chain), "runs ahead");
}

TEST_F(VirtqueueTest, ReadableAfterWritable)
{
    ring.describe(0, buffer, 1, ring_next | ring_write, 1);
    ring.describe(1, buffer, 1, 0);
    expect_broken(offer(0), "follows a writable");
}

TEST_F(VirtqueueTest, ZeroLengthsAreSkipped)
{
    ring.describe(0, buffer, 0, ring_next, 1);
    ring.describe(1, ~u64 { 0 }, 0, ring_next | ring_write, 2);
    ring.describe(2, buffer, 7, ring_write);
    ASSERT_EQ(offer(0), Pop::chain);
    EXPECT_TRUE(chain.readable.empty());
    EXPECT_EQ(chain.writable_bytes, 7U);
    ring.describe(3, buffer, 0, 0);
    ASSERT_EQ(offer(3), Pop::chain);
    EXPECT_TRUE(chain.readable.empty() && chain.writable.empty());
}

TEST_F(VirtqueueTest, BuffersOutsideOfRam)
{
    struct {
        u64 address;
        u32 length;
    } const rows[] = { { 4 * MiB - 1, 2 }, { 4 * MiB, 1 }, { ~u64 { 0 }, 1 }, { ~u64 { 0 } - 3, 8 }, { 0, 0xffffffff }, { GuestMemory::low_limit, 1 } };
    for (auto const& [address, length] : rows) {
        start(0);
        ring.describe(0, address, length, 0);
        expect_broken(offer(0), "not in RAM");
    }
}

TEST_F(VirtqueueTest, Indirect)
{
    ring.describe(4, table, 48, ring_indirect);
    ring.describe_at(table, 0, buffer, 16, ring_next, 2);
    ring.describe_at(table, 2, buffer, 512, ring_next | ring_write, 1);
    ring.describe_at(table, 1, buffer, 1, ring_write);
    ASSERT_EQ(offer(4), Pop::chain);
    EXPECT_EQ(chain.head, 4);
    EXPECT_EQ(chain.readable_bytes, 16U);
    EXPECT_EQ(chain.writable_bytes, 513U);
    // After direct descriptors too (2.7.5.3.1).
    ring.describe(0, buffer, 16, ring_next, 4);
    ASSERT_EQ(offer(0), Pop::chain);
    EXPECT_EQ(chain.readable.size(), 2U);
}

TEST_F(VirtqueueTest, IndirectOfIndirect)
{
    ring.describe(0, table, 32, ring_indirect);
    ring.describe_at(table, 0, table, 32, ring_indirect);
    expect_broken(offer(0), "where none may");
}

TEST_F(VirtqueueTest, IndirectWithNext)
{
    ring.describe(0, table, 32, ring_indirect | ring_next, 1);
    expect_broken(offer(0), "where none may");
}

TEST_F(VirtqueueTest, IndirectWithoutTheFeature)
{
    start(0);
    ring.describe(0, table, 32, ring_indirect);
    expect_broken(offer(0), "where none may");
}

TEST_F(VirtqueueTest, IndirectTablesOfWrongLengths)
{
    for (u32 const length : { 0U, 1U, 15U, 17U, 0xffffffffU }) {
        start(virtio_indirect_descriptors);
        ring.describe(0, table, length, ring_indirect);
        expect_broken(offer(0), "indirect table");
    }
    start(virtio_indirect_descriptors);
    ring.describe(0, 4 * MiB - 16, 32, ring_indirect);
    expect_broken(offer(0), "indirect table");
}

TEST_F(VirtqueueTest, IndirectLoopAndOverrun)
{
    ring.describe(0, table, 32, ring_indirect);
    ring.describe_at(table, 0, buffer, 1, ring_next, 1);
    ring.describe_at(table, 1, buffer, 1, ring_next, 0);
    expect_broken(offer(0), "longer than the queue");
    start(virtio_indirect_descriptors);
    ring.describe(0, table, 32, ring_indirect);
    ring.describe_at(table, 0, buffer, 1, ring_next, 2);
    expect_broken(offer(0), "beyond the table");
}

TEST_F(VirtqueueTest, WrongRings)
{
    auto const refused = [&](Virtqueue::Layout const& layout) {
        queue.reset();
        queue.set_layout(layout);
        return !queue.enable() && queue.broken() && queue.pop(chain) == Pop::broken;
    };
    auto const good = ring.layout;
    for (u16 const wrong : { 0, 3, 32, 65535 })
        EXPECT_TRUE(refused({ wrong, good.descriptors, good.available, good.used })) << wrong;
    for (u64 const wrong : { u64 { 4 * MiB }, 4 * MiB - 16, ~u64 { 15 }, u64 { 0xc0000000 } }) {
        EXPECT_TRUE(refused({ size, wrong, good.available, good.used }));
        EXPECT_TRUE(refused({ size, good.descriptors, wrong, good.used }));
        EXPECT_TRUE(refused({ size, good.descriptors, good.available, wrong }));
    }
    EXPECT_TRUE(refused({ size, good.descriptors + 8, good.available, good.used }));
    EXPECT_TRUE(refused({ size, good.descriptors, good.available + 1, good.used }));
    EXPECT_TRUE(refused({ size, good.descriptors, good.available, good.used + 2 }));
    EXPECT_FALSE(refused(good));
}

TEST_F(VirtqueueTest, InterruptsByFlag)
{
    ring.describe(0, buffer, 1, 0);
    ASSERT_EQ(offer(0), Pop::chain);
    EXPECT_FALSE(queue.wants_interrupt());
    queue.push(0, 0);
    EXPECT_TRUE(queue.wants_interrupt());
    EXPECT_FALSE(queue.wants_interrupt());
    ring.set_no_interrupt(1);
    ASSERT_EQ(offer(0), Pop::chain);
    queue.push(0, 0);
    EXPECT_FALSE(queue.wants_interrupt());
}

TEST_F(VirtqueueTest, InterruptsAndKicksByEventIndex)
{
    start(virtio_event_index);
    ring.describe(0, buffer, 1, 0);
    ring.set_used_event(2);
    for (u16 i = 0; i < 5; ++i) {
        ASSERT_EQ(offer(0), Pop::chain);
        EXPECT_EQ(queue.pop(chain), Pop::empty);
        EXPECT_EQ(ring.available_event(), i + 1);
        queue.push(0, 0);
        EXPECT_EQ(queue.wants_interrupt(), i == 2) << i;
    }
    ring.set_used_event(6);
    for (int i = 0; i < 4; ++i) {
        ASSERT_EQ(offer(0), Pop::chain);
        queue.push(0, 0);
    }
    EXPECT_TRUE(queue.wants_interrupt()); // passed within a batch
}

TEST_F(VirtqueueTest, SavedStateGoesOn)
{
    ring.describe(0, buffer, 1, 0);
    ring.offer(0);
    ring.offer(0);
    ASSERT_EQ(queue.pop(chain), Pop::chain);
    queue.push(0, 7);
    Encoder encoder;
    queue.save(encoder);
    Virtqueue other(*memory, 16);
    Decoder decoder(encoder.bytes());
    ASSERT_TRUE(other.restore(decoder).ok());
    ASSERT_EQ(other.pop(chain), Pop::chain);
    other.push(0, 8);
    EXPECT_EQ(ring.used_index(), 2);
    EXPECT_EQ(other.pop(chain), Pop::empty);

    auto bytes = encoder.bytes();
    bytes[0] = 9; // no power of two
    Decoder damaged(bytes);
    EXPECT_FALSE(other.restore(damaged).ok());
}

TEST_F(VirtqueueTest, RandomRingsNeverLeaveRam)
{
    u64 random = 99;
    auto const next = [&] { return (random = random * 6364136223846793005 + 1442695040888963407) >> 32; };
    for (int round = 0; round < 20'000; ++round) {
        start(next() % 2 ? virtio_indirect_descriptors | virtio_event_index : 0);
        for (u64 i = 0; i < size; ++i) {
            u64 const address = next() % 4 ? table + 16 * (next() % 8) : next() << (next() % 40);
            ring.describe(i, address, static_cast<u32>(next() % 4 ? 16 * (next() % 4) : next()), static_cast<u16>(next() % 8), static_cast<u16>(next() % 10));
            ring.describe_at(table, i, address, static_cast<u32>(next() % 64), static_cast<u16>(next() % 8), static_cast<u16>(next() % 10));
        }
        for (int i = 0; i < 4; ++i) {
            if (offer(static_cast<u16>(next() % (size + 1))) != Pop::chain)
                break;
            EXPECT_LE(chain.readable.size() + chain.writable.size(), 2U * size);
            for (auto const* pieces : { &chain.readable, &chain.writable }) {
                for (auto const& piece : *pieces)
                    ASSERT_EQ(memory->range(piece.address, piece.length), piece.memory);
            }
        }
    }
}

} // namespace
} // namespace anyhyve
