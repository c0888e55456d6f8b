// ACPI hardware, reset ports, keyboard controller, diagnostic port.
#include <random>

#include "../timer/fake_clock.hpp"
#include "../timer/fake_wires.hpp"
#include "base/bits.hpp"
#include "device/legacy/acpi_pm.hpp"
#include "device/legacy/debug_port.hpp"
#include "device/legacy/keyboard_controller.hpp"
#include "device/legacy/reset_port.hpp"

namespace anyhyve {

class AcpiPmTest : public ::testing::Test {
protected:
    FakeClock clock;
    FakeSink sink;
    int power_offs = 0;
    AcpiPm pm { clock, IrqLine(sink, 9), [this] { ++power_offs; } };

    u64 get(u64 offset, unsigned width = 2) { return pm.registers().read(offset, width); }
    void set(u64 offset, u64 value, unsigned width = 2) { pm.registers().write(offset, width, value); }
    void enable_acpi() { pm.smi_command().write(0, 1, 0xa0); }
};

TEST_F(AcpiPmTest, TimerRunsAtItsFrequency)
{
    clock.advance(1'000'000'000);
    EXPECT_EQ(get(8, 4), 3'579'545u);
    EXPECT_EQ(get(9, 1), 3'579'545u >> 8 & 0xff);
    set(8, 0, 4);
    EXPECT_EQ(get(8, 4), 3'579'545u);
}

TEST_F(AcpiPmTest, SmiCommandTurnsAcpiOnAndOff)
{
    EXPECT_FALSE(get(4) & 1);
    enable_acpi();
    EXPECT_TRUE(get(4) & 1);
    set(4, 0); // SCI_EN is not software's
    EXPECT_TRUE(get(4) & 1);
    pm.smi_command().write(0, 1, 0xa1);
    EXPECT_FALSE(get(4) & 1);
}

TEST_F(AcpiPmTest, PowerButton)
{
    EXPECT_EQ(pm.press_power_button(), AcpiPm::ButtonOutcome::nobody_listens);
    enable_acpi();
    EXPECT_EQ(pm.press_power_button(), AcpiPm::ButtonOutcome::nobody_listens);
    set(0, 0xffff);
    set(2, 0xffff);
    EXPECT_EQ(get(2), 0x521u);
    EXPECT_EQ(pm.press_power_button(), AcpiPm::ButtonOutcome::delivered);
    EXPECT_TRUE(sink.level(9));
    EXPECT_EQ(get(0, 4), 0x05210100u);
    EXPECT_EQ(get(1, 1), 0x01u);
    set(1, 0x01, 1);
    EXPECT_FALSE(sink.level(9));
    EXPECT_EQ(get(0), 0u);
}

TEST_F(AcpiPmTest, DisablingAcpiSilencesTheInterrupt)
{
    enable_acpi();
    set(2, 0x100);
    pm.press_power_button();
    pm.smi_command().write(0, 1, 0xa1);
    EXPECT_FALSE(sink.level(9));
}

TEST_F(AcpiPmTest, TimerCarry)
{
    enable_acpi();
    set(2, 1);
    clock.advance(599'000'000'000);
    EXPECT_FALSE(sink.level(9));
    clock.advance(2'000'000'000);
    EXPECT_TRUE(sink.level(9));
    EXPECT_EQ(get(0), 1u);
    set(0, 1);
    EXPECT_FALSE(sink.level(9));
    clock.advance(600'000'000'000);
    EXPECT_TRUE(sink.level(9));
}

TEST_F(AcpiPmTest, OnlyS5PowersOff)
{
    set(4, 5 << 10);
    EXPECT_EQ(power_offs, 0);
    set(4, 3 << 10 | 1 << 13);
    EXPECT_EQ(power_offs, 0);
    set(4, 5 << 10 | 1 << 13);
    EXPECT_EQ(power_offs, 1);
    EXPECT_FALSE(get(4) & 1 << 13);
    set(5, (5 << 10 | 1 << 13) >> 8, 1); // the byte alone
    EXPECT_EQ(power_offs, 2);
}

TEST_F(AcpiPmTest, StateSurvives)
{
    enable_acpi();
    set(2, 0x100);
    pm.press_power_button();
    auto const state = saved(pm);
    FakeSink other_sink;
    AcpiPm other(clock, IrqLine(other_sink, 9), [] {});
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_TRUE(other_sink.level(9));
    EXPECT_EQ(saved(other), state);
    expect_robust_restore(other, state);
    other.reset();
    EXPECT_FALSE(other_sink.level(9));
}

TEST_F(AcpiPmTest, SurvivesAnything)
{
    std::mt19937_64 random(8);
    for (int i = 0; i < 100'000; ++i) {
        unsigned const width = 1u << random() % 4;
        if (random() % 2)
            set(random() % 16, random() & mask_of_bytes(width), width);
        else
            (void)get(random() % 16, width);
        if (random() % 16 == 0)
            pm.smi_command().write(random() % 2, 1, random() & 0xff);
        clock.advance(random() % 100'000'000);
    }
}

TEST(ResetPort, ResetControl)
{
    int resets = 0;
    ResetPort port([&] { ++resets; });
    port.reset_control().write(0, 1, 0x02);
    EXPECT_EQ(resets, 0);
    EXPECT_EQ(port.reset_control().read(0, 1), 0x02u);
    port.reset_control().write(0, 1, 0x06);
    EXPECT_EQ(resets, 1);
}

TEST(ResetPort, SystemControl)
{
    int resets = 0;
    ResetPort port([&] { ++resets; });
    EXPECT_EQ(port.system_control().read(0, 1), 0x02u);
    port.system_control().write(0, 1, 0x00);
    port.system_control().write(0, 1, 0x02);
    EXPECT_EQ(resets, 0);
    port.system_control().write(0, 1, 0x03);
    EXPECT_EQ(resets, 1);
    auto const state = saved(port);
    expect_robust_restore(port, state);
}

class KeyboardControllerTest : public ::testing::Test {
protected:
    FakeSink sink;
    int resets = 0;
    KeyboardController controller { IrqLine(sink, 1), IrqLine(sink, 12), [this] { ++resets; } };

    void command(u8 value) { controller.command().write(0, 1, value); }
    u8 status() { return static_cast<u8>(controller.command().read(0, 1)); }
    void write(u8 value) { controller.data().write(0, 1, value); }
    u8 read() { return static_cast<u8>(controller.data().read(0, 1)); }
};

TEST_F(KeyboardControllerTest, SelfTest)
{
    EXPECT_FALSE(status() & 1);
    command(0xaa);
    EXPECT_TRUE(status() & 1);
    EXPECT_EQ(read(), 0x55);
    EXPECT_FALSE(status() & 1);
    EXPECT_TRUE(status() & 4);
    command(0xab);
    EXPECT_EQ(read(), 0);
    EXPECT_EQ(sink.total_edges(), 0);
}

TEST_F(KeyboardControllerTest, CommandByte)
{
    command(0x60);
    write(0x47);
    command(0x20);
    EXPECT_EQ(read(), 0x47);
    command(0xad);
    command(0x20);
    EXPECT_EQ(read(), 0x57);
    command(0x7f);
    write(0x11);
    command(0x3f);
    EXPECT_EQ(read(), 0x11);
}

TEST_F(KeyboardControllerTest, MissingDevicesTimeOut)
{
    command(0x60);
    write(0x03);
    write(0xff); // keyboard, reset
    EXPECT_EQ(status() & 0x61, 0x41);
    EXPECT_TRUE(sink.level(1));
    EXPECT_EQ(read(), 0xfe);
    EXPECT_FALSE(sink.level(1));
    command(0xd4);
    write(0xff);
    EXPECT_EQ(status() & 0x61, 0x61);
    EXPECT_TRUE(sink.level(12));
    EXPECT_EQ(read(), 0xfe);
}

TEST_F(KeyboardControllerTest, MouseLoopback)
{
    command(0xd3);
    write(0x5a);
    EXPECT_EQ(status() & 0x61, 0x21);
    EXPECT_EQ(read(), 0x5a);
}

TEST_F(KeyboardControllerTest, Resets)
{
    command(0xff);
    EXPECT_EQ(resets, 0);
    command(0xfe);
    EXPECT_EQ(resets, 1);
    command(0xd1);
    write(0xdf);
    EXPECT_EQ(resets, 1);
    command(0xd0);
    EXPECT_EQ(read() & 0x0f, 0x0f);
    command(0xd1);
    write(0xde);
    EXPECT_EQ(resets, 2);
}

TEST_F(KeyboardControllerTest, StateSurvives)
{
    command(0x60);
    write(0x03);
    write(0xf4);
    command(0xd1);
    auto const state = saved(controller);
    FakeSink other_sink;
    KeyboardController other(IrqLine(other_sink, 1), IrqLine(other_sink, 12), [] {});
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_TRUE(other_sink.level(1));
    EXPECT_EQ(saved(other), state);
    expect_robust_restore(other, state);
}

TEST_F(KeyboardControllerTest, SurvivesAnything)
{
    std::mt19937 random(9);
    for (int i = 0; i < 100'000; ++i) {
        switch (random() % 4) {
        case 0: command(static_cast<u8>(random())); break;
        case 1: write(static_cast<u8>(random())); break;
        case 2: (void)read(); break;
        default: (void)status();
        }
    }
}

TEST(DebugPort, RemembersTheLastCode)
{
    DebugPort port("post80");
    port.write(0, 1, 0xa5);
    EXPECT_EQ(port.read(0, 1), 0xa5u);
    EXPECT_EQ(port.last_code(), 0xa5u);
    port.write(1, 1, 0x11);
    EXPECT_EQ(port.read(1, 1), 0xffu);
    auto const state = saved(port);
    port.reset();
    EXPECT_EQ(port.last_code(), 0u);
    ASSERT_TRUE(restore_into(port, state));
    EXPECT_EQ(port.last_code(), 0xa5u);
    expect_robust_restore(port, state);
}

} // namespace anyhyve
