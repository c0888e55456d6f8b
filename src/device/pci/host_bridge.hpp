// The host bridge, as a PCI Express root port: guests look at it to decide whether MSI works.
// Spec: PCI Local Bus 3.0, 6.1; PCI Express Base 1.1, 7.8. State: complete. Missing: nothing; it has no registers of its own.
#pragma once

#include "device/pci/device_options.hpp"
#include "device/pci/pci_function.hpp"

namespace anyhyve {

class HostBridge final : public PciFunction {
public:
    static DeviceInfo const info;     // "hostbridge": 1275:1275
    static DeviceInfo const amd_info; // "amd_hostbridge": 1022:7432
    enum class Model { generic, amd };

    // Options: pcireg.vendor, pcireg.device.
    static Result<std::unique_ptr<HostBridge>> create(PciWires, PciAddress, Model, DeviceOptions const&);

private:
    HostBridge(PciWires wires, PciAddress address, std::string model, PciIdentity const& identity);
};

} // namespace anyhyve
