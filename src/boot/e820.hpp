// The map of guest memory as kernels and firmware read it (ACPI specification 15, "System Address Map Interfaces").
#pragma once

#include <vector>

#include "base/integer.hpp"

namespace anyhyve::boot {

enum class E820Type : u32 { ram = 1, reserved = 2, acpi_reclaimable = 3, acpi_nvs = 4, unusable = 5 };

struct E820Entry {
    u64 base;
    u64 size;
    E820Type type;
};

// Sorted, without overlaps, for a machine with `ram_size` bytes: RAM, the table area below 1 MiB, ECAM and the fixed devices.
std::vector<E820Entry> build_e820(u64 ram_size);

// The entries as etc/e820 of fw_cfg and the Linux zero page have them: u64 base, u64 size, u32 type.
std::vector<u8> encode_e820(std::vector<E820Entry> const&);

} // namespace anyhyve::boot
