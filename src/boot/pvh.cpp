// Loads an ELF kernel, writes hvm_start_info and enters by the note's address.
#include "boot/pvh.hpp"

#include <algorithm>

#include "boot/byte_writer.hpp"
#include "boot/e820.hpp"
#include "boot/elf.hpp"
#include "boot/entry_state.hpp"
#include "boot/payload.hpp"

namespace anyhyve::boot {

namespace {

namespace loader = memory_map::loader;

constexpr u32 note_phys32_entry = 18; // XEN_ELFNOTE_PHYS32_ENTRY
constexpr u32 start_info_magic = 0x336ec578;
constexpr u32 start_info_version = 1;
constexpr u64 most_command_line = 4095;

Result<void> put(GuestMemory& memory, u64 address, ByteWriter const& bytes)
{
    if (!memory.write(Gpa(address), bytes.view().data(), bytes.size()))
        return make_error(ENOMEM, "the guest's memory of {} KiB is too small to start a kernel", memory.size() / KiB);
    return {};
}

Result<void> write_start_info(GuestMemory& memory, Placement const& initrd, Placement const& command_line, u64 rsdp)
{
    ByteWriter module; // hvm_modlist_entry
    module.put_u64(initrd.address);
    module.put_u64(initrd.size);
    module.put_u64(0); // its command line
    module.put_u64(0);
    TRY(put(memory, loader::pvh_modules, module));

    auto const map = build_e820(memory.size());
    ByteWriter entries; // hvm_memmap_table_entry
    for (auto const& entry : map) {
        entries.put_u64(entry.base);
        entries.put_u64(entry.size);
        entries.put_u32(static_cast<u32>(entry.type)); // the numbers are e820's
        entries.put_u32(0);
    }
    TRY(put(memory, loader::pvh_memory_map, entries));

    ByteWriter info;
    info.put_u32(start_info_magic);
    info.put_u32(start_info_version);
    info.put_u32(0); // flags
    info.put_u32(initrd.size != 0 ? 1 : 0);
    info.put_u64(initrd.size != 0 ? loader::pvh_modules : 0);
    info.put_u64(command_line.address);
    info.put_u64(rsdp);
    info.put_u64(loader::pvh_memory_map);
    info.put_u32(map.size());
    info.put_u32(0);
    return put(memory, loader::pvh_start_info, info);
}

} // namespace

Result<LoadedGuest> load_pvh(GuestMemory& memory, KernelRequest const& request)
{
    ImageSource const& file = request.kernel;
    ElfFile const elf = TRY(read_elf(file));
    auto const entry = TRY(find_elf_note(file, elf, "Xen", note_phys32_entry));
    if (!entry)
        return make_error(ENOEXEC, "{}: an ELF file without a PVH entry (the note XEN_ELFNOTE_PHYS32_ENTRY)", file.name());
    if (*entry >= 4 * GiB || !memory.is_ram(Gpa(*entry)))
        return make_error(ENOEXEC, "{}: its PVH entry {:#x} is not in the guest's memory of {} MiB", file.name(), *entry, memory.size() / MiB);

    u64 const low_end = TRY(load_elf_segments(memory, file, elf, loader::scratch_end));
    Placement const command_line = TRY(place_command_line(memory, request.command_line, most_command_line));
    Placement const initrd = TRY(place_initrd(memory, request.initrd, std::max(low_end, memory_map::extended_ram), memory.low_size() - 1));
    TRY(write_start_info(memory, initrd, command_line, request.rsdp));

    CpuState state = TRY(flat32_state(memory, Gpa(*entry)));
    state.gpr[x86::rbx] = loader::pvh_start_info;
    return LoadedGuest { state, KernelEntry::pvh, fmt::format("ELF kernel, PVH entry at {:#x}", *entry) };
}

} // namespace anyhyve::boot
