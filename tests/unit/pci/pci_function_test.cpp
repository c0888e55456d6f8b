// A PCI function: sizing and moving of BARs, the three kinds of interrupt, reset, saving.
#include <gtest/gtest.h>

#include "pci_fixture.hpp"

namespace anyhyve {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

struct PciFunctionTest : testing::Test {
    Board board;
    TestFunction function { board.pci.wires(), { 0, 3, 0 } };

    void SetUp() override
    {
        ASSERT_TRUE(board.pci.add(function).ok());
        PciWindows windows;
        windows.memory64 = { 8 * GiB, 8 * GiB };
        ASSERT_TRUE(board.pci.assign_bars(windows, PciBus::Decode::on).ok());
        board.pci.assign_interrupts(nullptr);
    }
    u64 memory_read(u64 address, unsigned width = 4)
    {
        u64 value = 0;
        board.memory.read(address, width, value);
        return value;
    }
    u64 port_read(u64 port, unsigned width = 4)
    {
        u64 value = 0;
        board.ports.read(port, width, value);
        return value;
    }
};

TEST_F(PciFunctionTest, Identity)
{
    EXPECT_EQ(function.config_read(0, 4), 0x000110ddU);
    EXPECT_EQ(function.config_read(8, 4), 0xff000003U);
    function.config_write(0, 4, 0xdeadbeef);
    EXPECT_EQ(function.config_read(0, 4), 0x000110ddU);
    EXPECT_EQ(function.config_read(0x3d, 1), 1U);
}

TEST_F(PciFunctionTest, BarsTellTheirSizes)
{
    function.config_write(4, 2, 0);
    struct {
        u16 reg;
        u32 expected;
    } const rows[] = { { 0x10, 0xffffffe1 }, { 0x14, 0xfffff000 }, { 0x18, 0xf0000004 }, { 0x1c, 0xffffffff }, { 0x20, 0xfffff000 },
        { 0x24, 0 }, { 0x30, 0 } };
    for (auto const& [reg, expected] : rows) {
        u32 const before = function.config_read(reg, 4);
        function.config_write(reg, 4, 0xffffffff);
        EXPECT_EQ(function.config_read(reg, 4), expected) << std::hex << reg;
        function.config_write(reg, 4, before);
        EXPECT_EQ(function.config_read(reg, 4), before);
    }
}

TEST_F(PciFunctionTest, AssignedBarsAnswer)
{
    EXPECT_EQ(function.bar_address(0), 0x2000U);
    EXPECT_EQ(port_read(0x2004), 0x00004U);
    u64 const bar1 = function.bar_address(1);
    EXPECT_EQ(memory_read(bar1 + 8), 0x10008U);
    u64 const bar2 = function.bar_address(2);
    EXPECT_GE(bar2, 8 * GiB);
    EXPECT_EQ(memory_read(bar2 + 0x40), 0x20040U);
    board.memory.write(bar1 + 2, 2, 0x1234);
    EXPECT_THAT(function.writes, ElementsAre(TestFunction::Access { 1, 2, 2, 0x1234 }));
}

TEST_F(PciFunctionTest, CommandRegisterTakesBarsOnAndOff)
{
    u64 const bar1 = function.bar_address(1);
    function.config_write(4, 2, 1);
    EXPECT_EQ(memory_read(bar1), 0xffffffffU);
    EXPECT_EQ(port_read(0x2000), 0U);
    function.config_write(4, 1, 2);
    EXPECT_EQ(memory_read(bar1), 0x10000U);
    EXPECT_EQ(port_read(0x2000), 0xffffffffU);
}

TEST_F(PciFunctionTest, BarsMoveAlsoByteByByte)
{
    u64 const old = function.bar_address(1);
    u64 const moved = 0xc123'4000;
    for (unsigned i = 0; i < 4; ++i)
        function.config_write(static_cast<u16>(0x14 + i), 1, static_cast<u8>(moved >> (8 * i)));
    EXPECT_EQ(function.bar_address(1), moved);
    EXPECT_EQ(memory_read(moved + 4), 0x10004U);
    EXPECT_EQ(memory_read(old), 0xffffffffU);
    function.config_write(0x18, 4, 0);
    function.config_write(0x1c, 4, 0x9);
    EXPECT_EQ(memory_read(0x9'0000'0010), 0x20010U);
}

TEST_F(PciFunctionTest, ImpossiblePlacesAreNotMapped)
{
    for (u32 const place : { 0xffffffffU, 0U }) {
        function.config_write(0x1c, 4, place);
        function.config_write(0x18, 4, place);
        EXPECT_FALSE(function.bar_is_mapped(2)) << place;
    }
    function.config_write(0x10, 4, 0x12340001); // beyond the 16 bits of a port number
    EXPECT_FALSE(function.bar_is_mapped(0));
    function.config_write(0x10, 4, 0x3001);
    EXPECT_TRUE(function.bar_is_mapped(0));
}

TEST_F(PciFunctionTest, TheLaterOfTwoOverlappingBarsWaits)
{
    u64 const bar1 = function.bar_address(1);
    u64 const bar4 = function.bar_address(4);
    function.config_write(0x20, 4, static_cast<u32>(bar1));
    EXPECT_TRUE(function.bar_is_mapped(1));
    EXPECT_FALSE(function.bar_is_mapped(4));
    function.config_write(0x14, 4, static_cast<u32>(bar4));
    EXPECT_TRUE(function.bar_is_mapped(1));
    EXPECT_TRUE(function.bar_is_mapped(4));
    EXPECT_EQ(memory_read(bar4), 0x10000U);
}

TEST_F(PciFunctionTest, IntxAndItsDisableBit)
{
    function.set_intx(true);
    EXPECT_EQ(board.lines.assertions[16], 1);
    EXPECT_TRUE(function.config_read(6, 2) & 8);
    function.config_write(4, 2, 0x407);
    EXPECT_EQ(board.lines.assertions[16], 0);
    EXPECT_TRUE(function.config_read(6, 2) & 8); // the state, whether or not it goes through (PCI 3.0, 6.2.3)
    function.config_write(4, 2, 0x7);
    EXPECT_EQ(board.lines.assertions[16], 1);
    function.config_write(6, 2, 0xffff);
    EXPECT_TRUE(function.config_read(6, 2) & 8);
    function.set_intx(false);
    EXPECT_EQ(board.lines.assertions[16], 0);
    EXPECT_FALSE(function.config_read(6, 2) & 8);
}

TEST_F(PciFunctionTest, MsiMessages)
{
    u16 const at = find_capability(function, 5);
    ASSERT_NE(at, 0);
    EXPECT_EQ(function.config_read(static_cast<u16>(at + 2), 2), 0x84U); // 64-bit, four messages
    function.set_intx(true);
    function.send_msi(0);
    EXPECT_THAT(board.messages.sent, IsEmpty());
    function.config_write(static_cast<u16>(at + 4), 4, 0xfee01003);
    function.config_write(static_cast<u16>(at + 12), 2, 0x4041);
    function.config_write(static_cast<u16>(at + 2), 2, 0x11); // enabled, two messages allowed
    EXPECT_TRUE(function.msi_enabled());
    EXPECT_EQ(board.lines.assertions[16], 0);
    for (unsigned vector : { 0U, 1U, 3U })
        function.send_msi(vector);
    EXPECT_THAT(board.messages.sent, ElementsAre(Pair(0xfee01000U, 0x4040U), Pair(0xfee01000U, 0x4041U), Pair(0xfee01000U, 0x4041U)));
    board.messages.sent.clear();
    function.config_write(static_cast<u16>(at + 2), 2, 0x71); // a reserved count
    function.send_msi(3);
    EXPECT_THAT(board.messages.sent, ElementsAre(Pair(0xfee01000U, 0x4043U)));
    function.config_write(static_cast<u16>(at + 2), 2, 0);
    EXPECT_EQ(board.lines.assertions[16], 1);
}

TEST_F(PciFunctionTest, MsixMasksAndPendingBits)
{
    u16 const at = find_capability(function, 0x11);
    ASSERT_NE(at, 0);
    u16 const control = static_cast<u16>(at + 2);
    EXPECT_EQ(function.config_read(control, 2), 2U);
    EXPECT_EQ(function.config_read(static_cast<u16>(at + 4), 4), 4U);
    u64 const table = function.bar_address(4);
    u64 const pending = table + (function.config_read(static_cast<u16>(at + 8), 4) & ~7U);

    EXPECT_EQ(memory_read(table + 12), 1U); // masked at power-on
    board.memory.write(table + 16, 8, 0xfee0'2000);
    board.memory.write(table + 24, 4, 0x31);
    EXPECT_EQ(memory_read(table + 16, 8), 0xfee02000U);
    EXPECT_EQ(memory_read(table + 18, 2), 0xfee0U);

    function.send_msix(1); // disabled: lost
    function.config_write(control, 2, 0x8000);
    function.send_msix(1);
    EXPECT_THAT(board.messages.sent, IsEmpty());
    EXPECT_EQ(memory_read(pending), 2U);
    board.memory.write(pending, 4, 0);
    EXPECT_EQ(memory_read(pending), 2U);
    function.config_write(control, 2, 0xc000);
    board.memory.write(table + 28, 4, 0);
    EXPECT_THAT(board.messages.sent, IsEmpty()); // the function mask still holds
    function.config_write(control, 2, 0x8000);
    EXPECT_THAT(board.messages.sent, ElementsAre(Pair(0xfee02000U, 0x31U)));
    EXPECT_EQ(memory_read(pending), 0U);
    function.send_msix(1);
    function.send_msix(3);
    function.send_msix(~0U);
    EXPECT_EQ(board.messages.sent.size(), 2U);
    EXPECT_EQ(memory_read(table + 48, 8), 0U);
}

TEST_F(PciFunctionTest, ResetReturnsToTheAssignedState)
{
    u64 const bar1 = function.bar_address(1);
    function.config_write(0x14, 4, 0xd000'0000);
    function.config_write(4, 2, 0x400);
    function.set_intx(true);
    function.reset();
    EXPECT_EQ(function.bar_address(1), bar1);
    EXPECT_TRUE(function.bar_is_mapped(1));
    EXPECT_EQ(function.config_read(4, 4), 0x00100007U);
    EXPECT_EQ(board.lines.assertions[16], 0);
}

TEST_F(PciFunctionTest, SavedStateComesBack)
{
    u16 const msix = find_capability(function, 0x11);
    function.config_write(0x14, 4, 0xd000'0000);
    function.config_write(static_cast<u16>(msix + 2), 2, 0x8000);
    u64 const table = function.bar_address(4);
    board.memory.write(table + 8, 4, 0x77);
    function.send_msix(0);
    Encoder encoder;
    function.save(encoder);
    function.reset();
    Decoder decoder(encoder.bytes());
    ASSERT_TRUE(function.restore(decoder, 1).ok());
    EXPECT_EQ(function.bar_address(1), 0xd000'0000U);
    EXPECT_TRUE(function.bar_is_mapped(1));
    EXPECT_THAT(board.messages.sent, IsEmpty());
    board.memory.write(table + 12, 4, 0);
    EXPECT_THAT(board.messages.sent, ElementsAre(Pair(0U, 0x77U)));

    // Cut anywhere, it is refused and the function is as after reset.
    for (std::size_t length = 0; length < encoder.bytes().size(); length += 7) {
        Decoder cut(std::span(encoder.bytes()).first(length));
        EXPECT_FALSE(function.restore(cut, 1).ok()) << length;
        EXPECT_EQ(function.config_read(static_cast<u16>(msix + 2), 2), 2U);
    }
    Decoder wrong_version(encoder.bytes());
    EXPECT_FALSE(function.restore(wrong_version, 2).ok());
}

} // namespace
} // namespace anyhyve
