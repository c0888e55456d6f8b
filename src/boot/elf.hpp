// Reads the headers of 32-bit and 64-bit little-endian x86 ELF executables, and loads their segments.
// Spec: System V ABI, "Object Files" and "Program Loading"; the sizes of both classes in one form.
#pragma once

#include <optional>
#include <vector>

#include "boot/image_source.hpp"

namespace anyhyve::boot {

constexpr u32 elf_magic = 0x464c457f; // 0x7f 'E' 'L' 'F'

enum class ElfClass : u8 { bits32 = 1, bits64 = 2 };
enum class ElfSegmentType : u32 { load = 1, note = 4 };

struct ElfSegment {
    ElfSegmentType type;
    u64 file_offset;
    u64 file_size;
    u64 physical_address;
    u64 virtual_address;
    u64 memory_size;
    u64 alignment;
};

struct ElfFile {
    ElfClass elf_class;
    u16 machine;
    u64 entry;
    std::vector<ElfSegment> segments; // PT_LOAD and PT_NOTE only
};

// Checks everything but where the segments go in memory: the part of the file that a segment names exists.
Result<ElfFile> read_elf(ImageSource const&);

// Copies the PT_LOAD segments to their physical addresses and clears the rest of each. Nothing below `lowest` is touched.
// Returns the end of the highest one in low memory (0: none there).
Result<u64> load_elf_segments(GuestMemory&, ImageSource const&, ElfFile const&, u64 lowest);

// The value of an integer note (4 or 8 bytes) by its owner's name and its type.
Result<std::optional<u64>> find_elf_note(ImageSource const&, ElfFile const&, std::string_view owner, u32 type);

} // namespace anyhyve::boot
