// Builds the memory map from the board's.
#include "boot/e820.hpp"

#include <algorithm>

#include "boot/byte_writer.hpp"
#include "boot/memory_map.hpp"

namespace anyhyve::boot {

std::vector<E820Entry> build_e820(u64 ram_size)
{
    namespace map = memory_map;
    u64 const low_end = std::min(ram_size, map::low_ram_limit);
    std::vector<E820Entry> entries;
    auto const add = [&](u64 base, u64 end, E820Type type) {
        if (end > base)
            entries.push_back({ base, end - base, type });
    };
    add(0, std::min(low_end, map::conventional_ram_end), E820Type::ram);
    add(map::table_area, map::table_area_end, E820Type::reserved);
    add(map::extended_ram, low_end, E820Type::ram);
    add(map::pci_ecam, map::pci_ecam + map::pci_ecam_size, E820Type::reserved);
    // IOAPIC, HPET, TPM, local APIC and boot ROM: nothing there is free for bars.
    add(map::ioapic, map::boot_rom_end, E820Type::reserved);
    if (ram_size > map::low_ram_limit)
        add(map::high_ram, map::high_ram + (ram_size - map::low_ram_limit), E820Type::ram);
    return entries;
}

std::vector<u8> encode_e820(std::vector<E820Entry> const& entries)
{
    ByteWriter out;
    for (auto const& entry : entries) {
        out.put_u64(entry.base);
        out.put_u64(entry.size);
        out.put_u32(static_cast<u32>(entry.type));
    }
    return out.take();
}

} // namespace anyhyve::boot
