// ELF headers, segments and notes, of files that may lie about all of them.
#include "boot/elf.hpp"

#include <algorithm>
#include <array>

#include "base/bits.hpp"

namespace anyhyve::boot {

namespace {

// The identification bytes and the header fields that follow, by class (System V ABI 4, "ELF Header").
struct [[gnu::packed]] Identification {
    u32 magic;
    u8 elf_class, data, version;
    u8 rest[9];
};

template<typename Word>
struct [[gnu::packed]] Header {
    Identification identification;
    u16 type, machine;
    u32 version;
    Word entry, program_headers, section_headers;
    u32 flags;
    u16 header_size, program_header_size, program_header_count, section_header_size, section_header_count, section_names;
};

struct [[gnu::packed]] ProgramHeader32 {
    u32 type, offset, virtual_address, physical_address, file_size, memory_size, flags, alignment;
};
struct [[gnu::packed]] ProgramHeader64 {
    u32 type, flags;
    u64 offset, virtual_address, physical_address, file_size, memory_size, alignment;
};
struct [[gnu::packed]] NoteHeader {
    u32 name_size, value_size, type;
};

constexpr u8 little_endian = 1, current_version = 1;
constexpr u16 type_executable = 2, type_shared = 3;
constexpr u16 machine_386 = 3, machine_x86_64 = 62;
constexpr u16 most_program_headers = 256;
constexpr u64 most_note_bytes = 1 * MiB;

template<typename... Arguments>
Error bad_elf(ImageSource const& file, fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    return make_error(ENOEXEC, "{}: {}", file.name(), fmt::format(format, std::forward<Arguments>(arguments)...));
}

Result<void> check_segment(ImageSource const& file, ElfSegment const& segment)
{
    if (segment.file_offset > file.size() || segment.file_size > file.size() - segment.file_offset)
        return bad_elf(file, "the file is truncated: a segment of {} bytes at offset {} lies outside its {} bytes", segment.file_size, segment.file_offset,
            file.size());
    if (segment.type != ElfSegmentType::load)
        return {};
    if (segment.file_size > segment.memory_size)
        return bad_elf(file, "the ELF file is damaged: a segment has {} bytes in the file and only {} in memory", segment.file_size, segment.memory_size);
    if (segment.memory_size > ~u64 { 0 } - segment.physical_address)
        return bad_elf(file, "the ELF file is damaged: a segment of {:#x} bytes at {:#x} runs over the end of the address space", segment.memory_size,
            segment.physical_address);
    return {};
}

template<typename Word, typename ProgramHeader>
Result<ElfFile> read_headers(ImageSource const& file)
{
    auto const header = TRY(file.read_value<Header<Word>>(0));
    ElfFile elf { static_cast<ElfClass>(header.identification.elf_class), header.machine, header.entry, {} };
    if (header.type != type_executable && header.type != type_shared)
        return bad_elf(file, "an ELF file, but no executable (type {})", u16 { header.type });
    if (header.machine != machine_386 && header.machine != machine_x86_64)
        return bad_elf(file, "an ELF file for another processor (machine {})", u16 { header.machine });
    if (header.program_header_count == 0)
        return bad_elf(file, "an ELF file without program headers");
    if (header.program_header_count > most_program_headers || header.program_header_size < sizeof(ProgramHeader))
        return bad_elf(file, "the ELF file is damaged: {} program headers of {} bytes", u16 { header.program_header_count }, u16 { header.program_header_size });

    for (u64 i = 0; i < header.program_header_count; ++i) {
        u64 const distance = i * header.program_header_size;
        if (header.program_headers > ~u64 { 0 } - distance)
            return bad_elf(file, "the ELF file is damaged: its program headers are at {:#x}", u64 { header.program_headers });
        auto const entry = TRY(file.read_value<ProgramHeader>(header.program_headers + distance));
        auto const type = static_cast<ElfSegmentType>(entry.type);
        if (type != ElfSegmentType::load && type != ElfSegmentType::note)
            continue;
        ElfSegment const segment { type, entry.offset, entry.file_size, entry.physical_address, entry.virtual_address, entry.memory_size, entry.alignment };
        TRY(check_segment(file, segment));
        elf.segments.push_back(segment);
    }
    return elf;
}

// The note's value when it is the one; `position` moves to the next note. False at the end or when the rest makes no sense.
struct NoteCursor {
    std::vector<u8> bytes;
    u64 alignment;
    u64 position = 0;

    template<typename Visit>
    bool next(Visit const& visit)
    {
        NoteHeader header;
        if (position >= bytes.size() || sizeof header > bytes.size() - position)
            return false;
        std::memcpy(&header, bytes.data() + position, sizeof header);
        u64 const name = position + sizeof header;
        u64 const value = position + align_up(sizeof header + u64 { header.name_size }, alignment);
        if (value > bytes.size() || header.value_size > bytes.size() - value || header.name_size > bytes.size() - name)
            return false;
        visit(header.type, std::span(bytes).subspan(name, header.name_size), std::span(bytes).subspan(value, header.value_size));
        position = value + align_up(header.value_size, alignment);
        return true;
    }
};

} // namespace

Result<ElfFile> read_elf(ImageSource const& file)
{
    auto const identification = TRY(file.read_value<Identification>(0));
    if (identification.magic != elf_magic)
        return bad_elf(file, "not an ELF file");
    if (identification.data != little_endian || identification.version != current_version)
        return bad_elf(file, "an ELF file for another kind of machine");
    switch (static_cast<ElfClass>(identification.elf_class)) {
    case ElfClass::bits32: return read_headers<u32, ProgramHeader32>(file);
    case ElfClass::bits64: return read_headers<u64, ProgramHeader64>(file);
    }
    return bad_elf(file, "the ELF file is damaged: it is neither of 32 nor of 64 bits");
}

Result<u64> load_elf_segments(GuestMemory& memory, ImageSource const& file, ElfFile const& elf, u64 lowest)
{
    u64 low_end = 0;
    bool loaded = false;
    for (auto const& segment : elf.segments) {
        if (segment.type != ElfSegmentType::load || segment.memory_size == 0)
            continue;
        Gpa const address(segment.physical_address);
        if (address.value() < lowest)
            return bad_elf(file, "a segment is to be loaded at {:#x}, where boot information lies (below {:#x})", address.value(), lowest);
        u8* const bytes = memory.range(address, segment.memory_size);
        if (!bytes)
            return make_error(ENOMEM, "{}: a segment of {} KiB at {:#x} does not fit in the guest's memory of {} MiB", file.name(), segment.memory_size / KiB,
                address.value(), memory.size() / MiB);
        TRY(file.read(segment.file_offset, std::span(bytes, segment.file_size)));
        std::memset(bytes + segment.file_size, 0, segment.memory_size - segment.file_size);
        memory.written(address, segment.memory_size);
        loaded = true;
        if (address.value() < GuestMemory::low_limit)
            low_end = std::max(low_end, address.value() + segment.memory_size);
    }
    if (!loaded)
        return bad_elf(file, "the ELF file has nothing to load");
    return low_end;
}

Result<std::optional<u64>> find_elf_note(ImageSource const& file, ElfFile const& elf, std::string_view owner, u32 type)
{
    std::optional<u64> found;
    for (auto const& segment : elf.segments) {
        if (segment.type != ElfSegmentType::note)
            continue;
        if (segment.file_size > most_note_bytes)
            return bad_elf(file, "the ELF file is damaged: it has {} bytes of notes", segment.file_size);
        NoteCursor cursor { std::vector<u8>(segment.file_size), segment.alignment == 8 ? u64 { 8 } : u64 { 4 } };
        TRY(file.read(segment.file_offset, cursor.bytes));
        auto const visit = [&](u32 note_type, std::span<u8> name, std::span<u8> value) {
            // The name's size counts its NUL.
            bool const same_owner = name.size() == owner.size() + 1 && std::equal(owner.begin(), owner.end(), name.begin());
            if (found || note_type != type || !same_owner || (value.size() != 4 && value.size() != 8))
                return;
            u64 number = 0;
            std::memcpy(&number, value.data(), value.size());
            found = number;
        };
        while (!found && cursor.next(visit)) { }
    }
    return found;
}

} // namespace anyhyve::boot
