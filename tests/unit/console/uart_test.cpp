// The 16550A: registers, FIFOs, each interrupt, loopback, back-pressure, saving.
#include <gtest/gtest.h>

#include "uart_fixture.hpp"

namespace anyhyve {
namespace {

enum : u64 { data, ier, iir, lcr, mcr, lsr, msr, scratch };

struct UartTest : testing::Test {
    ManualClock clock;
    OneLine line;
    RecordingConsole* console = nullptr;
    std::unique_ptr<Uart> uart;

    void SetUp() override
    {
        auto backend = std::make_unique<RecordingConsole>();
        console = backend.get();
        uart = std::make_unique<Uart>("com1", IrqLine(line, 4), clock, std::move(backend));
    }
    u64 in(u64 reg) { return uart->read(reg, 1); }
    void out(u64 reg, u64 value) { uart->write(reg, 1, value); }
};

TEST_F(UartTest, PowerOn)
{
    EXPECT_EQ(in(ier), 0U);
    EXPECT_EQ(in(iir), 0x01U);
    EXPECT_EQ(in(lsr), 0x60U);
    EXPECT_EQ(in(msr), 0xb0U);
    EXPECT_FALSE(line.level);
}

TEST_F(UartTest, RegistersKeepWhatExistsOfThem)
{
    out(ier, 0xff);
    EXPECT_EQ(in(ier), 0x0fU);
    out(mcr, 0xff);
    EXPECT_EQ(in(mcr), 0x1fU);
    out(scratch, 0xa5);
    EXPECT_EQ(in(scratch), 0xa5U);
    out(lcr, 0x83);
    out(data, 0x34);
    out(ier, 0x12);
    EXPECT_EQ(in(data), 0x34U);
    EXPECT_EQ(in(ier), 0x12U);
    out(lcr, 0x03);
    EXPECT_EQ(in(ier), 0x0fU);
    EXPECT_EQ(console->output, "");
}

TEST_F(UartTest, WideAccessesReachNeighbours)
{
    uart->write(lcr, 2, 0x0803);
    EXPECT_EQ(in(lcr), 0x03U);
    EXPECT_EQ(in(mcr), 0x08U);
    EXPECT_EQ(uart->read(lcr, 2), 0x0803U);
    EXPECT_EQ(uart->read(scratch, 2), 0xff00U);
    uart->write(scratch, 4, 0x11223344);
    EXPECT_EQ(in(scratch), 0x44U);
}

TEST_F(UartTest, IsRecognisedAs16550a)
{
    out(iir, 0x01);
    EXPECT_EQ(in(iir) >> 6, 3U);
    EXPECT_EQ(in(iir) & 0x20, 0U); // no 16750
    out(iir, 0x00);
    EXPECT_EQ(in(iir) >> 6, 0U);
    out(iir, 0xc0); // without the enable bit the others do nothing
    EXPECT_EQ(in(iir) >> 6, 0U);
}

TEST_F(UartTest, SendsAndInterruptsWhenEmpty)
{
    out(data, 'a');
    EXPECT_FALSE(line.level);
    out(ier, 0x02);
    EXPECT_TRUE(line.level);
    EXPECT_EQ(in(iir), 0x02U);
    EXPECT_FALSE(line.level);
    EXPECT_EQ(in(iir), 0x01U);
    out(data, 'b');
    EXPECT_TRUE(line.level);
    EXPECT_EQ(line.edges, 2);
    out(ier, 0);
    EXPECT_FALSE(line.level);
    EXPECT_EQ(console->output, "ab");
}

TEST_F(UartTest, FullBackEndHoldsTheTransmitter)
{
    out(ier, 0x02);
    in(iir);
    console->room = false;
    out(data, 'x');
    EXPECT_EQ(in(lsr) & 0x60, 0U);
    EXPECT_FALSE(line.level);
    console->room = true;
    console->drained();
    EXPECT_TRUE(line.level);
    EXPECT_EQ(in(lsr) & 0x60, 0x60U);
    console->room = false;
    out(data, 'y');
    console->room = true; // a driver that polls needs no callback
    EXPECT_EQ(in(lsr) & 0x60, 0x60U);
}

TEST_F(UartTest, OneByteWithoutFifo)
{
    out(ier, 0x01);
    EXPECT_EQ(console->type("ab"), "b");
    EXPECT_TRUE(line.level);
    EXPECT_EQ(in(iir), 0x04U);
    EXPECT_EQ(in(lsr), 0x61U);
    EXPECT_EQ(console->ready, 0);
    EXPECT_EQ(in(data), 'a');
    EXPECT_EQ(console->ready, 1);
    EXPECT_FALSE(line.level);
    EXPECT_EQ(in(data), 0U);
}

TEST_F(UartTest, FifoTriggerLevelsAndTimeout)
{
    unsigned const levels[] = { 1, 4, 8, 14 };
    for (unsigned i = 0; i < 4; ++i) {
        out(ier, 0x01);
        out(iir, 0x07 | i << 6);
        for (unsigned n = 1; n < levels[i]; ++n) {
            console->type("c");
            EXPECT_FALSE(line.level) << levels[i] << " " << n;
        }
        if (levels[i] > 1) {
            clock.advance(340'000); // four characters at 115200 are 347 us
            EXPECT_FALSE(line.level);
            clock.advance(10'000);
            EXPECT_TRUE(line.level);
            EXPECT_EQ(in(iir), 0xccU);
            in(data);
            EXPECT_FALSE(line.level);
            console->type("c");
        }
        console->type("c");
        EXPECT_EQ(in(iir), 0xc4U);
    }
}

TEST_F(UartTest, FifoHoldsSixteen)
{
    out(iir, 0xc1);
    EXPECT_EQ(console->type("0123456789abcdefg"), "g");
    EXPECT_EQ(console->type("g"), "g");
    std::string got;
    while (in(lsr) & 1)
        got += static_cast<char>(in(data));
    EXPECT_EQ(got, "0123456789abcdef");
    console->type("zz");
    out(iir, 0xc3);
    EXPECT_EQ(in(lsr) & 1, 0U);
}

TEST_F(UartTest, Loopback)
{
    out(mcr, 0x10);
    EXPECT_EQ(in(msr) & 0xf0, 0U);
    out(mcr, 0x1f);
    EXPECT_EQ(in(msr) & 0xf0, 0xf0U);
    out(mcr, 0x1a);
    EXPECT_EQ(in(msr) & 0xf0, 0x90U); // RTS is CTS, OUT2 is carrier
    EXPECT_EQ(console->type("k"), "k");
    out(data, 'l');
    EXPECT_EQ(in(lsr) & 1, 1U);
    out(ier, 0x04);
    out(data, 'm'); // no room: overrun
    EXPECT_EQ(in(iir), 0x06U);
    EXPECT_TRUE(line.level);
    EXPECT_EQ(in(lsr) & 2, 2U);
    EXPECT_FALSE(line.level);
    EXPECT_EQ(in(data), 'l');
    EXPECT_EQ(console->output, "");
    int const ready = console->ready;
    out(mcr, 0x0b);
    EXPECT_EQ(console->ready, ready + 1);
}

TEST_F(UartTest, ModemStatusInterruptAndDeltas)
{
    out(mcr, 0x10);
    in(msr);
    out(ier, 0x08);
    out(mcr, 0x12);
    EXPECT_TRUE(line.level);
    EXPECT_EQ(in(iir), 0x00U);
    EXPECT_EQ(in(msr), 0x11U);
    EXPECT_FALSE(line.level);
    out(mcr, 0x14);
    EXPECT_EQ(in(msr), 0x41U); // a ring that begins is no change
    out(mcr, 0x10);
    EXPECT_EQ(in(msr), 0x04U);
}

TEST_F(UartTest, Priorities)
{
    out(mcr, 0x10);
    out(ier, 0x0f);
    out(data, 'a');
    out(data, 'b');
    EXPECT_EQ(in(iir), 0x06U);
    in(lsr);
    EXPECT_EQ(in(iir), 0x04U);
    in(data);
    EXPECT_EQ(in(iir), 0x02U);
    EXPECT_EQ(in(iir), 0x00U);
    in(msr);
    EXPECT_EQ(in(iir), 0x01U);
}

TEST_F(UartTest, SavedStateComesBack)
{
    out(iir, 0x81);
    out(ier, 0x05);
    out(lcr, 0x1b);
    console->type("hello");
    in(data);
    Encoder encoder;
    uart->save(encoder);
    uart->reset();
    EXPECT_EQ(in(ier), 0U);
    EXPECT_EQ(in(lsr) & 1, 0U);
    Decoder decoder(encoder.bytes());
    ASSERT_TRUE(uart->restore(decoder, 1).ok());
    EXPECT_EQ(in(ier), 5U);
    EXPECT_EQ(in(lcr), 0x1bU);
    clock.advance(1'000'000);
    EXPECT_TRUE(line.level);
    std::string got;
    while (in(lsr) & 1)
        got += static_cast<char>(in(data));
    EXPECT_EQ(got, "ello");

    auto bytes = encoder.bytes();
    bytes.back() = 17; // more than the FIFO holds
    Decoder damaged(bytes);
    EXPECT_FALSE(uart->restore(damaged, 1).ok());
    EXPECT_EQ(in(ier), 0U);
}

TEST_F(UartTest, SurvivesRandomAccesses)
{
    u64 random = 12345;
    for (int i = 0; i < 200'000; ++i) {
        random = random * 6364136223846793005 + 1442695040888963407;
        u64 const pick = random >> 33;
        u64 const reg = pick & 7;
        unsigned const width = 1U << (pick >> 3 & 1);
        switch (pick >> 4 & 3) {
        case 0:
            uart->read(reg, width);
            break;
        case 1:
            console->type("some text");
            break;
        case 2:
            console->room = pick & 64;
            console->drained();
            break;
        default:
            uart->write(reg, width, pick >> 8);
        }
        if (i % 16 == 0)
            clock.advance(pick & 0xfffff);
    }
    EXPECT_EQ(uart->statistics()[1].value, console->output.size());
}

} // namespace
} // namespace anyhyve
