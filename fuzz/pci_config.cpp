// Fuzzes PCI configuration space: ports 0xCF8/0xCFC and ECAM, of functions with every kind of BAR and capability, whose BARs move
// about on the buses and over one another, and accesses to wherever they are.
#include "device/pci/config_access.hpp"
#include "device/pci/host_bridge.hpp"
#include "device/pci/lpc_bridge.hpp"

#include "fuzz/input.hpp"
#include "pci/pci_fixture.hpp"

using namespace anyhyve;

namespace {

struct Machine {
    Board board;
    std::unique_ptr<HostBridge> host = HostBridge::create(board.pci.wires(), { 0, 0, 0 }, HostBridge::Model::generic, {}).release_value();
    std::unique_ptr<LpcBridge> lpc = LpcBridge::create(board.pci.wires(), { 0, 31, 0 }, nullptr, {}).release_value();
    TestFunction first { board.pci.wires(), { 0, 1, 0 } }, second { board.pci.wires(), { 0, 1, 1 } };
    PciConfigPorts ports { board.pci };
    PciEcam ecam { board.pci };
    std::array<PciFunction*, 4> functions { host.get(), lpc.get(), &first, &second };

    Machine()
    {
        for (PciFunction* const function : functions)
            ASSERT(board.pci.add(*function).ok(), "the functions find room");
        PciWindows windows;
        windows.memory64 = { 64 * GiB, 64 * GiB };
        ASSERT(board.pci.assign_bars(windows, PciBus::Decode::on).ok(), "the BARs find room");
        board.pci.assign_interrupts(lpc.get());
    }
};

// One of the four functions and a register of it, as ECAM addresses them.
u64 ecam_address(fuzz::Record const& record)
{
    constexpr std::array<u64, 4> places { 0, 31 << 3, 1 << 3, 1 << 3 | 1 };
    return places[record.operation >> 4] << 12 | (record.offset & 0xfff);
}

void apply(Machine& machine, fuzz::Record const& record)
{
    TestFunction& function = record.operation & 16 ? machine.first : machine.second;
    unsigned const bar = record.offset % 4;
    u64 value = 0;
    switch (record.operation % 16) {
    case 0: case 1: // the header and the capabilities
        machine.ecam.write(ecam_address(record) & ~u64 { 0xf00 }, record.width, record.value);
        break;
    case 2:
        machine.ecam.write(ecam_address(record), record.width, record.value);
        break;
    case 3:
        fuzz::check_width(machine.ecam.read(ecam_address(record), record.width), record.width);
        break;
    case 4: // anywhere in the 256 MiB
        machine.ecam.write((record.value ^ record.offset) % PciEcam::size, record.width, record.value);
        fuzz::check_width(machine.ecam.read((record.value ^ record.offset) % PciEcam::size, record.width), record.width);
        break;
    case 5:
        machine.ports.write(0, 4, 0x8000'0000 | (record.value & 0xffffff));
        machine.ports.write(4 + (record.offset & 3), record.width, record.value);
        break;
    case 6:
        machine.ports.write(record.offset & 7, record.width, record.value);
        fuzz::check_width(machine.ports.read(record.offset >> 8 & 7, record.width), record.width);
        break;
    case 7: case 8: // a BAR moves
        function.config_write(static_cast<u16>(0x10 + 4 * bar), 4, static_cast<u32>(record.value) << (record.offset >> 8 & 31));
        break;
    case 9:
        function.config_write(4, 2, static_cast<u32>(record.value & 0xffff));
        break;
    case 10: case 11: // what is where the BAR is
        machine.board.memory.write(function.bar_address(1 + bar) + (record.offset & 0xffc), record.width, record.value);
        machine.board.memory.read(function.bar_address(1 + bar) + (record.offset & 0xfff), record.width, value);
        machine.board.ports.read(function.bar_address(0) + (record.offset & 31), record.width, value);
        break;
    case 12:
        function.set_intx(record.offset & 1);
        break;
    case 13:
        if (function.msi_enabled())
            function.send_msi(static_cast<unsigned>(record.offset & 3));
        if (function.msix_enabled())
            function.send_msix(static_cast<unsigned>(record.offset % 3));
        break;
    case 14:
        if (record.offset % 16 == 0)
            function.reset();
        break;
    default:
        fuzz::check_round_trip(*machine.functions[record.offset % 4]);
        fuzz::check_round_trip(machine.ports);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    Machine machine;
    while (auto const record = input.record())
        apply(machine, *record);
    return 0;
}
