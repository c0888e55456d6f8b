// Chooses the boot protocol of a kernel file.
#include "boot/kernel.hpp"

#include <array>

#include "boot/elf.hpp"
#include "boot/linux.hpp"
#include "boot/pvh.hpp"

namespace anyhyve::boot {

Result<KernelEntry> parse_kernel_entry(std::string_view name)
{
    for (auto entry : { KernelEntry::automatic, KernelEntry::flat32, KernelEntry::long64, KernelEntry::pvh }) {
        if (to_string(entry) == name)
            return entry;
    }
    return make_error(EINVAL, "\"{}\" is no way to enter a kernel: choose auto, flat32, long64 or pvh", name);
}

std::string_view to_string(KernelEntry entry)
{
    switch (entry) {
    case KernelEntry::automatic: return "auto";
    case KernelEntry::flat32: return "flat32";
    case KernelEntry::long64: return "long64";
    case KernelEntry::pvh: return "pvh";
    }
    return "auto";
}

Result<KernelKind> detect_kernel(ImageSource const& file)
{
    if (file.size() >= sizeof(u32)) {
        if (TRY(file.read_value<u32>(0)) == elf_magic)
            return KernelKind::elf;
    }
    if (TRY(is_linux_image(file)))
        return KernelKind::linux_image;
    return KernelKind::unknown;
}

Result<LoadedGuest> load_kernel(GuestMemory& memory, KernelRequest const& request)
{
    std::string const& name = request.kernel.name();
    switch (TRY(detect_kernel(request.kernel))) {
    case KernelKind::linux_image:
        if (request.entry == KernelEntry::pvh)
            return make_error(ENOTSUP, "{}: a bzImage has no PVH entry; the vmlinux inside it may have one", name);
        return load_linux(memory, request);
    case KernelKind::elf:
        if (request.entry == KernelEntry::flat32 || request.entry == KernelEntry::long64)
            return make_error(ENOTSUP, "{}: an ELF kernel is entered by PVH, not by {}", name, to_string(request.entry));
        return load_pvh(memory, request);
    case KernelKind::unknown:
        break;
    }
    if (request.kernel.size() == 0)
        return make_error(ENOEXEC, "{}: the file is empty", name);
    return make_error(ENOEXEC, "{}: not a kernel: it is neither a Linux bzImage nor an ELF file ({} bytes)", name, request.kernel.size());
}

} // namespace anyhyve::boot
