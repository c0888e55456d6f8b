// What every protocol hands to a kernel besides itself: the initrd and the command line.
#pragma once

#include <string>

#include "boot/image_source.hpp"

namespace anyhyve::boot {

struct Placement {
    u64 address = 0;
    u64 size = 0;
};

// Copies the file as high as it fits, page aligned, in RAM from `lowest` up to and including the byte at `last`. Nothing for a null file.
Result<Placement> place_initrd(GuestMemory&, ImageSource const*, u64 lowest, u64 last);

// Writes it, with its NUL, to the loader's place for it. `most` bytes are what the kernel takes, without the NUL.
Result<Placement> place_command_line(GuestMemory&, std::string const& command_line, u64 most);

} // namespace anyhyve::boot
