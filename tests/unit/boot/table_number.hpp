// Numbers in the tables that the boot layer makes.
#pragma once

#include <vector>

#include "base/integer.hpp"

namespace anyhyve::boot {

// The little-endian number of `width` bytes at `offset`; throws where they are not.
inline u64 number(std::vector<u8> const& bytes, std::size_t offset, unsigned width)
{
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i)
        value |= u64 { bytes.at(offset + i) } << (8 * i);
    return value;
}

} // namespace anyhyve::boot
