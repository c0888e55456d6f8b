// The host bridge: identity and root-port capability.
#include "device/pci/host_bridge.hpp"

namespace anyhyve {

namespace {

constexpr std::array<DeviceOption, 2> host_bridge_options { {
    { "pcireg.vendor", "PCI vendor id" },
    { "pcireg.device", "PCI device id" },
} };
constexpr u32 class_host_bridge = 0x060000;

} // namespace

DeviceInfo const HostBridge::info { "hostbridge", "", host_bridge_options, "Host to PCI bridge" };
DeviceInfo const HostBridge::amd_info { "amd_hostbridge", "", host_bridge_options, "Host to PCI bridge with AMD's identity" };

Result<std::unique_ptr<HostBridge>> HostBridge::create(PciWires wires, PciAddress address, Model model, DeviceOptions const& options)
{
    bool const amd = model == Model::amd;
    PciIdentity identity;
    identity.vendor = static_cast<u16>(TRY(options.number("pcireg.vendor", amd ? 0x1022 : 0x1275, 0, 0xfffe)));
    identity.device = static_cast<u16>(TRY(options.number("pcireg.device", amd ? 0x7432 : 0x1275, 0, 0xffff)));
    identity.class_code = class_host_bridge;
    identity.kind = PciIdentity::Kind::express;
    return std::unique_ptr<HostBridge>(new HostBridge(wires, address, std::string(amd ? amd_info.name : info.name), identity));
}

HostBridge::HostBridge(PciWires wires, PciAddress address, std::string model, PciIdentity const& identity)
    : PciFunction(wires, address, std::move(model), identity)
{
    add_express(ExpressType::root_port);
}

} // namespace anyhyve
