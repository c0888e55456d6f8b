// Configuration space: every width at every alignment, masks, clearable bits, the end.
#include <gtest/gtest.h>

#include "base/bits.hpp"
#include "device/pci/config_space.hpp"

namespace anyhyve {
namespace {

TEST(ConfigSpace, EveryWidthAndAlignmentChangesExactlyTheWritableBits)
{
    for (unsigned width : { 1U, 2U, 4U }) {
        for (u16 offset = 0; offset < 16; ++offset) {
            ConfigSpace space(256);
            for (u16 i = 0; i < 32; ++i) {
                space.set(i, 1, 0xa0U + i);
                space.set_writable(i, 1, i % 2 ? 0x0f : 0xff);
            }
            space.write(offset, width, 0x5a5a5a5a);
            for (u16 i = 0; i < 32; ++i) {
                u32 const old = 0xa0U + i;
                u32 const mask = i >= offset && i < offset + width ? (i % 2 ? 0x0f : 0xff) : 0;
                EXPECT_EQ(space.read(i, 1), ((old & ~mask) | (0x5a & mask)) & 0xff) << "width " << width << " offset " << offset << " byte " << i;
            }
        }
    }
}

// FreeBSD-EN-20:13: one dword access over two word registers must reach both, each by its own rules.
TEST(ConfigSpace, DwordOverTwoWordsIsTwoAccesses)
{
    ConfigSpace space(256);
    space.set(4, 2, 0x0000);
    space.set(6, 2, 0xf010);
    space.set_writable(4, 2, 0x0547);
    space.set_clearable(6, 2, 0xf900);
    EXPECT_EQ(space.read(4, 4), 0xf0100000U);
    space.write(4, 4, 0x3000'ffff);
    EXPECT_EQ(space.read(4, 2), 0x0547U);
    EXPECT_EQ(space.read(6, 2), 0xc010U);
    space.write(5, 2, 0x4004); // a word that lies over both: only the high byte of one and the low byte of the other
    EXPECT_EQ(space.read(4, 4), 0xc0100447U);
    space.write(6, 2, 0x8000);
    EXPECT_EQ(space.read(6, 2), 0x4010U);
}

TEST(ConfigSpace, BeyondTheEndIsOnesAndSilence)
{
    ConfigSpace space(256);
    space.set_writable(252, 4, ~u32 { 0 });
    space.write(254, 4, 0x11223344);
    EXPECT_EQ(space.read(254, 4), 0xffff3344U);
    EXPECT_EQ(space.read(256, 4), 0xffffffffU);
    EXPECT_EQ(space.read(4092, 2), 0xffffU);
    space.write(4095, 1, 0);
}

TEST(ConfigSpace, RestoreRefusesAnotherDevice)
{
    ConfigSpace space(256), power_on(256);
    for (auto* each : { &space, &power_on }) {
        each->set(0, 4, 0x12345678);
        each->set_writable(4, 2, 0x7);
    }
    auto bytes = space.bytes();
    bytes[4] = 5;
    EXPECT_TRUE(space.restore(bytes, power_on));
    EXPECT_EQ(space.read(4, 1), 5U);
    bytes[0] ^= 1;
    EXPECT_FALSE(space.restore(bytes, power_on));
    bytes[0] ^= 1;
    bytes[4] = 8;
    EXPECT_FALSE(space.restore(bytes, power_on));
    bytes.resize(255);
    EXPECT_FALSE(space.restore(bytes, power_on));
}

} // namespace
} // namespace anyhyve
