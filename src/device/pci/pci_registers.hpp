// PCI configuration registers, capability layouts and addresses, as the PCI Local Bus 3.0 and PCI Express Base specifications name them.
#pragma once

#include <compare>
#include <string>

#include <fmt/core.h>

#include "base/integer.hpp"

namespace anyhyve {

// Bus, device ("slot") and function number.
struct PciAddress {
    u8 bus = 0;
    u8 slot = 0;     // 0-31
    u8 function = 0; // 0-7

    constexpr auto operator<=>(PciAddress const&) const = default;
    constexpr u16 number() const { return static_cast<u16>(bus << 8 | (slot & 31) << 3 | (function & 7)); }
    static constexpr PciAddress from_number(u16 number)
    {
        return { static_cast<u8>(number >> 8), static_cast<u8>(number >> 3 & 31), static_cast<u8>(number & 7) };
    }
    std::string text() const { return fmt::format("{}:{}:{}", bus, slot, function); }
};

// Type 0 header (PCI Local Bus 3.0, 6.1 and 6.2). R: read only, W: writable, C: a written 1 clears.
enum class PciRegister : u16 {
    vendor_id = 0x00,           // R 2
    device_id = 0x02,           // R 2
    command = 0x04,             // W 2
    status = 0x06,              // R/C 2
    revision_id = 0x08,         // R 1
    class_code = 0x09,          // R 3
    cache_line_size = 0x0c,     // W 1
    latency_timer = 0x0d,       // W 1
    header_type = 0x0e,         // R 1
    base_address_0 = 0x10,      // W 4, six of them
    subsystem_vendor_id = 0x2c, // R 2
    subsystem_id = 0x2e,        // R 2
    expansion_rom = 0x30,       // R 4 (none)
    capabilities_pointer = 0x34,// R 1
    interrupt_line = 0x3c,      // W 1
    interrupt_pin = 0x3d,       // R 1
    first_capability = 0x40,
};

constexpr u16 offset_of(PciRegister reg)
{
    return static_cast<u16>(reg);
}

// Bits of the command register (6.2.2).
enum PciCommand : u16 {
    pci_command_io = 1 << 0,
    pci_command_memory = 1 << 1,
    pci_command_bus_master = 1 << 2,
    pci_command_parity = 1 << 6,
    pci_command_serr = 1 << 8,
    pci_command_interrupt_disable = 1 << 10,
};

// Bits of the status register (6.2.3).
enum PciStatus : u16 {
    pci_status_interrupt = 1 << 3,
    pci_status_capabilities = 1 << 4,
    pci_status_errors = 0xf900, // the ones a written 1 clears
};

enum class PciCapabilityId : u8 {
    msi = 0x05,
    vendor_specific = 0x09,
    express = 0x10,
    msix = 0x11,
};

constexpr unsigned pci_bar_count = 6;
constexpr u16 pci_config_size = 256;
constexpr u16 pci_express_config_size = 4096;

} // namespace anyhyve
