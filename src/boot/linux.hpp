// Linux kernel images (bzImage, and what else follows the Linux boot protocol): the 32-bit and the 64-bit entry.
// Spec: Linux Documentation/arch/x86/boot.rst, protocols 2.06 to 2.15.
#pragma once

#include "boot/kernel.hpp"

namespace anyhyve::boot {

// Has the file the magic numbers of a setup header?
Result<bool> is_linux_image(ImageSource const&);

// The entry is automatic, flat32 or long64.
Result<LoadedGuest> load_linux(GuestMemory&, KernelRequest const&);

} // namespace anyhyve::boot
