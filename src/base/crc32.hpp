// CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320, as zlib, gzip and GPT use it). Threads: any.
#pragma once

#include <span>

#include "base/integer.hpp"

namespace anyhyve {

// The CRC of `bytes`; `previous` is the CRC of what came before them (0: nothing), so that parts may be fed one by one.
u32 crc32(std::span<u8 const> bytes, u32 previous = 0);

} // namespace anyhyve
