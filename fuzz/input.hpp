// The bytes of a fuzz case, taken apart: values for constructors first, then records {operation, offset, width, value}.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/assert.hpp"
#include "base/integer.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve::fuzz {

// One thing that happens to a device.
struct Record {
    unsigned operation; // 0..63; a target takes it modulo the number of its operations
    u64 offset;         // 0..65535
    unsigned width;     // 1, 2, 4 or 8
    u64 value;          // with the bits above the width clear
};

class Input {
public:
    Input(std::uint8_t const* data, std::size_t size) : m_bytes(data, size) {}

    bool empty() const { return m_bytes.empty(); }
    // Little-endian; bytes beyond the end are 0.
    u64 number(unsigned width)
    {
        u64 value = 0;
        for (unsigned i = 0; i < width && !m_bytes.empty(); ++i) {
            value |= u64 { m_bytes.front() } << 8 * i;
            m_bytes = m_bytes.subspan(1);
        }
        return value;
    }
    u8 byte() { return static_cast<u8>(number(1)); }
    // A byte of operation (bits 7:2) and width (bits 1:0), two bytes of offset, as many of value as the width says.
    std::optional<Record> record()
    {
        if (empty())
            return {};
        u8 const first = byte();
        u64 const offset = number(2);
        unsigned const width = 1U << (first & 3);
        return Record { unsigned { first } >> 2, offset, width, number(width) };
    }
    std::span<u8 const> rest() const { return m_bytes; }
    std::span<u8 const> take(std::size_t most)
    {
        auto const taken = m_bytes.first(std::min(most, m_bytes.size()));
        m_bytes = m_bytes.subspan(taken.size());
        return taken;
    }

private:
    std::span<u8 const> m_bytes;
};

inline std::vector<u8> saved(Persistent const& part)
{
    Encoder encoder;
    part.save(encoder);
    return encoder.bytes();
}

// Whatever a guest did to a part: its state can be saved and restored.
inline void check_restore(Persistent& part)
{
    auto const bytes = saved(part);
    Decoder decoder(bytes);
    ASSERT(part.restore(decoder, part.state_version()).ok() && decoder.at_end(), "a saved state is restored");
}

// And saving it again gives the same.
inline void check_round_trip(Persistent& part)
{
    auto const before = saved(part);
    check_restore(part);
    ASSERT(saved(part) == before, "a restored state is the one that was saved");
}

// Bits above the width of what a register reads as are clear.
inline void check_width(u64 value, unsigned width)
{
    ASSERT(width == 8 || value >> 8 * width == 0, "a register reads no wider than asked");
}

// Inputs to begin with, for targets whose inputs have a form that random bytes seldom meet. replay_main.cpp has an empty one.
std::vector<std::vector<u8>> seeds();

} // namespace anyhyve::fuzz
