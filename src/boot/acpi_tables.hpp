// The ACPI tables of the board, built here: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, MCFG and the DSDT.
// Spec: ACPI specification 6.5; the HPET table: IA-PC HPET specification 3.2.4; MCFG: PCI Firmware Specification 4.1.2.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "boot/memory_map.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve::boot {

// Where a PCI device's INTx pin goes: to an IOAPIC pin, and by the PIRQ router to the 8259s.
struct PciInterruptRoute {
    u8 bus;
    u8 slot;
    u8 pin;     // 1 = INTA .. 4 = INTD
    u8 ioapic_pin;
    u8 pirq;    // 0..7: LNKA..LNKH
};

struct ComPort {
    u16 port;
    u8 irq;
};

// What is on the board. Ports, addresses and wires that never change come from memory_map.hpp.
struct AcpiConfiguration {
    u32 vcpus = 1;
    u64 ram_size = 0;
    std::vector<PciInterruptRoute> routes;
    std::vector<ComPort> com_ports;
    bool has_lpc_bridge = true;
    u8 lpc_slot = board::lpc_default_slot;
    bool has_hpet = true;
    u32 hpet_id = 0x8086a701;   // the low half of its capabilities register
    u16 hpet_minimum_tick = 0;
    bool has_keyboard_controller = false;
    bool has_vga = false;
    bool has_display = false;   // a frame buffer or VGA: not headless
    bool has_firmware_config = false; // QEMU's fw_cfg at ports::firmware_config
};

// A table and where it was laid, and the places in it that hold addresses of others.
struct AcpiTable {
    std::string signature; // "FACP"; the root pointer is "RSD "
    u64 address;
    std::vector<u8> bytes;
};

// A file for QEMU's fw_cfg, from which firmware (OVMF, SeaBIOS) installs the tables itself.
struct FirmwareFile {
    std::string name;
    std::vector<u8> bytes;
};

class AcpiTables {
public:
    static constexpr std::size_t largest = memory_map::acpi_tables_end - memory_map::acpi_tables;

    // Lays the tables out from memory_map::acpi_tables on. An error when they do not fit there.
    static Result<AcpiTables> build(AcpiConfiguration const&);

    std::vector<AcpiTable> const& tables() const { return m_tables; }
    AcpiTable const* find(std::string_view signature) const;
    u64 root_pointer() const { return memory_map::acpi_tables; }
    Result<void> install(GuestMemory&) const;

    // etc/acpi/tables, etc/acpi/rsdp and etc/table-loader (QEMU docs/specs, "bios-linker-loader").
    std::vector<FirmwareFile> firmware_files() const;

private:
    struct Pointer {
        std::size_t table;  // that holds it
        std::size_t offset;
        unsigned width;
        std::size_t target; // that it points to
    };

    std::size_t add(std::string signature, std::vector<u8> bytes);
    void add_pointer(std::size_t table, std::size_t offset, unsigned width, std::size_t target) { m_pointers.push_back({ table, offset, width, target }); }
    Result<void> lay_out();

    std::vector<AcpiTable> m_tables; // the root pointer is the first
    std::vector<Pointer> m_pointers;
};

// The body of the DSDT, with its header (acpi_dsdt.cpp).
std::vector<u8> build_dsdt(AcpiConfiguration const&);

} // namespace anyhyve::boot
