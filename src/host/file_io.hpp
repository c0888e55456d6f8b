// Reading and writing whole files through interruptions and short counts. Threads: any.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::host {

// From the present position to the end; EFBIG when that is more than `most` bytes. `object` names the file in messages.
Result<std::vector<u8>> read_to_end(int file, u64 most, std::string const& object);
Result<void> write_all(int file, std::span<u8 const> bytes, std::string const& object);

// A text's bytes.
inline std::span<u8 const> as_bytes(std::string_view text)
{
    // SAFETY: u8 may look at any object's bytes.
    return { reinterpret_cast<u8 const*>(text.data()), text.size() };
}

} // namespace anyhyve::host
