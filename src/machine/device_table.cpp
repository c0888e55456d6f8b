// What can be put into a PCI slot or onto the LPC bridge. One row per device: a new one is added here, and nowhere else.
#include "machine/device_table.hpp"

#include <algorithm>

#include "device/pci/host_bridge.hpp"
#include "device/pci/lpc_bridge.hpp"
#include "device/virtio/virtio_blk.hpp"
#include "device/virtio/virtio_rnd.hpp"

namespace anyhyve::machine {

namespace {

using Made = Result<std::unique_ptr<PciFunction>>;

// Result<unique_ptr<Device>> as the base class's.
template<typename Device>
Made as_function(Result<std::unique_ptr<Device>> device)
{
    if (!device.ok())
        return device.release_error();
    return std::unique_ptr<PciFunction>(device.release_value());
}

Made make_host_bridge(DeviceWires const& wires, PciAddress address, DeviceOptions const& options)
{
    return as_function(HostBridge::create(wires.pci, address, HostBridge::Model::generic, options));
}

Made make_amd_host_bridge(DeviceWires const& wires, PciAddress address, DeviceOptions const& options)
{
    return as_function(HostBridge::create(wires.pci, address, HostBridge::Model::amd, options));
}

Made make_lpc_bridge(DeviceWires const& wires, PciAddress address, DeviceOptions const& options)
{
    return as_function(LpcBridge::create(wires.pci, address, wires.pirq, options));
}

VirtioWires virtio(DeviceWires const& wires)
{
    return { wires.pci, wires.memory, wires.virtio_msix ? VirtioWires::Interrupts::msix : VirtioWires::Interrupts::msi };
}

Made make_virtio_blk(DeviceWires const& wires, PciAddress address, DeviceOptions const& options)
{
    return as_function(VirtioBlk::create(virtio(wires), address, options));
}

Made make_virtio_rnd(DeviceWires const& wires, PciAddress address, DeviceOptions const& options)
{
    return as_function(VirtioRnd::create(virtio(wires), address, options));
}

DeviceRow const rows[] = {
    { &HostBridge::info, make_host_bridge },
    { &HostBridge::amd_info, make_amd_host_bridge },
    { &LpcBridge::info, make_lpc_bridge },
    { &VirtioBlk::info, make_virtio_blk },
    { &VirtioRnd::info, make_virtio_rnd },
};

struct LpcRow {
    std::string_view name;
    std::string_view help; // empty: a serial port, which is connected to something
};

constexpr LpcRow lpc_rows[] = {
    { "com1", "" },
    { "com2", "" },
    { "com3", "" },
    { "com4", "" },
    { "debug-exit", "A write of v to port 0xf4 ends bhyve with exit status 2v+1" },
    { "pc-testdev", "The test device of kvm-unit-tests: ports 0xe0-0xe8 and 0xf4, interrupt lines at 0x2000, memory at 0xff000000" },
};

LpcRow const* find_lpc_row(std::string_view name)
{
    auto const* const row = std::find_if(std::begin(lpc_rows), std::end(lpc_rows), [name](LpcRow const& r) { return r.name == name; });
    return row == std::end(lpc_rows) ? nullptr : row;
}

} // namespace

std::span<DeviceRow const> device_rows()
{
    return rows;
}

DeviceRow const* find_device(std::string_view name)
{
    auto const* const row = std::find_if(std::begin(rows), std::end(rows), [name](DeviceRow const& r) { return r.info->name == name; });
    return row == std::end(rows) ? nullptr : row;
}

bool is_lpc_device(std::string_view name)
{
    return find_lpc_row(name) != nullptr;
}

bool is_plain_lpc_device(std::string_view name)
{
    auto const* const row = find_lpc_row(name);
    return row && !row->help.empty();
}

std::string device_help()
{
    std::string text;
    for (auto const& row : rows) {
        text += fmt::format("{}\n    {}\n", row.info->name, row.info->help);
        for (auto const& option : row.info->options)
            text += fmt::format("    {:<20} {}\n", option.name, option.help);
    }
    return text;
}

std::string lpc_device_help()
{
    std::string text;
    for (auto const& row : lpc_rows)
        text += fmt::format("{}\n    {}\n", row.name, row.help.empty() ? "stdio, tcp=[address:]port, autopty[=link], file=path, none, or the path of a terminal device" : row.help);
    return text;
}

} // namespace anyhyve::machine
