// Places initrd and command line.
#include "boot/payload.hpp"

#include <algorithm>

#include "base/bits.hpp"
#include "boot/memory_map.hpp"

namespace anyhyve::boot {

Result<Placement> place_initrd(GuestMemory& memory, ImageSource const* file, u64 lowest, u64 last)
{
    if (!file)
        return Placement {};
    u64 const size = file->size();
    if (size == 0)
        return make_error(EINVAL, "{}: the initrd is empty", file->name());
    u64 const first = align_up(lowest, GuestMemory::page_size);
    u64 const end = std::min(last, memory.low_size() - 1) + 1;
    if (end < first || size > end - first || align_down(end - size, GuestMemory::page_size) < first)
        return make_error(ENOMEM, "{}: the initrd has {} KiB, and above the kernel only {} KiB of the guest's memory ({} MiB) are free for it", file->name(),
            (size + KiB - 1) / KiB, end > first ? (end - first) / KiB : 0, memory.size() / MiB);
    Placement const placement { align_down(end - size, GuestMemory::page_size), size };
    TRY(file->read_into(memory, 0, size, Gpa(placement.address)));
    return placement;
}

Result<Placement> place_command_line(GuestMemory& memory, std::string const& command_line, u64 most)
{
    u64 const limit = std::min(most, memory_map::loader::command_line_size - 1);
    if (command_line.size() > limit)
        return make_error(E2BIG, "the kernel's command line is {} bytes long, and this kernel takes at most {}", command_line.size(), limit);
    if (command_line.find('\0') != std::string::npos)
        return make_error(EINVAL, "the kernel's command line contains a NUL byte");
    Placement const placement { memory_map::loader::command_line, command_line.size() };
    if (!memory.write(Gpa(placement.address), command_line.c_str(), command_line.size() + 1))
        return make_error(ENOMEM, "the guest's memory of {} KiB is too small for a kernel's command line", memory.size() / KiB);
    return placement;
}

} // namespace anyhyve::boot
