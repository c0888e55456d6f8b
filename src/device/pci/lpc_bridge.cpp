// The LPC bridge's PIRQ registers.
#include "device/pci/lpc_bridge.hpp"

namespace anyhyve {

namespace {

constexpr std::array<DeviceOption, 5> lpc_options { {
    { "pcireg.vendor", "PCI vendor id" },
    { "pcireg.device", "PCI device id" },
    { "pcireg.revid", "PCI revision" },
    { "pcireg.subvendor", "PCI subsystem vendor id" },
    { "pcireg.subdevice", "PCI subsystem id" },
} };
constexpr u32 class_isa_bridge = 0x060100;

constexpr u16 register_of(unsigned pirq)
{
    auto const first = pirq < 4 ? LpcBridge::Register::pirq_a_control : LpcBridge::Register::pirq_e_control;
    return static_cast<u16>(static_cast<u16>(first) + pirq % 4);
}

} // namespace

DeviceInfo const LpcBridge::info { "lpc", "", lpc_options, "PCI to ISA bridge; its devices are given by -l" };

Result<std::unique_ptr<LpcBridge>> LpcBridge::create(
    PciWires wires, PciAddress address, PirqSwitch* control, DeviceOptions const& options)
{
    PciIdentity identity;
    identity.vendor = static_cast<u16>(TRY(options.number("pcireg.vendor", 0x8086, 0, 0xfffe)));
    identity.device = static_cast<u16>(TRY(options.number("pcireg.device", 0x7000, 0, 0xffff)));
    identity.revision = static_cast<u8>(TRY(options.number("pcireg.revid", 0, 0, 0xff)));
    identity.subsystem_vendor = static_cast<u16>(TRY(options.number("pcireg.subvendor", 0, 0, 0xffff)));
    identity.subsystem = static_cast<u16>(TRY(options.number("pcireg.subdevice", 0, 0, 0xffff)));
    identity.class_code = class_isa_bridge;
    return std::unique_ptr<LpcBridge>(new LpcBridge(wires, address, control, identity));
}

LpcBridge::LpcBridge(PciWires wires, PciAddress address, PirqSwitch* control, PciIdentity const& identity)
    : PciFunction(wires, address, std::string(info.name), identity)
    , m_control(control)
{
    for (unsigned pirq = 0; pirq < pirq_count; ++pirq) {
        config().set(register_of(pirq), 1, pirq_off);
        config().set_writable(register_of(pirq), 1, pirq_off | 0x0f);
    }
}

unsigned LpcBridge::assign_pirq(unsigned pirq)
{
    unsigned const line = m_control ? m_control->assign_line(pirq) : 0;
    set_config_value(register_of(pirq), 1, line ? line : pirq_off);
    return line;
}

u8 LpcBridge::routing(unsigned pirq) const
{
    return static_cast<u8>(config_value(register_of(pirq), 1));
}

void LpcBridge::config_written(u16 offset, unsigned width)
{
    unsigned const end = offset + width;
    if (offset < register_of(7) + 1 && end > register_of(0))
        route_all();
}

// The order of two racing writers of the same register is settled by reading it again under the lock.
void LpcBridge::route_all()
{
    std::lock_guard lock(m_route_mutex);
    for (unsigned pirq = 0; pirq < pirq_count && m_control; ++pirq)
        m_control->set_routing(pirq, routing(pirq));
}

} // namespace anyhyve
