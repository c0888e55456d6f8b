// The virtio entropy device through both transports.
#include <algorithm>

#include <gtest/gtest.h>

#include "device/virtio/virtio_rnd.hpp"
#include "guest_driver.hpp"

namespace anyhyve {
namespace {

struct VirtioRndTest : testing::TestWithParam<Transport> {
    static constexpr u64 buffer = 0x200000;
    VirtioBoard board;
    std::unique_ptr<VirtioRnd> device = VirtioRnd::create(board.wires(), { 0, 5, 0 }, {}).release_value();
    std::unique_ptr<GuestDriver> driver;

    void SetUp() override
    {
        board.plug(*device);
        driver = std::make_unique<GuestDriver>(board, *device, GetParam());
        driver->start(0);
    }
    std::vector<u8> content(u64 size) const
    {
        std::vector<u8> bytes(size);
        board.memory->read(Gpa(buffer), bytes.data(), size);
        return bytes;
    }
};

TEST_P(VirtioRndTest, FillsBuffers)
{
    EXPECT_EQ(device->config_read(0, 4), 0x10051af4U);
    EXPECT_EQ(device->config_read(0x2e, 2), 4U);
    driver->ring().describe(0, buffer, 64, ring_write);
    driver->ring().offer(0);
    driver->kick();
    EXPECT_EQ(driver->ring().used_index(), 1);
    EXPECT_EQ(driver->ring().used_length(0), 64U);
    auto const bytes = content(65);
    EXPECT_GT(std::count_if(bytes.begin(), bytes.end() - 1, [](u8 byte) { return byte != 0; }), 32);
    EXPECT_EQ(bytes[64], 0);
    EXPECT_TRUE(board.line());
}

TEST_P(VirtioRndTest, OddBuffers)
{
    auto& ring = driver->ring();
    ring.describe(0, buffer, 100, 0); // nothing to write into
    ring.describe(1, buffer, 3 * 4096, ring_write);
    ring.describe(2, buffer, 0, ring_write);
    ring.describe(3, buffer, 10, ring_next | ring_write, 4);
    ring.describe(4, buffer + 10, 10, ring_write);
    for (u16 head : { 0, 1, 2, 3 })
        ring.offer(head);
    driver->kick();
    ASSERT_EQ(ring.used_index(), 4);
    EXPECT_EQ(ring.used_length(0), 0U);
    EXPECT_EQ(ring.used_length(1), 4096U);
    EXPECT_EQ(ring.used_length(2), 0U);
    EXPECT_EQ(ring.used_length(3), 20U);
    EXPECT_EQ(device->statistics()[1].value, 4116U);
}

INSTANTIATE_TEST_SUITE_P(Transports, VirtioRndTest, testing::Values(Transport::legacy, Transport::modern),
    [](auto const& parameter) { return parameter.param == Transport::legacy ? "legacy" : "modern"; });

} // namespace
} // namespace anyhyve
