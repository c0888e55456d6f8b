// Chooses the boot protocol of a kernel file.
#include "boot/kernel.hpp"

#include <array>

#include "boot/elf.hpp"
#include "boot/linux.hpp"
#include "boot/multiboot.hpp"
#include "boot/pvh.hpp"

namespace anyhyve::boot {

Result<KernelEntry> parse_kernel_entry(std::string_view name)
{
    for (auto entry : { KernelEntry::automatic, KernelEntry::flat32, KernelEntry::long64, KernelEntry::pvh, KernelEntry::multiboot }) {
        if (to_string(entry) == name)
            return entry;
    }
    return make_error(EINVAL, "\"{}\" is no way to enter a kernel: choose auto, flat32, long64, pvh or multiboot", name);
}

std::string_view to_string(KernelEntry entry)
{
    switch (entry) {
    case KernelEntry::automatic: return "auto";
    case KernelEntry::flat32: return "flat32";
    case KernelEntry::long64: return "long64";
    case KernelEntry::pvh: return "pvh";
    case KernelEntry::multiboot: return "multiboot";
    }
    return "auto";
}

Result<KernelKind> detect_kernel(ImageSource const& file)
{
    if (TRY(is_linux_image(file)))
        return KernelKind::linux_image;
    if (TRY(is_multiboot_image(file)))
        return KernelKind::multiboot;
    if (file.size() >= sizeof(u32) && TRY(file.read_value<u32>(0)) == elf_magic)
        return KernelKind::elf;
    return KernelKind::unknown;
}

Result<LoadedGuest> load_kernel(GuestMemory& memory, KernelRequest const& request)
{
    std::string const& name = request.kernel.name();
    if (request.entry == KernelEntry::multiboot)
        return load_multiboot(memory, request);
    KernelKind const kind = TRY(detect_kernel(request.kernel));
    if (kind == KernelKind::multiboot && request.entry == KernelEntry::automatic)
        return load_multiboot(memory, request);
    if (!request.modules.empty())
        return make_error(EINVAL, "{}: only multiboot kernels take modules", name);
    switch (kind) {
    case KernelKind::linux_image:
        if (request.entry == KernelEntry::pvh)
            return make_error(ENOTSUP, "{}: a bzImage has no PVH entry; the vmlinux inside it may have one", name);
        return load_linux(memory, request);
    case KernelKind::elf:
        if (request.entry == KernelEntry::flat32 || request.entry == KernelEntry::long64)
            return make_error(ENOTSUP, "{}: an ELF kernel is entered by PVH, not by {}", name, to_string(request.entry));
        return load_pvh(memory, request);
    case KernelKind::multiboot:
        if (request.entry == KernelEntry::pvh)
            return load_pvh(memory, request);
        return make_error(ENOTSUP, "{}: a multiboot kernel is not entered by {}", name, to_string(request.entry));
    case KernelKind::unknown:
        break;
    }
    if (request.kernel.size() == 0)
        return make_error(ENOEXEC, "{}: the file is empty", name);
    return make_error(ENOEXEC, "{}: not a kernel: it is no Linux bzImage, ELF file or multiboot kernel ({} bytes)", name, request.kernel.size());
}

} // namespace anyhyve::boot
