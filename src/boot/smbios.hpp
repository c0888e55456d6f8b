// SMBIOS: the machine's description for the guest's inventory tools (dmidecode, kenv).
// Spec: DMTF DSP0134 (SMBIOS reference specification) 2.8; the strings are bhyve_config(5)'s.
#pragma once

#include <string>
#include <vector>

#include "boot/memory_map.hpp"
#include "boot/uuid.hpp"

namespace anyhyve::boot {

struct SmbiosConfiguration {
    std::string bios_vendor = "BHYVE", bios_version = "14.0", bios_release_date = "10/17/2021";
    std::string system_manufacturer = "FreeBSD", system_product_name = "BHYVE", system_version = "1.0", system_serial_number = "None", system_sku = "None",
                system_family_name = "Virtual Machine";
    std::string board_manufacturer, board_product_name, board_version, board_serial_number, board_asset_tag, board_location;
    std::string chassis_manufacturer, chassis_version, chassis_serial_number, chassis_asset_tag, chassis_sku;
    std::vector<std::string> oem_strings; // type 11, at most 255
    Uuid uuid;
    u32 sockets = 1, cores = 1, threads = 1;
    u64 ram_size = 0;
};

// The bytes for memory_map::smbios_table: entry point, then types 0, 1, 2, 3, 4 (as many processors as fit), 11, 16, 17, 19, 32, 127.
// Strings are cut to 64 characters (DSP0134 6.1.3); an error when the OEM strings do not fit.
Result<std::vector<u8>> build_smbios(SmbiosConfiguration const&);

} // namespace anyhyve::boot
