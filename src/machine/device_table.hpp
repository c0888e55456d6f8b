// What can be put into a PCI slot or onto the LPC bridge: name, options, and how it is made. Explicit, in the order of -s help.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "device/pci/device_options.hpp"
#include "device/pci/pci_bus.hpp"
#include "vmm/clock.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve::machine {

// What a device may be wired to.
struct DeviceWires {
    PciWires pci;
    GuestMemory& memory;
    PirqSwitch* pirq;
    std::string vm_name;
    bool virtio_msix; // false: a single MSI in its place
};

struct DeviceRow {
    DeviceInfo const* info;
    Result<std::unique_ptr<PciFunction>> (*create)(DeviceWires const&, PciAddress, DeviceOptions const&);
};

std::span<DeviceRow const> device_rows();
DeviceRow const* find_device(std::string_view name);

// "com1" to "com4".
bool is_lpc_device(std::string_view name);
// One that is not connected to anything.
bool is_plain_lpc_device(std::string_view name);

// What `-s help` and `-l help` print.
std::string device_help();
std::string lpc_device_help();

} // namespace anyhyve::machine
