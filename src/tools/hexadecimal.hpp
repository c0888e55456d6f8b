// Bytes as hexadecimal text, two digits each: how they travel in JSON.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::tools {

std::string to_hexadecimal(std::span<u8 const>);
Result<std::vector<u8>> from_hexadecimal(std::string_view);

} // namespace anyhyve::tools
