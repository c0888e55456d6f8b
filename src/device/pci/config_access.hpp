// The two ways of a CPU to PCI configuration space: ports 0xCF8/0xCFC, and the memory-mapped ECAM.
// Spec: PCI Local Bus 3.0, 3.2.2.3.2 (mechanism #1); PCI Express Base 2.0, 7.2.2. State: complete. Missing: nothing.
#pragma once

#include <mutex>

#include "device/pci/pci_bus.hpp"
#include "vmm/bus.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

// Lives at ports 0xCF8-0xCFF. Only a dword access reaches the address register; narrower ones belong to whatever else is there:
// on a PC the reset control register at 0xCF9.
class PciConfigPorts final : public BusDevice, public Persistent {
public:
    static constexpr u16 base_port = 0xcf8;
    static constexpr u16 port_count = 8;
    enum class Register : u64 {
        address = 0,       // RW 4: enable bit 31, bus, slot, function, register
        reset_control = 1, // RW 1
        data = 4,          // RW 1, 2, 4
    };

    // `reset_control` answers byte accesses to 0xCF9 at its offset 0; may be null.
    explicit PciConfigPorts(PciBus& bus, BusDevice* reset_control = nullptr) : m_bus(bus), m_reset_control(reset_control) {}

    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

    std::string_view state_name() const override { return "pci-config-ports"; }
    u32 state_version() const override { return 1; }
    void save(Encoder& encoder) const override;
    Result<void> restore(Decoder& decoder, u32 version) override;
    void reset() override;

private:
    u32 address() const;

    PciBus& m_bus;
    BusDevice* m_reset_control;
    mutable std::mutex m_mutex;
    u32 m_address = 0;
};

// Lives at 0xE0000000: one MiB per bus, 4 KiB per function.
class PciEcam final : public BusDevice {
public:
    static constexpr u64 base_address = 0xe000'0000;
    static constexpr u64 size = 256 * MiB;

    explicit PciEcam(PciBus& bus) : m_bus(bus) {}
    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

private:
    PciBus& m_bus;
};

} // namespace anyhyve
