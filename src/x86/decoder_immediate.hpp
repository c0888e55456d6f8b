// The operand size, and the immediates, which it measures.
#pragma once

#include "x86/decoder.hpp"

#include <bit>
#include <iterator>

namespace anyhyve::x86 {

namespace {

// Effective operand size, by rule, then by the size that mode, 66 and REX.W ask for (2, 4, 8), outside of and in 64-bit mode.
constexpr u8 operand_sizes[7][3][2] = {
    { { 2, 2 }, { 4, 4 }, { 8, 8 } }, // normal
    { { 1, 1 }, { 1, 1 }, { 1, 1 } }, // byte
    { { 2, 2 }, { 4, 8 }, { 8, 8 } }, // default64
    { { 2, 8 }, { 4, 8 }, { 8, 8 } }, // force64
    { { 4, 4 }, { 4, 4 }, { 8, 8 } }, // double_or_quad
    { { 4, 8 }, { 4, 8 }, { 8, 8 } }, // mode
    { { 2, 2 }, { 4, 4 }, { 4, 4 } }, // input_output
};

inline void Decoder::set_operand_size(OpcodeInfo const& info)
{
    m_out.operand_size = operand_sizes[static_cast<unsigned>(info.size_rule)][m_normal_size >> 2][m_long];
}

// Bytes of an immediate of one part, by kind, then by operand size 1, 2, 4, 8; and whether it is sign-extended.
struct ImmediateSize {
    u8 bytes[4];
    bool is_signed;
};

constexpr ImmediateSize immediate_sizes[] = {
    { { 0, 0, 0, 0 }, false }, // none
    { { 1, 1, 1, 1 }, false }, // byte
    { { 1, 1, 1, 1 }, true },  // signed_byte
    { { 2, 2, 2, 2 }, false }, // word
    { { 1, 2, 4, 4 }, true },  // operand
    { { 1, 2, 4, 8 }, true },  // operand_full
    { { 1, 1, 1, 1 }, true },  // relative_byte
    { { 1, 2, 4, 4 }, true },  // relative
};
static_assert(std::size(immediate_sizes) == static_cast<unsigned>(Immediate::far_pointer));

inline void Decoder::read_immediate(Immediate kind)
{
    auto& out = m_out;
    if (kind == Immediate::none)
        return;
    if (kind >= Immediate::far_pointer)
        return read_rare_immediate(kind);
    auto const& entry = immediate_sizes[static_cast<unsigned>(kind)];
    unsigned const size = entry.bytes[std::countr_zero(out.operand_size)];
    unsigned const shift = 64 - 8 * size;
    u64 const raised = load<u64>(m_at) << shift;
    out.immediate = entry.is_signed ? static_cast<u64>(static_cast<i64>(raised) >> shift) : raised >> shift;
    out.immediate_offset = static_cast<u8>(length());
    out.immediate_size = static_cast<u8>(size);
    m_at += size;
}

void Decoder::read_rare_immediate(Immediate kind)
{
    auto& out = m_out;
    auto const take = [&](unsigned size) {
        u64 const value = size == 0 ? 0 : load<u64>(m_at) << (64 - 8 * size) >> (64 - 8 * size);
        m_at += size;
        return value;
    };
    auto const* const start = m_at;
    switch (kind) {
    case Immediate::memory_offset:
        out.displacement = static_cast<i64>(take(out.address_size));
        out.has_memory = true;
        return;
    case Immediate::far_pointer:
        out.immediate = take(out.operand_size);
        out.immediate2 = static_cast<u16>(take(2));
        break;
    case Immediate::word_byte:
        out.immediate = take(2);
        out.immediate2 = static_cast<u16>(take(1));
        break;
    default: // byte_byte
        out.immediate = take(1);
        out.immediate2 = static_cast<u16>(take(1));
        break;
    }
    out.immediate_offset = static_cast<u8>(start - m_code);
    out.immediate_size = static_cast<u8>(m_at - start);
}

} // namespace

} // namespace anyhyve::x86
