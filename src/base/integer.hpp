// Short names for the fixed-width integers, and integers that cannot be mixed up.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace anyhyve {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
__extension__ typedef unsigned __int128 u128; // products of two u64

constexpr u64 KiB = 1024;
constexpr u64 MiB = 1024 * KiB;
constexpr u64 GiB = 1024 * MiB;

// A 64-bit number with a meaning of its own: two of different tags never convert into each other,
// and nothing converts into one by itself.
template<typename Tag>
class StrongInteger {
public:
    constexpr StrongInteger() = default;
    constexpr explicit StrongInteger(u64 value) : m_value(value) {}
    constexpr u64 value() const { return m_value; }
    constexpr auto operator<=>(StrongInteger const&) const = default;
    constexpr StrongInteger operator+(u64 offset) const { return StrongInteger(m_value + offset); }
    constexpr u64 operator-(StrongInteger other) const { return m_value - other.m_value; }

private:
    u64 m_value = 0;
};

} // namespace anyhyve
