// Finds the header, loads the kernel and its modules, writes the information structure and enters.
#include "boot/multiboot.hpp"

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "boot/byte_writer.hpp"
#include "boot/e820.hpp"
#include "boot/elf.hpp"
#include "boot/entry_state.hpp"

namespace anyhyve::boot {

namespace {

namespace loader = memory_map::loader;

constexpr u32 header_magic = 0x1badb002, entry_magic = 0x2badb002; // 3.1.1, 3.2
constexpr u64 search_size = 8192;                                  // 3.1
constexpr u64 most_modules = loader::multiboot_modules_size / 16;
constexpr char loader_name[] = "anyhyve";

// 3.1.2. A loader that does not know one of bits 0-15 must not start the kernel.
enum HeaderFlags : u32 { page_aligned_modules = 1 << 0, memory_information = 1 << 1, video_mode = 1 << 2, address_fields = 1 << 16 };
constexpr u32 required_flags = 0xffff, known_flags = page_aligned_modules | memory_information | video_mode;

// 3.3: which fields are valid.
enum InformationFlags : u32 { has_memory = 1 << 0, has_command_line = 1 << 2, has_modules = 1 << 3, has_memory_map = 1 << 6, has_loader_name = 1 << 9 };

struct Header {
    u64 offset; // in the file
    u32 flags;
};

// 3.1.3.
struct [[gnu::packed]] AddressFields {
    u32 header_address, load_address, load_end_address, bss_end_address, entry_address;
};

struct Loaded {
    u64 entry;
    u64 end; // of what lies below 3 GiB
};

struct Module {
    u64 start, end;
    std::string text;
};

template<typename... Arguments>
Error bad_image(ImageSource const& file, fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    return make_error(ENOEXEC, "{}: {}", file.name(), fmt::format(format, std::forward<Arguments>(arguments)...));
}

Result<std::optional<Header>> find_header(ImageSource const& file)
{
    std::array<u32, search_size / sizeof(u32)> words {};
    u64 const count = std::min<u64>(words.size(), file.size() / sizeof(u32));
    std::vector<u8> bytes(count * sizeof(u32));
    TRY(file.read(0, bytes));
    if (!bytes.empty())
        std::memcpy(words.data(), bytes.data(), bytes.size());
    for (u64 i = 0; i + 2 < count; ++i)
        if (words[i] == header_magic && words[i] + words[i + 1] + words[i + 2] == 0)
            return std::optional(Header { i * sizeof(u32), words[i + 1] });
    return std::optional<Header> {};
}

// The kernel by the addresses in its header, whatever else the file is.
Result<Loaded> load_flat(GuestMemory& memory, ImageSource const& file, Header const& header)
{
    auto const fields = TRY(file.read_value<AddressFields>(header.offset + 3 * sizeof(u32)));
    u64 const load = fields.load_address;
    if (fields.header_address < load || fields.header_address - load > header.offset)
        return bad_image(file, "the multiboot header is damaged: it is to lie at {:#x} in an image loaded at {:#x}", u32 { fields.header_address }, load);
    u64 const from = header.offset - (fields.header_address - load);
    u64 const in_file = fields.load_end_address == 0 ? file.size() - from : fields.load_end_address - load;
    if (fields.load_end_address != 0 && (fields.load_end_address < load || in_file > file.size() - from))
        return bad_image(file, "the multiboot header is damaged: the image ends at {:#x} and begins at {:#x}, in a file of {} bytes",
            u32 { fields.load_end_address }, load, file.size());
    if (fields.bss_end_address != 0 && fields.bss_end_address < load + in_file)
        return bad_image(file, "the multiboot header is damaged: memory is to be cleared up to {:#x}, within the image", u32 { fields.bss_end_address });
    u64 const size = fields.bss_end_address == 0 ? in_file : fields.bss_end_address - load;
    if (load < loader::multiboot_end)
        return bad_image(file, "the image is to be loaded at {:#x}, where boot information lies (below {:#x})", load, loader::multiboot_end);
    u8* const bytes = memory.range(Gpa(load), size);
    if (!bytes)
        return make_error(ENOMEM, "{}: the image of {} KiB at {:#x} does not fit in the guest's memory of {} MiB", file.name(), size / KiB, load,
            memory.size() / MiB);
    TRY(file.read(from, std::span(bytes, in_file)));
    std::memset(bytes + in_file, 0, size - in_file);
    memory.written(Gpa(load), size);
    return Loaded { fields.entry_address, load + size };
}

// ELF entries are virtual addresses, and paging is off: the segment that holds it says where that is.
u64 physical_entry(ElfFile const& elf)
{
    for (auto const& segment : elf.segments)
        if (segment.type == ElfSegmentType::load && elf.entry >= segment.virtual_address && elf.entry - segment.virtual_address < segment.memory_size)
            return segment.physical_address + (elf.entry - segment.virtual_address);
    return elf.entry;
}

Result<Loaded> load_image(GuestMemory& memory, ImageSource const& file, Header const& header)
{
    if (header.flags & address_fields)
        return load_flat(memory, file, header);
    if (TRY(file.read_value<u32>(0)) != elf_magic)
        return bad_image(file, "a multiboot kernel that is no ELF file and does not say where it is to be loaded");
    ElfFile const elf = TRY(read_elf(file));
    u64 const end = TRY(load_elf_segments(memory, file, elf, loader::multiboot_end));
    return Loaded { physical_entry(elf), end };
}

std::string with_file_name(ImageSource const& file, std::string const& text)
{
    std::string name = file.name().substr(file.name().rfind('/') + 1);
    return text.empty() ? name : name + " " + text;
}

// One behind the other, page aligned, above the kernel (3.1.2: bit 0 asks for the alignment, all others take it).
Result<std::vector<Module>> load_modules(GuestMemory& memory, KernelRequest const& request, u64 lowest)
{
    std::vector<KernelModule> wanted;
    if (request.initrd)
        wanted.push_back({ request.initrd, "" });
    wanted.insert(wanted.end(), request.modules.begin(), request.modules.end());
    if (wanted.size() > most_modules)
        return make_error(E2BIG, "{}: {} modules are too many: at most {} can be passed", request.kernel.name(), wanted.size(), most_modules);
    std::vector<Module> modules;
    u64 next = std::max(lowest, memory_map::extended_ram);
    for (auto const& [file, text] : wanted) {
        u64 const start = align_up(next, GuestMemory::page_size);
        if (start > memory.low_size() || file->size() > memory.low_size() - start)
            return make_error(ENOMEM, "{}: the module has {} KiB, and above the kernel only {} KiB of the guest's memory ({} MiB) are free for it", file->name(),
                (file->size() + KiB - 1) / KiB, start > memory.low_size() ? 0 : (memory.low_size() - start) / KiB, memory.size() / MiB);
        TRY(file->read_into(memory, 0, file->size(), Gpa(start)));
        next = start + file->size();
        modules.push_back({ start, next, with_file_name(*file, text) });
    }
    return modules;
}

// The strings of the information structure, in a place of their own.
class Strings {
public:
    // Its address in the guest.
    Result<u32> add(std::string const& text)
    {
        if (text.find('\0') != std::string::npos)
            return make_error(EINVAL, "a command line contains a NUL byte");
        if (text.size() >= loader::multiboot_strings_size - m_bytes.size())
            return make_error(E2BIG, "the command lines of the kernel and its modules are longer than {} bytes", loader::multiboot_strings_size);
        u64 const address = loader::multiboot_strings + m_bytes.size();
        m_bytes.text(text);
        m_bytes.put_u8(0);
        return static_cast<u32>(address);
    }
    ByteWriter const& bytes() const { return m_bytes; }

private:
    ByteWriter m_bytes;
};

Result<void> put(GuestMemory& memory, u64 address, ByteWriter const& bytes)
{
    if (bytes.size() != 0 && !memory.write(Gpa(address), bytes.view().data(), bytes.size()))
        return make_error(ENOMEM, "the guest's memory of {} KiB is too small to start a kernel", memory.size() / KiB);
    return {};
}

// 3.3, from offset 44: each entry is preceded by its size, which does not count itself.
ByteWriter memory_map_of(u64 ram_size)
{
    ByteWriter entries;
    for (auto const& entry : build_e820(ram_size)) {
        entries.put_u32(20);
        entries.put_u64(entry.base);
        entries.put_u64(entry.size);
        entries.put_u32(static_cast<u32>(entry.type)); // the numbers are e820's
    }
    return entries;
}

Result<void> write_information(GuestMemory& memory, KernelRequest const& request, std::vector<Module> const& modules)
{
    Strings strings;
    u32 const command_line = TRY(strings.add(with_file_name(request.kernel, request.command_line)));
    u32 const name = TRY(strings.add(loader_name));
    ByteWriter list;
    for (auto const& module : modules) {
        list.put_u32(module.start);
        list.put_u32(module.end);
        list.put_u32(TRY(strings.add(module.text)));
        list.put_u32(0);
    }
    ByteWriter const map = memory_map_of(memory.size());
    u64 const upper = memory.low_size() > memory_map::extended_ram ? memory.low_size() - memory_map::extended_ram : 0;

    ByteWriter information;
    information.put_u32(has_memory | has_command_line | has_modules | has_memory_map | has_loader_name);
    information.put_u32(std::min(memory.low_size(), memory_map::conventional_ram_end) / KiB);
    information.put_u32(upper / KiB);
    information.put_u32(0); // boot device
    information.put_u32(command_line);
    information.put_u32(modules.size());
    information.put_u32(loader::multiboot_modules);
    information.zeros(16); // symbols
    information.put_u32(map.size());
    information.put_u32(loader::multiboot_memory_map);
    information.zeros(12); // drives, configuration table
    information.put_u32(name);
    information.zeros(loader::multiboot_information_size - information.size()); // APM, VBE, frame buffer

    TRY(put(memory, loader::multiboot_information, information));
    TRY(put(memory, loader::multiboot_memory_map, map));
    TRY(put(memory, loader::multiboot_modules, list));
    return put(memory, loader::multiboot_strings, strings.bytes());
}

} // namespace

Result<bool> is_multiboot_image(ImageSource const& file)
{
    return TRY(find_header(file)).has_value();
}

Result<LoadedGuest> load_multiboot(GuestMemory& memory, KernelRequest const& request)
{
    ImageSource const& file = request.kernel;
    auto const header = TRY(find_header(file));
    if (!header)
        return bad_image(file, "no multiboot kernel: its first {} bytes have no header", search_size);
    if (u32 const unknown = header->flags & required_flags & ~known_flags)
        return bad_image(file, "the multiboot header asks for what this loader does not know (flags {:#x})", unknown);
    Loaded const loaded = TRY(load_image(memory, file, *header));
    if (loaded.entry >= 4 * GiB || !memory.is_ram(Gpa(loaded.entry)))
        return bad_image(file, "its entry {:#x} is not in the guest's memory of {} MiB", loaded.entry, memory.size() / MiB);
    auto const modules = TRY(load_modules(memory, request, loaded.end));
    TRY(write_information(memory, request, modules));

    CpuState state = TRY(flat32_state(memory, Gpa(loaded.entry)));
    state.gpr[x86::rax] = entry_magic;
    state.gpr[x86::rbx] = loader::multiboot_information;
    return LoadedGuest { state, KernelEntry::multiboot, fmt::format("multiboot kernel, entry at {:#x}, {} modules", loaded.entry, modules.size()) };
}

} // namespace anyhyve::boot
