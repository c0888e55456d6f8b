// The header that all ACPI tables but the root pointer and the FACS start with (ACPI specification 5.2.6).
#pragma once

#include <string_view>

#include "boot/byte_writer.hpp"

namespace anyhyve::boot {

namespace acpi_header {
constexpr std::size_t size = 36;
constexpr std::size_t length_offset = 4, checksum_offset = 9;
constexpr std::string_view oem_id = "BHYVE ";
} // namespace acpi_header

// With length and checksum zero: finish_acpi_table() sets them.
inline ByteWriter start_acpi_table(std::string_view signature, u8 revision, std::string_view table_id)
{
    ByteWriter out;
    out.text(signature, 4, ' ');
    out.put_u32(0);
    out.put_u8(revision);
    out.put_u8(0);
    out.text(acpi_header::oem_id, 6, ' ');
    out.text(table_id, 8, ' ');
    out.put_u32(1); // OEM revision
    out.text("AHYV", 4, ' ');
    out.put_u32(1); // of the table's creator
    return out;
}

inline std::vector<u8> finish_acpi_table(ByteWriter& table)
{
    table.patch(acpi_header::length_offset, table.size(), 4);
    table.patch_checksum(acpi_header::checksum_offset, 0, table.size());
    return table.take();
}

} // namespace anyhyve::boot
