// Puts a kernel into guest memory, ready to run: finds out what kind of file it is and follows that kind's boot protocol.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "boot/image_source.hpp"
#include "boot/memory_map.hpp"
#include "vmm/cpu_state.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve::boot {

// How a kernel is entered. automatic: 64-bit if a bzImage has that entry, else 32-bit; PVH for ELF files, unless they have a
// multiboot header.
enum class KernelEntry { automatic, flat32, long64, pvh, multiboot };
// "auto", "flat32", "long64", "pvh" or "multiboot".
Result<KernelEntry> parse_kernel_entry(std::string_view);
std::string_view to_string(KernelEntry);

enum class KernelKind { linux_image, elf, multiboot, unknown };

// A file that a multiboot kernel finds in memory, and the words behind its name.
struct KernelModule {
    ImageSource const* file;
    std::string text;
};

struct KernelRequest {
    ImageSource const& kernel;
    ImageSource const* initrd = nullptr;
    std::string command_line;
    KernelEntry entry = KernelEntry::automatic;
    // Where the ACPI tables' root is or will be; 0 when there are none.
    u64 rsdp = memory_map::acpi_tables;
    std::vector<KernelModule> modules {};
};

struct LoadedGuest {
    CpuState bsp;
    KernelEntry entry;       // never automatic
    std::string description; // "Linux 6.1.0 (...), boot protocol 2.15, 64-bit entry at 0x1000200"
};

// What the first bytes say. An error only when the file cannot be read.
Result<KernelKind> detect_kernel(ImageSource const&);

// Loads any kernel this program knows. RAM must be the whole of the machine's; the application processors need no state.
Result<LoadedGuest> load_kernel(GuestMemory&, KernelRequest const&);

} // namespace anyhyve::boot
