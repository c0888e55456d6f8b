// A board for tests of PCI functions: two buses, sinks that remember, and a function with one BAR of each kind.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "device/pci/config_access.hpp"
#include "device/pci/pci_bus.hpp"

namespace anyhyve {

struct RecordingMessages final : MsiSink {
    void send_msi(u64 address, u32 data) override { sent.emplace_back(address, data); }
    std::vector<std::pair<u64, u32>> sent;
};

struct RecordingLines final : InterruptSink {
    void set_level(unsigned pin, bool asserted) override { assertions[pin] += asserted ? 1 : -1; }
    std::map<unsigned, int> assertions;
};

struct Board {
    Bus memory { "memory" };
    Bus ports { "ports" };
    RecordingLines lines;
    RecordingMessages messages;
    PciBus pci;

    explicit Board(PciBus::InterruptMap map = PciBus::InterruptMap::round_robin) : pci({ memory, ports, lines, messages }, map) {}
};

class TestFunction final : public PciFunction {
public:
    static constexpr u64 memory64_size = 256 * MiB;

    TestFunction(PciWires wires, PciAddress address)
        : PciFunction(wires, address, "test", { .vendor = 0x10dd, .device = 1, .class_code = 0xff0000, .revision = 3 })
    {
        add_bar(0, BarKind::ports, 32);
        add_bar(1, BarKind::memory32, 4096);
        add_bar(2, BarKind::memory64, memory64_size);
        add_msi(4);
        add_msix(4, 3);
        add_intx();
    }
    using PciFunction::msi_enabled;
    using PciFunction::msix_enabled;
    using PciFunction::send_msi;
    using PciFunction::send_msix;
    using PciFunction::set_intx;

    struct Access {
        unsigned bar;
        u64 offset;
        unsigned width;
        u64 value;
        bool operator==(Access const&) const = default;
    };
    std::vector<Access> writes;

private:
    u64 bar_read(unsigned bar, u64 offset, unsigned) override { return bar << 16 | offset; }
    void bar_write(unsigned bar, u64 offset, unsigned width, u64 value) override { writes.push_back({ bar, offset, width, value }); }
};

// Finds a capability by walking the list, as a driver does; 0 when there is none.
inline u16 find_capability(PciFunction& function, u8 id)
{
    u16 at = static_cast<u16>(function.config_read(0x34, 1));
    for (int left = 48; left != 0 && at != 0; --left) {
        if (function.config_read(at, 1) == id)
            return at;
        at = static_cast<u16>(function.config_read(static_cast<u16>(at + 1), 1));
    }
    return 0;
}

} // namespace anyhyve
