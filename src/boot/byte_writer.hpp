// Appends little-endian numbers and text to a table under construction, and patches what is known only later.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "base/integer.hpp"

namespace anyhyve::boot {

class ByteWriter {
public:
    void number(u64 value, unsigned width)
    {
        for (unsigned i = 0; i < width; ++i)
            m_bytes.push_back(static_cast<u8>(value >> (8 * i)));
    }
    void put_u8(u64 value) { number(value, 1); }
    void put_u16(u64 value) { number(value, 2); }
    void put_u32(u64 value) { number(value, 4); }
    void put_u64(u64 value) { number(value, 8); }
    void zeros(std::size_t count) { m_bytes.insert(m_bytes.end(), count, u8 { 0 }); }
    void bytes(std::span<u8 const> from) { m_bytes.insert(m_bytes.end(), from.begin(), from.end()); }
    void text(std::string_view from) { m_bytes.insert(m_bytes.end(), from.begin(), from.end()); }
    // Exactly `width` bytes: cut, or filled up with `filler`.
    void text(std::string_view from, std::size_t width, char filler)
    {
        for (std::size_t i = 0; i < width; ++i)
            put_u8(static_cast<u8>(i < from.size() ? from[i] : filler));
    }

    std::size_t size() const { return m_bytes.size(); }
    void patch(std::size_t offset, u64 value, unsigned width)
    {
        ASSERT(offset <= m_bytes.size() && width <= m_bytes.size() - offset, "a patch lies within the table");
        for (unsigned i = 0; i < width; ++i)
            m_bytes[offset + i] = static_cast<u8>(value >> (8 * i));
    }
    // Makes the sum of `length` bytes from `start` zero by the byte at `offset`.
    void patch_checksum(std::size_t offset, std::size_t start, std::size_t length)
    {
        patch(offset, 0, 1);
        patch(offset, static_cast<u8>(-sum(std::span(m_bytes).subspan(start, length))), 1);
    }
    static u8 sum(std::span<u8 const> of)
    {
        u8 total = 0;
        for (u8 byte : of)
            total = static_cast<u8>(total + byte);
        return total;
    }

    std::vector<u8> const& view() const { return m_bytes; }
    std::vector<u8> take() { return std::move(m_bytes); }

private:
    std::vector<u8> m_bytes;
};

} // namespace anyhyve::boot
