// Small operations on bit patterns and alignments.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

constexpr u64 bit(unsigned n)
{
    return u64 { 1 } << n;
}

// Bits high..low of value, shifted down.
constexpr u64 bits(u64 value, unsigned high, unsigned low)
{
    unsigned const width = high - low + 1;
    u64 const mask = width >= 64 ? ~u64 { 0 } : bit(width) - 1;
    return (value >> low) & mask;
}

constexpr u64 mask_of_bytes(unsigned width)
{
    return width >= 8 ? ~u64 { 0 } : bit(width * 8) - 1;
}

constexpr u64 align_down(u64 value, u64 alignment)
{
    return value & ~(alignment - 1);
}

constexpr u64 align_up(u64 value, u64 alignment)
{
    return align_down(value + alignment - 1, alignment);
}

constexpr bool is_aligned(u64 value, u64 alignment)
{
    return (value & (alignment - 1)) == 0;
}

// The low `width_bits` bits of value as a signed number.
constexpr i64 sign_extend(u64 value, unsigned width_bits)
{
    return static_cast<i64>(value << (64 - width_bits)) >> (64 - width_bits);
}

} // namespace anyhyve
