// Checks the setup header, places kernel, initrd, command line and zero page, and enters.
#include "boot/linux.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.hpp"
#include "boot/e820.hpp"
#include "boot/entry_state.hpp"
#include "boot/linux_header.hpp"
#include "boot/payload.hpp"

namespace anyhyve::boot {

namespace {

using namespace linux_protocol;

// The header, with what an older protocol does not have set to zero, and what follows from it.
struct Image {
    SetupHeader header;
    u64 header_size;  // bytes of the header that the file has
    u64 code_offset;  // of the protected-mode code in the file
    u64 code_size;
    u64 load_address;
    u64 memory_size;  // that the kernel uses from load_address on before it reads the memory map
};

template<typename... Arguments>
Error bad_image(ImageSource const& file, fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    return make_error(ENOEXEC, "{}: {}", file.name(), fmt::format(format, std::forward<Arguments>(arguments)...));
}

Result<Image> read_header(ImageSource const& file)
{
    constexpr u64 jump_end = offsetof(SetupHeader, header);
    constexpr u64 smallest = offsetof(SetupHeader, hardware_subarch); // what protocol 2.06 has

    Image image {};
    std::array<u8, sizeof(SetupHeader)> bytes {};
    TRY(file.read(header_offset, std::span(bytes).first(jump_end)));
    image.header_size = std::min<u64>(jump_end + bytes[jump_end - 1], sizeof(SetupHeader));
    TRY(file.read(header_offset, std::span(bytes).first(std::max(image.header_size, smallest))));
    std::memcpy(&image.header, bytes.data(), sizeof image.header);

    SetupHeader const& header = image.header;
    if (header.version < oldest_version)
        return bad_image(file, "boot protocol {}.{:02} is too old: 2.06 or later is needed", header.version >> 8, header.version & 0xff);
    if (image.header_size < smallest)
        return bad_image(file, "the setup header is damaged: it claims to end after {} bytes", image.header_size);
    if (!(header.loadflags & loaded_high))
        return bad_image(file, "a zImage, which loads below 1 MiB, cannot be started; use the bzImage");
    return image;
}

Result<void> locate_code(ImageSource const& file, Image& image)
{
    SetupHeader const& header = image.header;
    u64 const setup_sects = header.setup_sects == 0 ? default_setup_sects : header.setup_sects;
    image.code_offset = (setup_sects + 1) * sector_size;
    if (image.code_offset >= file.size())
        return bad_image(file, "the file is truncated: its {} setup sectors alone need {} bytes, and it has {}", setup_sects, image.code_offset, file.size());
    image.code_size = file.size() - image.code_offset;
    // The header counts in units of 16 bytes; the last one need not be whole.
    u64 const claimed = u64 { header.syssize } * 16;
    if (claimed > align_up(image.code_size, 16))
        return bad_image(file, "the file is truncated: the header says {} bytes of code, and {} are there", claimed, image.code_size);
    if (header.version >= 0x208 && (header.payload_offset > image.code_size || header.payload_length > image.code_size - header.payload_offset))
        return bad_image(file, "the header is damaged: its payload of {} bytes at {:#x} lies outside the code of {} bytes", u32 { header.payload_length },
            u32 { header.payload_offset }, image.code_size);
    return {};
}

Result<void> choose_address(ImageSource const& file, GuestMemory const& memory, Image& image)
{
    SetupHeader const& header = image.header;
    bool const has_preference = header.version >= 0x20a && header.pref_address != 0;
    image.memory_size = std::max<u64>(image.code_size, header.version >= 0x20a ? header.init_size : 0);
    image.load_address = has_preference ? header.pref_address : memory_map::extended_ram;
    if (image.load_address < memory_map::extended_ram)
        return bad_image(file, "the header is damaged: its preferred address {:#x} is below 1 MiB", image.load_address);

    auto const fits = [&](u64 address) { return address < memory.low_size() && image.memory_size <= memory.low_size() - address; };
    if (fits(image.load_address))
        return {};
    // A relocatable kernel may also lie lower than it prefers.
    u64 const alignment = header.kernel_alignment;
    if (has_preference && header.relocatable_kernel && alignment != 0 && (alignment & (alignment - 1)) == 0) {
        u64 const lower = align_up(memory_map::extended_ram, alignment);
        if (lower < image.load_address && fits(lower)) {
            image.load_address = lower;
            return {};
        }
    }
    return make_error(ENOMEM, "{}: the kernel needs {} KiB of memory from {:#x} on, and the guest has only {} MiB", file.name(), image.memory_size / KiB,
        image.load_address, memory.size() / MiB);
}

Result<KernelEntry> choose_entry(ImageSource const& file, Image const& image, KernelEntry wanted)
{
    bool const has_64 = image.header.version >= 0x20c && (image.header.xloadflags & kernel_64) && image.code_size > entry64_offset;
    if (wanted == KernelEntry::long64 && !has_64)
        return bad_image(file, "this kernel has no 64-bit entry");
    return wanted == KernelEntry::automatic ? (has_64 ? KernelEntry::long64 : KernelEntry::flat32) : wanted;
}

std::string version_text(ImageSource const& file, Image const& image)
{
    std::array<char, 64> text {};
    u64 const offset = u64 { image.header.kernel_version } + sector_size;
    if (image.header.kernel_version == 0 || offset >= image.code_offset)
        return "unknown version";
    u64 const length = std::min<u64>(text.size() - 1, image.code_offset - offset);
    // SAFETY: chars seen as bytes, within the array.
    if (!file.read(offset, std::span(reinterpret_cast<u8*>(text.data()), length)).ok())
        return "unknown version";
    std::string version(text.data());
    for (char& c : version)
        c = (c >= ' ' && c < 0x7f) ? c : '?';
    return version.substr(0, version.find(" ("));
}

BootParams make_boot_params(Image const& image, u64 ram_size)
{
    BootParams params {};
    std::memcpy(&params.hdr, &image.header, image.header_size);
    params.hdr.type_of_loader = loader_undefined;
    params.hdr.code32_start = static_cast<u32>(image.load_address);
    params.hdr.vid_mode = 0xffff; // "normal"
    params.hdr.setup_data = 0;
    auto const map = build_e820(ram_size);
    auto const encoded = encode_e820(map);
    static_assert(sizeof params.e820_table >= 16 * 20);
    params.e820_entries = static_cast<u8>(map.size());
    std::memcpy(params.e820_table, encoded.data(), std::min(encoded.size(), sizeof params.e820_table));
    return params;
}

} // namespace

Result<bool> is_linux_image(ImageSource const& file)
{
    u64 const needed = header_offset + offsetof(SetupHeader, version) + sizeof(u16);
    if (file.size() < needed)
        return false;
    u16 const flag = TRY(file.read_value<u16>(header_offset + offsetof(SetupHeader, boot_flag)));
    u32 const magic = TRY(file.read_value<u32>(header_offset + offsetof(SetupHeader, header)));
    return flag == boot_flag_value && magic == header_magic;
}

Result<LoadedGuest> load_linux(GuestMemory& memory, KernelRequest const& request)
{
    ImageSource const& file = request.kernel;
    Image image = TRY(read_header(file));
    TRY(locate_code(file, image));
    TRY(choose_address(file, memory, image));
    KernelEntry const entry = TRY(choose_entry(file, image, request.entry));

    TRY(file.read_into(memory, image.code_offset, image.code_size, Gpa(image.load_address)));
    SetupHeader const& header = image.header;
    // cmdline_size is without the NUL; images that leave it out take what older protocols did.
    Placement const command_line = TRY(place_command_line(memory, request.command_line, header.cmdline_size != 0 ? header.cmdline_size : default_cmdline_size));
    u64 const initrd_last = header.initrd_addr_max != 0 ? header.initrd_addr_max : default_initrd_addr_max;
    Placement const initrd = TRY(place_initrd(memory, request.initrd, image.load_address + image.memory_size, initrd_last));

    BootParams params = make_boot_params(image, memory.size());
    params.hdr.cmd_line_ptr = static_cast<u32>(command_line.address);
    params.hdr.ramdisk_image = static_cast<u32>(initrd.address);
    params.hdr.ramdisk_size = static_cast<u32>(initrd.size);
    if (header.version >= 0x20e)
        params.acpi_rsdp_addr = request.rsdp;
    Gpa const params_address(memory_map::loader::linux_boot_params);
    if (!memory.write(params_address, &params, sizeof params))
        return make_error(ENOMEM, "the guest's memory is too small for the zero page of {}", file.name());

    Gpa const start(image.load_address + (entry == KernelEntry::long64 ? entry64_offset : 0));
    CpuState state = TRY(entry == KernelEntry::long64 ? long64_state(memory, start) : flat32_state(memory, start));
    state.gpr[x86::rsi] = params_address.value();
    return LoadedGuest { state, entry,
        fmt::format("Linux {}, boot protocol {}.{:02}, {} entry at {:#x}", version_text(file, image), header.version >> 8, header.version & 0xff,
            entry == KernelEntry::long64 ? "64-bit" : "32-bit", start.value()) };
}

} // namespace anyhyve::boot
