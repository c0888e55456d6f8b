// The tables that firmware would leave in memory: MP, SMBIOS, ACPI, for the board as it is.
#pragma once

#include <vector>

#include "boot/acpi_tables.hpp"
#include "device/pci/pci_bus.hpp"
#include "machine/machine_config.hpp"

namespace anyhyve::machine {

struct FirmwareTables {
    std::vector<u8> mp;     // empty: none
    std::vector<u8> smbios;
    boot::AcpiTables acpi;

    static Result<FirmwareTables> build(MachineConfig const&, PciBus const&);
    Result<void> install(GuestMemory&) const;
};

} // namespace anyhyve::machine
