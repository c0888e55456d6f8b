// The test device and the debug exit.
#include "../timer/fake_clock.hpp"
#include "../timer/fake_wires.hpp"
#include "device/legacy/debug_exit.hpp"
#include "device/legacy/test_device.hpp"

namespace anyhyve {

class TestDeviceTest : public ::testing::Test {
protected:
    FakeSink sink;
    TestDevice device { sink };
};

TEST_F(TestDeviceTest, LatchKeepsBytes)
{
    device.ports().write(0, 4, 0x11223344);
    device.ports().write(1, 1, 0xff);
    EXPECT_EQ(device.ports().read(0, 4), 0x1122ff44u);
    EXPECT_EQ(device.ports().read(2, 2), 0x1122u);
    device.ports().write(4, 4, 0x1000); // flush: nothing to see
    EXPECT_EQ(device.ports().read(4, 4), 0u);
}

TEST_F(TestDeviceTest, LinesFollowTheirPorts)
{
    device.lines().write(11, 1, 1);
    EXPECT_TRUE(sink.level(11));
    device.lines().write(11, 1, 0);
    EXPECT_FALSE(sink.level(11));
    device.lines().write(TestDevice::line_count, 1, 1);
    EXPECT_EQ(device.lines().read(11, 1), 0u);
}

TEST_F(TestDeviceTest, MemoryIsOnTheBus)
{
    device.memory().write(0x1ffd, 8, 0x1122334455667788);
    EXPECT_EQ(device.memory().read(0x1ffd, 8), 0x1122334455667788u);
    EXPECT_EQ(device.memory().read(0x2000, 1), 0x55u);
    device.memory().write(TestDevice::memory_size - 1, 4, ~0u);
    EXPECT_EQ(device.memory().read(TestDevice::memory_size, 1), 0xffu);
}

TEST_F(TestDeviceTest, StateComesBack)
{
    device.ports().write(0, 4, 0x11223344);
    device.lines().write(5, 1, 1);
    device.memory().write(0x8000, 1, 0x77);
    Encoder out;
    device.save(out);
    auto const bytes = out.bytes();
    device.reset();
    EXPECT_FALSE(sink.level(5));
    EXPECT_EQ(device.memory().read(0x8000, 1), 0u);
    Decoder in(bytes);
    ASSERT_TRUE(device.restore(in, 1).ok());
    EXPECT_TRUE(sink.level(5));
    EXPECT_EQ(device.ports().read(0, 4), 0x11223344u);
    EXPECT_EQ(device.memory().read(0x8000, 1), 0x77u);
    Decoder again(bytes);
    EXPECT_FALSE(device.restore(again, 2).ok());
}

TEST(DebugExit, StatusIsTwiceTheValueAndOne)
{
    int status = -1;
    DebugExit port([&](int s) { status = s; });
    port.write(0, 4, 0);
    EXPECT_EQ(status, 1);
    port.write(0, 1, 0x110);
    EXPECT_EQ(status, 0x21);
    port.write(0, 4, 0xff);
    EXPECT_EQ(status, 0xff);
    EXPECT_EQ(port.read(0, 1), 0u);
}

} // namespace anyhyve
