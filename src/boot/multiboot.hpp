// Kernels with a Multiboot 1 header: ELF files of 32 or 64 bits, or flat images whose header says where they go.
// Spec: Multiboot Specification 0.6.96. Missing: a video mode, which header flag 2 asks for; symbols and APM in the information.
#pragma once

#include "boot/kernel.hpp"

namespace anyhyve::boot {

// Is there a header, with its checksum right, in the first 8192 bytes (3.1)?
Result<bool> is_multiboot_image(ImageSource const&);

// The entry is automatic or multiboot. The initrd, when there is one, is the first module.
Result<LoadedGuest> load_multiboot(GuestMemory&, KernelRequest const&);

} // namespace anyhyve::boot
