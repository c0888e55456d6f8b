// Bytes as hexadecimal text.
#include "tools/hexadecimal.hpp"

namespace anyhyve::tools {

static constexpr std::string_view s_digits = "0123456789abcdef";

std::string to_hexadecimal(std::span<u8 const> bytes)
{
    std::string text;
    text.reserve(bytes.size() * 2);
    for (u8 const byte : bytes) {
        text += s_digits[byte >> 4];
        text += s_digits[byte & 15];
    }
    return text;
}

Result<std::vector<u8>> from_hexadecimal(std::string_view text)
{
    std::vector<u8> bytes;
    if (text.size() % 2 != 0)
        return Error("hexadecimal bytes have two digits each", EINVAL);
    bytes.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        auto const high = s_digits.find(text[i]);
        auto const low = s_digits.find(text[i + 1]);
        if (high == std::string_view::npos || low == std::string_view::npos)
            return Error("not a hexadecimal digit", EINVAL);
        bytes.push_back(static_cast<u8>(high << 4 | low));
    }
    return bytes;
}

} // namespace anyhyve::tools
