// Buses: slots, pins, windows, configuration cycles by ports and ECAM, host bridge, LPC bridge, options.
#include <gtest/gtest.h>

#include "device/pci/host_bridge.hpp"
#include "device/pci/lpc_bridge.hpp"
#include "pci_fixture.hpp"

namespace anyhyve {
namespace {

using testing::HasSubstr;

struct RecordingSwitch final : PirqSwitch {
    void set_routing(unsigned pirq, u8 value) override { routing[pirq] = value; }
    unsigned assign_line(unsigned pirq) override { return pirq == 0 ? 10 : 11; }
    std::map<unsigned, u8> routing;
};

struct ResetRegister final : BusDevice {
    u64 read(u64, unsigned) override { return value; }
    void write(u64, unsigned, u64 written) override { value = written; }
    u64 value = 0x02;
};

TEST(PciBus, SlotsAreTakenOnce)
{
    Board board;
    TestFunction first(board.pci.wires(), { 0, 3, 0 }), second(board.pci.wires(), { 0, 3, 0 });
    EXPECT_TRUE(board.pci.add(first).ok());
    auto const added = board.pci.add(second);
    ASSERT_FALSE(added.ok());
    EXPECT_THAT(added.error().message(), HasSubstr("0:3:0 already occupied"));
    EXPECT_EQ(board.pci.find({ 0, 3, 0 }), &first);
    EXPECT_EQ(board.pci.find({ 7, 3, 0 }), nullptr);
}

TEST(PciBus, Function0TellsOfOthersInEitherOrder)
{
    for (bool const zero_first : { true, false }) {
        Board board;
        TestFunction zero(board.pci.wires(), { 0, 3, 0 }), five(board.pci.wires(), { 0, 3, 5 });
        ASSERT_TRUE(board.pci.add(zero_first ? zero : five).ok());
        EXPECT_EQ(zero.config_read(0x0e, 1), 0U);
        ASSERT_TRUE(board.pci.add(zero_first ? five : zero).ok());
        EXPECT_EQ(zero.config_read(0x0e, 1), 0x80U);
        EXPECT_EQ(five.config_read(0x0e, 1), 0U);
    }
}

TEST(PciBus, PinsGoRoundOrByFormula)
{
    for (auto const map : { PciBus::InterruptMap::round_robin, PciBus::InterruptMap::fixed }) {
        Board board(map);
        std::vector<std::unique_ptr<TestFunction>> functions;
        for (u8 slot = 1; slot <= 10; ++slot) {
            functions.push_back(std::make_unique<TestFunction>(board.pci.wires(), PciAddress { 0, slot, 0 }));
            ASSERT_TRUE(board.pci.add(*functions.back()).ok());
        }
        auto const routes = board.pci.interrupt_routes();
        ASSERT_EQ(routes.size(), 10U);
        for (unsigned i = 0; i < routes.size(); ++i) {
            unsigned const expected = map == PciBus::InterruptMap::fixed ? 16 + (4 + (i + 1) + 1) % 8 : 16 + i % 8;
            EXPECT_EQ(routes[i].gsi, expected);
            EXPECT_EQ(routes[i].pirq, expected - 16);
            functions[i]->set_intx(true);
            EXPECT_GE(board.lines.assertions[expected], 1);
        }
    }
}

TEST(PciBus, PirqsReachTheLpcBridgeAndTheLineRegisters)
{
    Board board;
    RecordingSwitch router;
    auto lpc = LpcBridge::create(board.pci.wires(), { 0, 31, 0 }, &router, {}).release_value();
    TestFunction first(board.pci.wires(), { 0, 3, 0 }), second(board.pci.wires(), { 0, 4, 0 });
    for (PciFunction* function : std::initializer_list<PciFunction*> { lpc.get(), &first, &second })
        ASSERT_TRUE(board.pci.add(*function).ok());
    board.pci.assign_interrupts(lpc.get());
    EXPECT_EQ(lpc->config_read(0, 4), 0x70008086U);
    EXPECT_EQ(lpc->config_read(8, 4), 0x06010000U);
    EXPECT_EQ(lpc->config_read(0x60, 4), 0x80800b0aU);
    EXPECT_EQ(first.config_read(0x3c, 1), 10U);
    EXPECT_EQ(second.config_read(0x3c, 1), 11U);
    EXPECT_EQ(board.pci.interrupt_routes()[1].pirq_irq, 11);

    lpc->config_write(0x60, 4, 0xffff0580);
    EXPECT_EQ(router.routing[0], 0x80);
    EXPECT_EQ(router.routing[1], 0x05);
    EXPECT_EQ(router.routing[2], 0x8f);
    lpc->config_write(0x6b, 1, 0x09);
    EXPECT_EQ(router.routing[7], 0x09);
    lpc->reset();
    EXPECT_EQ(router.routing[0], 10);
    EXPECT_EQ(router.routing[7], 0x80);
}

TEST(PciBus, WindowsHoldTheBarsOfEachBus)
{
    Board board;
    TestFunction a(board.pci.wires(), { 0, 3, 0 }), b(board.pci.wires(), { 0, 4, 0 }), c(board.pci.wires(), { 2, 1, 0 });
    for (auto* function : { &a, &b, &c })
        ASSERT_TRUE(board.pci.add(*function).ok());
    PciWindows windows;
    windows.memory64 = { 8 * GiB, 8 * GiB };
    ASSERT_TRUE(board.pci.assign_bars(windows, PciBus::Decode::off).ok());
    EXPECT_FALSE(a.bar_is_mapped(1));
    EXPECT_EQ(a.config_read(4, 2), 0U);
    auto const first = board.pci.windows_of(0), last = board.pci.windows_of(2);
    EXPECT_EQ(first.ports.end(), last.ports.base);
    EXPECT_EQ(last.ports.end(), 0x10000U);
    EXPECT_EQ(first.memory32.end(), last.memory32.base);
    EXPECT_EQ(last.memory32.end(), 0xe000'0000U);
    for (auto* function : { &a, &b, &c }) {
        auto const& window = function == &c ? last : first;
        EXPECT_GE(function->bar_address(1), window.memory32.base);
        EXPECT_LT(function->bar_address(1), window.memory32.end());
        EXPECT_GE(function->bar_address(2), window.memory64.base);
        EXPECT_LT(function->bar_address(2), window.memory64.end());
    }
    EXPECT_EQ(board.pci.buses(), (std::vector<u8> { 0, 2 }));
}

TEST(PciBus, AFullWindowNamesTheBar)
{
    Board board;
    TestFunction a(board.pci.wires(), { 0, 3, 0 });
    ASSERT_TRUE(board.pci.add(a).ok());
    PciWindows windows;
    windows.memory32.size = 8192;
    auto const assigned = board.pci.assign_bars(windows, PciBus::Decode::on);
    ASSERT_FALSE(assigned.ok());
    EXPECT_THAT(assigned.error().message(), HasSubstr("test@0:3:0: no room for BAR 2"));
}

struct ConfigAccess : testing::Test {
    Board board;
    TestFunction function { board.pci.wires(), { 0, 3, 1 } };
    ResetRegister reset_register;
    PciConfigPorts config_ports { board.pci, &reset_register };
    PciEcam ecam { board.pci };
    static constexpr u64 ecam_function = 3 << 15 | 1 << 12;

    void SetUp() override
    {
        ASSERT_TRUE(board.pci.add(function).ok());
        ASSERT_TRUE(board.ports.add(PciConfigPorts::base_port, PciConfigPorts::port_count, config_ports, "pci").ok());
        ASSERT_TRUE(board.memory.add(PciEcam::base_address, PciEcam::size, ecam, "ecam").ok());
    }
    u64 in(u64 port, unsigned width)
    {
        u64 value = 0;
        board.ports.read(port, width, value);
        return value;
    }
    void out(u64 port, unsigned width, u64 value) { board.ports.write(port, width, value); }
};

TEST_F(ConfigAccess, BothWaysAgreeAtEveryWidthAndAlignment)
{
    for (u32 reg = 0; reg < 256; reg += 4) {
        out(0xcf8, 4, 0x8000'0000 | 3 << 11 | 1 << 8 | reg);
        for (unsigned width : { 1U, 2U, 4U }) {
            for (unsigned byte = 0; byte + width <= 4; ++byte) {
                u64 expected = 0;
                board.memory.read(PciEcam::base_address + ecam_function + reg + byte, width, expected);
                EXPECT_EQ(in(0xcfc + byte, width), expected);
                EXPECT_EQ(expected, function.config_read(static_cast<u16>(reg + byte), width));
            }
        }
    }
}

TEST_F(ConfigAccess, AddressRegisterTakesDwordsOnly)
{
    out(0xcf8, 4, 0xffff'ffff);
    EXPECT_EQ(in(0xcf8, 4), 0x80ff'fffcU);
    out(0xcfb, 1, 0x01);
    EXPECT_EQ(in(0xcf8, 4), 0x80ff'fffcU);
    out(0xcf8, 4, 0);
    EXPECT_EQ(in(0xcfc, 4), 0xffffffffU); // not enabled
    out(0xcf9, 1, 0x06);
    EXPECT_EQ(reset_register.value, 0x06U);
    EXPECT_EQ(in(0xcf9, 1), 0x06U);
}

TEST_F(ConfigAccess, WritesReachTheFunction)
{
    out(0xcf8, 4, 0x8000'0000 | 3 << 11 | 1 << 8 | 0x3c);
    out(0xcfc, 1, 0x0b);
    EXPECT_EQ(function.config_read(0x3c, 1), 0x0bU);
    board.memory.write(PciEcam::base_address + ecam_function + 0x0c, 2, 0x2010);
    EXPECT_EQ(function.config_read(0x0c, 2), 0x2010U);
    out(0xcf8, 4, 0x8000'0000 | 4 << 11);
    EXPECT_EQ(in(0xcfc, 2), 0xffffU);
    u64 value = 0;
    board.memory.read(PciEcam::base_address + ecam_function, 8, value);
    EXPECT_EQ(value & 0xffffffff, 0x000110ddU);
    board.memory.read(PciEcam::base_address + ecam_function + 0x100, 4, value);
    EXPECT_EQ(value, 0xffffffffU); // a conventional function has 256 bytes
    board.memory.read(PciEcam::base_address + ecam_function + 0xffe, 4, value);
    EXPECT_EQ(value, 0xffffffffU);
}

TEST_F(ConfigAccess, AddressIsSaved)
{
    out(0xcf8, 4, 0x8000'1804);
    Encoder encoder;
    config_ports.save(encoder);
    config_ports.reset();
    EXPECT_EQ(in(0xcf8, 4), 0U);
    Decoder decoder(encoder.bytes());
    ASSERT_TRUE(config_ports.restore(decoder, 1).ok());
    EXPECT_EQ(in(0xcf8, 4), 0x8000'1804U);
}

TEST(HostBridge, IsARootPort)
{
    Board board;
    auto generic = HostBridge::create(board.pci.wires(), { 0, 0, 0 }, HostBridge::Model::generic, {}).release_value();
    auto amd = HostBridge::create(board.pci.wires(), { 0, 1, 0 }, HostBridge::Model::amd, {}).release_value();
    EXPECT_EQ(generic->config_read(0, 4), 0x12751275U);
    EXPECT_EQ(amd->config_read(0, 4), 0x74321022U);
    EXPECT_EQ(generic->config_read(8, 4), 0x06000000U);
    u16 const express = find_capability(*generic, 0x10);
    ASSERT_NE(express, 0);
    EXPECT_EQ(generic->config_read(static_cast<u16>(express + 2), 2), 0x41U);
    EXPECT_EQ(generic->config_read(0x100, 4), 0U); // extended space exists, and has no capabilities
    auto own = HostBridge::create(
        board.pci.wires(), { 0, 2, 0 }, HostBridge::Model::generic, DeviceOptions::parse("pcireg.vendor=0x8086,pcireg.device=0x1237"));
    EXPECT_EQ(own.value()->config_read(0, 4), 0x12378086U);
    EXPECT_FALSE(HostBridge::create(board.pci.wires(), { 0, 2, 0 }, HostBridge::Model::amd, DeviceOptions::parse("pcireg.vendor=zz")).ok());
}

TEST(DeviceOptions, Lists)
{
    auto const disk = DeviceOptions::parse("/tmp/a=b.img,ro,ser=x=y,sectorsize=512/4096", "path");
    EXPECT_EQ(disk.text("path"), "/tmp/a=b.img");
    EXPECT_TRUE(disk.boolean("ro", false).value());
    EXPECT_EQ(disk.text("ser"), "x=y");
    auto const keys = DeviceOptions::parse("path=/x,nocache=no", "path");
    EXPECT_EQ(keys.text("path"), "/x");
    EXPECT_FALSE(keys.boolean("nocache", true).value());
    EXPECT_FALSE(DeviceOptions::parse("ro=maybe").boolean("ro", false).ok());
    EXPECT_TRUE(DeviceOptions::parse("").values().empty());
    EXPECT_TRUE(DeviceOptions::parse(",,").values().empty());
    EXPECT_EQ(DeviceOptions::parse("n=0x10").number("n", 0, 0, 16).value(), 16U);
    EXPECT_FALSE(DeviceOptions::parse("n=17").number("n", 0, 0, 16).ok());
    EXPECT_FALSE(DeviceOptions::parse("n=").number("n", 0, 0, 16).ok());
    EXPECT_EQ(DeviceOptions::parse("pcireg.vendor=1,colour=red").unknown(HostBridge::info), "colour");
}

} // namespace
} // namespace anyhyve
