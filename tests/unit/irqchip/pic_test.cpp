// The 8259 pair: initialisation, priorities, ends of interrupt, levels, poll, state; and its way to the processors.
#include "device/irqchip/pic.hpp"

#include <random>

#include "fake_processor.hpp"

namespace anyhyve {

class PicTest : public ::testing::Test {
protected:
    bool output = false;
    int rises = 0;
    Pic pic { [this](bool now) {
        output = now;
        rises += now;
    } };

    void master(unsigned port, u8 value) { pic.master().write(port, 1, value); }
    void slave(unsigned port, u8 value) { pic.slave().write(port, 1, value); }
    u8 master(unsigned port) { return static_cast<u8>(pic.master().read(port, 1)); }
    u8 slave(unsigned port) { return static_cast<u8>(pic.slave().read(port, 1)); }
    void initialise(u8 icw4 = 0x01)
    {
        master(0, 0x11), master(1, 0x20), master(1, 0x04), master(1, icw4);
        slave(0, 0x11), slave(1, 0x28), slave(1, 0x02), slave(1, icw4 & 0xef);
    }
    void pulse(unsigned line)
    {
        pic.set_level(line, true);
        pic.set_level(line, false);
    }
    u8 in_service(bool of_slave = false)
    {
        (of_slave ? slave(0, 0x0b) : master(0, 0x0b));
        u8 const value = of_slave ? slave(0) : master(0);
        (of_slave ? slave(0, 0x0a) : master(0, 0x0a));
        return value;
    }
};

TEST_F(PicTest, SilentBeforeInitialisation)
{
    pulse(3);
    EXPECT_FALSE(output);
}

TEST_F(PicTest, FirmwareLeavesItToRealMode)
{
    pic.initialise_as_firmware();
    EXPECT_EQ(master(1), 0);
    EXPECT_EQ(slave(1), 0);
    pulse(11);
    EXPECT_TRUE(output);
    EXPECT_EQ(pic.acknowledge(), 0x73);
    slave(0, 0x20), master(0, 0x20);
    pulse(1);
    EXPECT_EQ(pic.acknowledge(), 0x09);
}

TEST_F(PicTest, EdgeInterrupt)
{
    initialise();
    EXPECT_EQ(master(1), 0);
    pulse(3);
    EXPECT_TRUE(output);
    EXPECT_EQ(master(0), 1 << 3);
    EXPECT_EQ(pic.acknowledge(), 0x23);
    EXPECT_FALSE(output);
    EXPECT_EQ(in_service(), 1 << 3);
    master(0, 0x20);
    EXPECT_EQ(in_service(), 0);
}

TEST_F(PicTest, SlaveInterruptThroughTheCascade)
{
    initialise();
    pulse(12);
    EXPECT_EQ(pic.acknowledge(), 0x2c);
    EXPECT_EQ(in_service(), 1 << 2);
    EXPECT_EQ(in_service(true), 1 << 4);
    pulse(14);
    EXPECT_FALSE(output);
    slave(0, 0x20);
    EXPECT_FALSE(output); // the master still serves its line 2
    master(0, 0x20);
    EXPECT_TRUE(output);
    EXPECT_EQ(pic.acknowledge(), 0x2e);
}

TEST_F(PicTest, PrioritiesNest)
{
    initialise();
    pulse(5);
    EXPECT_EQ(pic.acknowledge(), 0x25);
    pulse(6);
    EXPECT_FALSE(output);
    pulse(1);
    EXPECT_EQ(pic.acknowledge(), 0x21);
    master(0, 0x20);
    EXPECT_EQ(in_service(), 1 << 5);
    master(0, 0x20);
    EXPECT_EQ(pic.acknowledge(), 0x26);
    pulse(4);
    pulse(0);
    EXPECT_EQ(pic.acknowledge(), 0x20);
}

TEST_F(PicTest, Masks)
{
    initialise();
    master(1, 0x08);
    pulse(3);
    EXPECT_FALSE(output);
    EXPECT_EQ(master(1), 0x08);
    master(1, 0x00);
    EXPECT_TRUE(output);
    master(1, 0xff);
    EXPECT_FALSE(output);
    EXPECT_EQ(pic.acknowledge(), 0x27); // spurious
    EXPECT_EQ(in_service(), 0);
}

TEST_F(PicTest, SpuriousSlaveInterrupt)
{
    initialise();
    pic.edge_level().write(1, 1, 0x02);
    pic.set_level(9, true);
    EXPECT_TRUE(output);
    pic.set_level(9, false);
    EXPECT_FALSE(output);
    EXPECT_EQ(pic.acknowledge(), 0x27);
}

TEST_F(PicTest, LevelTriggeredLines)
{
    initialise();
    pic.edge_level().write(0, 1, 0xff);
    pic.edge_level().write(1, 1, 0xff);
    EXPECT_EQ(pic.edge_level().read(0, 1), 0xf8u);
    EXPECT_EQ(pic.edge_level().read(1, 1), 0xdeu);
    EXPECT_EQ(pic.edge_level().read(0, 2), 0xdef8u);
    pic.set_level(11, true);
    pic.set_level(11, true); // shared
    EXPECT_EQ(pic.acknowledge(), 0x2b);
    slave(0, 0x20), master(0, 0x20);
    EXPECT_TRUE(output);
    pic.set_level(11, false);
    EXPECT_EQ(pic.acknowledge(), 0x2b);
    pic.set_level(11, false);
    slave(0, 0x20), master(0, 0x20);
    EXPECT_FALSE(output);
    pic.set_trigger(11, TriggerMode::edge);
    EXPECT_EQ(pic.edge_level().read(1, 1), 0xd6u);
    pic.set_trigger(0, TriggerMode::level); // cannot be
    EXPECT_EQ(pic.edge_level().read(0, 1), 0xf8u);
}

TEST_F(PicTest, AutoEoi)
{
    initialise(0x03);
    pulse(3);
    EXPECT_EQ(pic.acknowledge(), 0x23);
    EXPECT_EQ(in_service(), 0);
    pulse(4);
    EXPECT_EQ(pic.acknowledge(), 0x24);
}

TEST_F(PicTest, SpecificEoiAndRotation)
{
    initialise();
    pulse(3);
    pic.acknowledge();
    master(0, 0x60 | 4); // another line
    EXPECT_EQ(in_service(), 1 << 3);
    master(0, 0xe0 | 3); // rotate on specific EOI: 3 is lowest now
    EXPECT_EQ(in_service(), 0);
    pulse(3);
    pulse(4);
    EXPECT_EQ(pic.acknowledge(), 0x24);
    master(0, 0xa0); // rotate on non-specific EOI: 4 is lowest
    pulse(4);
    pulse(3);
    EXPECT_EQ(pic.acknowledge(), 0x23);
    master(0, 0x20);
    EXPECT_EQ(pic.acknowledge(), 0x24);
    master(0, 0x20);
    master(0, 0xc0 | 0); // set priority: 0 is lowest
    pulse(0);
    pulse(7);
    EXPECT_EQ(pic.acknowledge(), 0x27);
}

TEST_F(PicTest, RotationInAutoEoi)
{
    initialise(0x03);
    master(0, 0x80);
    pulse(3);
    EXPECT_EQ(pic.acknowledge(), 0x23);
    pulse(3);
    pulse(7);
    EXPECT_EQ(pic.acknowledge(), 0x27);
    master(0, 0x00);
}

TEST_F(PicTest, SpecialMask)
{
    initialise();
    pulse(3);
    pic.acknowledge();
    pulse(6);
    EXPECT_FALSE(output);
    master(1, 0x08);
    master(0, 0x68);
    EXPECT_TRUE(output); // the masked line in service blocks nobody
    EXPECT_EQ(pic.acknowledge(), 0x26);
    master(0, 0x20); // non-specific: does not see line 3
    EXPECT_EQ(in_service(), 1 << 3);
    master(0, 0x48);
    pulse(7);
    EXPECT_FALSE(output);
}

TEST_F(PicTest, SpecialFullyNested)
{
    initialise(0x11);
    pulse(14);
    EXPECT_EQ(pic.acknowledge(), 0x2e);
    pulse(9);
    EXPECT_TRUE(output);
    EXPECT_EQ(pic.acknowledge(), 0x29);
    EXPECT_EQ(in_service(true), 0x42);
}

TEST_F(PicTest, Poll)
{
    initialise();
    master(0, 0x0c);
    EXPECT_FALSE(master(0) & 0x80);
    pulse(5);
    master(0, 0x0c);
    EXPECT_EQ(master(0), 0x85);
    EXPECT_EQ(in_service(), 1 << 5);
    EXPECT_FALSE(output);
}

TEST_F(PicTest, AcknowledgeDropsTheOutput)
{
    initialise();
    pulse(4);
    pulse(1);
    EXPECT_EQ(rises, 1);
    EXPECT_EQ(pic.acknowledge(), 0x21);
    master(0, 0x20);
    EXPECT_EQ(rises, 2);
}

TEST_F(PicTest, CascadeAndUnknownLinesAreIgnored)
{
    initialise();
    pic.set_level(2, true);
    pic.set_level(16, true);
    EXPECT_FALSE(output);
}

TEST_F(PicTest, StateSurvives)
{
    initialise();
    pic.edge_level().write(1, 1, 0x08);
    pic.set_level(11, true);
    pulse(4);
    EXPECT_EQ(pic.acknowledge(), 0x2b);
    auto const state = saved(pic);
    bool other_output = false;
    Pic other([&](bool now) { other_output = now; });
    other.set_level(11, true);
    ASSERT_TRUE(restore_into(other, state));
    EXPECT_EQ(saved(other), state);
    EXPECT_FALSE(other_output);
    other.slave().write(0, 1, 0x20);
    other.master().write(0, 1, 0x20);
    EXPECT_EQ(other.acknowledge(), 0x2b);
    expect_robust_restore(pic, state);
}

TEST_F(PicTest, SurvivesAnything)
{
    std::mt19937 random(6);
    for (int i = 0; i < 200'000; ++i) {
        BusDevice* const devices[] = { &pic.master(), &pic.slave(), &pic.edge_level() };
        BusDevice& device = *devices[random() % 3];
        switch (random() % 4) {
        case 0: device.write(random() % 2, 1, random() & 0xff); break;
        case 1: (void)device.read(random() % 2, 1); break;
        case 2: pic.set_level(random() % 17, random() % 2); break;
        default:
            if (output)
                (void)pic.acknowledge();
        }
        ASSERT_EQ(output, pic.output());
        if (random() % 1000 == 0) {
            auto const state = saved(pic);
            ASSERT_TRUE(restore_into(pic, state));
            ASSERT_EQ(saved(pic), state);
        }
    }
}

// The whole board of interrupt controllers.
class RouterTest : public ::testing::Test {
protected:
    ApicBoard board { 2 };
    IoApic io_apic { board.bus };
    Pic pic { [this](bool asserted) {
        router_output(asserted);
        board.bus.set_external_output(asserted);
    } };
    PirqRouter pirq { pic };
    InterruptRouter router { io_apic, pic, pirq };

    void router_output(bool asserted) { router.set_external_output(asserted); }
    void SetUp() override
    {
        board.bus.set_eoi_listener(&io_apic);
        board.bus.set_external_source(&pic);
        for (auto [port, value] : { std::pair<unsigned, u8> { 0, 0x11 }, { 1, 0x20 }, { 1, 0x04 }, { 1, 0x01 } })
            pic.master().write(port, 1, value);
        for (auto [port, value] : { std::pair<unsigned, u8> { 0, 0x11 }, { 1, 0x28 }, { 1, 0x02 }, { 1, 0x01 } })
            pic.slave().write(port, 1, value);
    }
    void route(unsigned pin, u32 low)
    {
        io_apic.write(0, 4, 0x10 + 2 * pin);
        io_apic.write(0x10, 4, low);
    }
    void end_pic()
    {
        pic.slave().write(0, 1, 0x20);
        pic.master().write(0, 1, 0x20);
    }
};

TEST_F(RouterTest, VirtualWireThroughLint0)
{
    LocalApic& apic = *board.apics[0];
    IrqLine line(router, 4);
    line.raise();
    EXPECT_FALSE(apic.interrupt_pending()); // LINT0 is masked after reset
    apic.enter_virtual_wire_mode();
    EXPECT_TRUE(apic.interrupt_pending());
    EXPECT_EQ(apic.acknowledge(), 0x24);
    EXPECT_FALSE(apic.interrupt_pending());
    line.lower();
    end_pic();
    line.pulse();
    EXPECT_EQ(apic.acknowledge(), 0x24);
    EXPECT_FALSE(board.apics[1]->interrupt_pending());
    end_pic();
    line.pulse();
    pic.master().write(1, 1, 0xff);
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_EQ(apic.acknowledge(), -1);
}

TEST_F(RouterTest, VirtualWireOfADisabledApic)
{
    ASSERT_TRUE(board.apics[0]->write_msr(0x1b, 0xfee00100));
    IrqLine(router, 1).pulse();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x21);
    EXPECT_EQ(board.apics[0]->acknowledge(), -1);
}

TEST_F(RouterTest, VirtualWireThroughTheIoApic)
{
    board.enable(0);
    route(0, 0x700);
    IrqLine(router, 4).pulse();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x24);
    EXPECT_FALSE(board.apics[0]->interrupt_pending());
    end_pic();
    IrqLine(router, 4).pulse();
    IrqLine(router, 3).pulse();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x23);
    end_pic();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x24);
}

TEST_F(RouterTest, TimerIsPinTwo)
{
    board.enable(0);
    pic.master().write(1, 1, 0xff);
    route(2, 0x30);
    IrqLine(router, 0).pulse();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x30);
}

TEST_F(RouterTest, PciInterruptsReachBothControllers)
{
    board.enable(0);
    route(18, 0x50 | 1 << 15);
    EXPECT_EQ(PirqRouter::link_of_register(0x62), 2u);
    EXPECT_EQ(PirqRouter::link_of_register(0x68), 4u);
    EXPECT_FALSE(PirqRouter::link_of_register(0x64));
    EXPECT_EQ(pirq.routing(2), PirqRouter::disabled);
    IrqLine one(router, 18), two(router, 18);
    one.raise();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x50);
    EXPECT_FALSE(pic.output());
    pic.edge_level().write(1, 1, 0x0c);
    pirq.set_routing(2, 11);
    EXPECT_TRUE(pic.output());
    two.raise();
    one.lower();
    EXPECT_TRUE(pic.output());
    pirq.set_routing(2, 10);
    EXPECT_EQ(pic.acknowledge(), 0x2a);
    two.lower();
    end_pic();
    EXPECT_FALSE(pic.output());
    pirq.set_routing(2, 8); // not a legal line
    one.raise();
    EXPECT_FALSE(pic.output());
}

TEST_F(RouterTest, LinesAreAssignedLeastUsedFirst)
{
    for (unsigned const line : { 3u, 4u, 9u, 14u, 15u })
        pirq.reserve_line(line);
    std::map<unsigned, int> uses;
    for (unsigned link = 0; link < PirqRouter::link_count; ++link)
        ++uses[pirq.assign_line(link)];
    EXPECT_EQ(uses, (std::map<unsigned, int> { { 5, 2 }, { 6, 2 }, { 7, 1 }, { 10, 1 }, { 11, 1 }, { 12, 1 } }));
    EXPECT_EQ(pirq.assign_line(0), 5u);
    EXPECT_EQ(pic.edge_level().read(0, 2), 0x1ce0u);
    auto const state = saved(pirq);
    pirq.set_routing(0, 0x80);
    ASSERT_TRUE(restore_into(pirq, state));
    EXPECT_EQ(pirq.routing(0), 5);
    pirq.set_routing(0, 0x80);
    pic.reset();
    pirq.reset();
    EXPECT_EQ(pirq.routing(0), 5);
    EXPECT_EQ(pic.edge_level().read(0, 2), 0x1ce0u);
    expect_robust_restore(pirq, state);
}

TEST_F(RouterTest, HpetReplacesTimerAndRtc)
{
    board.enable(0);
    pic.master().write(1, 1, 0xff);
    pic.slave().write(1, 1, 0xff);
    route(2, 0x30);
    route(8, 0x38);
    IrqLine timer(router, 0), rtc(router, 8);
    IrqLine replacement_timer(router.legacy_replacement(), 0), replacement_rtc(router.legacy_replacement(), 8);
    rtc.raise();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x38);
    board.eoi(0);
    router.select_legacy_source(InterruptRouter::LegacySource::hpet);
    timer.pulse();
    rtc.lower();
    rtc.raise();
    EXPECT_FALSE(board.apics[0]->interrupt_pending());
    replacement_timer.pulse();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x30);
    board.eoi(0);
    replacement_rtc.pulse();
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x38);
    board.eoi(0);
    router.select_legacy_source(InterruptRouter::LegacySource::timer_and_rtc);
    EXPECT_EQ(board.apics[0]->acknowledge(), 0x38); // the RTC's line is up again
}

} // namespace anyhyve
