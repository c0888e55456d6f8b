// The PCI to ISA bridge: carries the PIRQ routing registers. The ISA devices behind it are on the port bus themselves.
// Spec: Intel 82371SB (PIIX3) datasheet, PIRQRC[A:D] at 0x60-0x63, and E-H at 0x68-0x6B as later bridges have them.
// State: PIRQ routing complete. Missing: the other registers of the real bridge, which read as zero.
#pragma once

#include "device/pci/device_options.hpp"
#include "device/pci/pci_function.hpp"
#include "device/pci/pirq_registers.hpp"

namespace anyhyve {

class LpcBridge final : public PciFunction, public PirqRegisters {
public:
    enum class Register : u16 {
        pirq_a_control = 0x60, // W 1, four of them: bit 7 off, bits 3..0 8259 input
        pirq_e_control = 0x68, // W 1, four of them
    };
    static DeviceInfo const info; // "lpc": 8086:7000

    // Options: pcireg.{vendor,device,revid,subvendor,subdevice}. `control` may be null.
    static Result<std::unique_ptr<LpcBridge>> create(PciWires, PciAddress, PirqSwitch* control, DeviceOptions const&);

    unsigned assign_pirq(unsigned pirq) override;
    u8 routing(unsigned pirq) const;

private:
    LpcBridge(PciWires, PciAddress, PirqSwitch*, PciIdentity const&);
    void config_written(u16 offset, unsigned width) override;
    void config_restored() override { route_all(); }
    void route_all();

    PirqSwitch* m_control;
    std::mutex m_route_mutex; // taken before the configuration lock and the router's
};

} // namespace anyhyve
