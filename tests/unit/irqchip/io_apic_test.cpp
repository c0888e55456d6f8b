// The IOAPIC: registers, edges, levels with their EOI, state.
#include "device/irqchip/io_apic.hpp"

#include <random>

#include "fake_processor.hpp"

namespace anyhyve {

class IoApicTest : public ::testing::Test {
protected:
    FakeMessages messages;
    IoApic io_apic { messages, 3 };

    u32 get(u8 index)
    {
        io_apic.write(0, 4, index);
        return static_cast<u32>(io_apic.read(0x10, 4));
    }
    void set(u8 index, u32 value)
    {
        io_apic.write(0, 4, index);
        io_apic.write(0x10, 4, value);
    }
    void route(unsigned pin, u32 low, u8 destination = 0)
    {
        set(static_cast<u8>(0x11 + 2 * pin), u32 { destination } << 24);
        set(static_cast<u8>(0x10 + 2 * pin), low);
    }
    bool remote_irr(unsigned pin) { return get(static_cast<u8>(0x10 + 2 * pin)) >> 14 & 1; }
    static constexpr u32 level = 1 << 15, masked = 1 << 16;
};

TEST_F(IoApicTest, Registers)
{
    EXPECT_EQ(get(0), 0x03000000u);
    EXPECT_EQ(get(1), 0x00170020u);
    EXPECT_EQ(get(2), 0x03000000u);
    set(0, 0xff000000);
    EXPECT_EQ(get(0), 0x0f000000u);
    set(1, 0);
    EXPECT_EQ(get(1), 0x00170020u);
    for (u8 pin = 0; pin < 24; ++pin)
        EXPECT_EQ(get(static_cast<u8>(0x10 + 2 * pin)), masked);
    set(0x10, 0xffffffff);
    EXPECT_EQ(get(0x10), 0x1afffu);
    set(0x11, 0xffffffff);
    EXPECT_EQ(get(0x11), 0xff000000u);
    EXPECT_EQ(get(0x40), 0xffffffffu);
    EXPECT_EQ(io_apic.read(0, 4), 0x40u);
    EXPECT_EQ(io_apic.read(0x20, 4), 0xffffffffu);
}

TEST_F(IoApicTest, EdgeSendsItsMessage)
{
    route(4, 0x31 | 1 << 11, 0x5a);
    io_apic.set_level(4, true);
    io_apic.set_level(4, false);
    ASSERT_EQ(messages.sent.size(), 1u);
    EXPECT_EQ(messages.sent[0].first, 0xfee5a004u);
    EXPECT_EQ(messages.sent[0].second & 0x87ff, 0x31u);
    EXPECT_EQ(io_apic.route(4).message.address, 0xfee5a004u);
    EXPECT_FALSE(io_apic.route(4).masked);
    EXPECT_FALSE(remote_irr(4));
}

TEST_F(IoApicTest, EdgesOfAMaskedPinAreLost)
{
    route(4, 0x31 | masked);
    io_apic.set_level(4, true);
    route(4, 0x31);
    EXPECT_TRUE(messages.sent.empty());
    io_apic.set_level(4, false);
    io_apic.set_level(4, true);
    EXPECT_EQ(messages.sent.size(), 1u);
}

TEST_F(IoApicTest, LevelRepeatsAfterEoiOnly)
{
    route(16, 0x41 | level);
    io_apic.set_level(16, true);
    EXPECT_EQ(messages.sent.size(), 1u);
    EXPECT_TRUE(remote_irr(16));
    io_apic.set_level(16, false);
    io_apic.set_level(16, true);
    EXPECT_EQ(messages.sent.size(), 1u);
    io_apic.end_of_interrupt(0x42);
    EXPECT_EQ(messages.sent.size(), 1u);
    io_apic.end_of_interrupt(0x41);
    EXPECT_EQ(messages.sent.size(), 2u);
    io_apic.set_level(16, false);
    io_apic.write(0x40, 4, 0x41); // the EOI register
    EXPECT_FALSE(remote_irr(16));
    EXPECT_EQ(messages.sent.size(), 2u);
}

TEST_F(IoApicTest, SharedPinsCount)
{
    route(17, 0x41 | level);
    io_apic.set_level(17, true);
    io_apic.set_level(17, true);
    io_apic.set_level(17, false);
    io_apic.end_of_interrupt(0x41);
    EXPECT_EQ(messages.sent.size(), 2u);
    io_apic.set_level(17, false);
    io_apic.end_of_interrupt(0x41);
    EXPECT_EQ(messages.sent.size(), 2u);
    io_apic.set_level(17, false); // too often: harmless
    io_apic.set_level(17, true);
    EXPECT_EQ(messages.sent.size(), 3u);
}

TEST_F(IoApicTest, MaskedLevelWaits)
{
    route(16, 0x41 | level | masked);
    io_apic.set_level(16, true);
    EXPECT_TRUE(messages.sent.empty());
    route(16, 0x41 | level);
    EXPECT_EQ(messages.sent.size(), 1u);
    route(16, 0x41 | level | masked);
    EXPECT_TRUE(remote_irr(16));
    io_apic.end_of_interrupt(0x41);
    EXPECT_EQ(messages.sent.size(), 1u);
    route(16, 0x41 | level);
    EXPECT_EQ(messages.sent.size(), 2u);
}

TEST_F(IoApicTest, EdgeTriggerEndsAnInterruptToo)
{
    route(16, 0x41 | level);
    io_apic.set_level(16, true);
    route(16, 0x41 | masked);
    EXPECT_FALSE(remote_irr(16));
    route(16, 0x41 | level);
    EXPECT_EQ(messages.sent.size(), 2u);
}

TEST_F(IoApicTest, NmiAndExternalAreEdges)
{
    route(0, 0x700 | level);
    io_apic.set_level(0, true);
    EXPECT_FALSE(remote_irr(0));
    EXPECT_EQ(messages.sent.size(), 1u);
    EXPECT_EQ(messages.sent[0].second >> 8 & 7, 7u);
    EXPECT_FALSE(messages.sent[0].second & level);
}

TEST_F(IoApicTest, PinsBeyondTheLast)
{
    io_apic.set_level(24, true);
    io_apic.set_level(~0u, true);
    EXPECT_TRUE(io_apic.route(24).masked);
}

TEST_F(IoApicTest, StateSurvives)
{
    route(16, 0x41 | level, 1);
    io_apic.set_level(16, true);
    route(4, 0x31, 2);
    auto const state = saved(io_apic);
    FakeMessages other_messages;
    IoApic other(other_messages);
    other.set_level(16, true); // the device asserts its wire again
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_TRUE(other_messages.sent.empty());
    EXPECT_EQ(saved(other), state);
    other.end_of_interrupt(0x41);
    EXPECT_EQ(other_messages.sent.size(), 1u);
    expect_robust_restore(io_apic, state);
}

TEST_F(IoApicTest, ResetLeavesTheWires)
{
    io_apic.set_level(16, true);
    io_apic.reset();
    route(16, 0x41 | level);
    EXPECT_EQ(messages.sent.size(), 1u);
}

TEST_F(IoApicTest, SurvivesAnything)
{
    std::mt19937 random(5);
    for (int i = 0; i < 100'000; ++i) {
        switch (random() % 5) {
        case 0: set(static_cast<u8>(random() % 0x50), random()); break;
        case 1: (void)get(static_cast<u8>(random())); break;
        case 2: io_apic.set_level(random() % 26, random() % 2); break;
        case 3: io_apic.end_of_interrupt(static_cast<u8>(random())); break;
        default: io_apic.write(random() % 0x1000, 1u << random() % 4, random());
        }
        messages.sent.clear();
    }
}

// From a device's wire through IOAPIC and local APIC, and the EOI all the way back.
TEST(LevelInterrupts, GoAllTheWay)
{
    ApicBoard board(2);
    board.enable_all();
    IoApic io_apic(board.bus);
    board.bus.set_eoi_listener(&io_apic);
    io_apic.write(0, 4, 0x10 + 2 * 19);
    io_apic.write(0x10, 4, 0x61 | 1 << 15);
    io_apic.write(0, 4, 0x11 + 2 * 19);
    io_apic.write(0x10, 4, 1 << 24);
    IrqLine line(io_apic, 19);
    line.raise();
    EXPECT_EQ(board.apics[1]->acknowledge(), 0x61);
    EXPECT_EQ(board.read(1, static_cast<ApicRegister>(0x1b)), 2u); // TMR
    board.eoi(1);
    EXPECT_EQ(board.apics[1]->acknowledge(), 0x61);
    line.lower();
    board.eoi(1);
    EXPECT_FALSE(board.apics[1]->interrupt_pending());

    // With broadcasts suppressed, software ends it at the IOAPIC.
    board.write(1, ApicRegister::spurious_vector, 0x11ff);
    line.raise();
    EXPECT_EQ(board.apics[1]->acknowledge(), 0x61);
    board.eoi(1);
    EXPECT_FALSE(board.apics[1]->interrupt_pending());
    io_apic.write(0x40, 4, 0x61);
    EXPECT_TRUE(board.apics[1]->interrupt_pending());
}

} // namespace anyhyve
