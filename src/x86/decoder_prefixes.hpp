// Legacy prefixes, REX and the opcode byte: which map of opcodes the instruction is from.
#pragma once

#include "x86/decoder.hpp"

namespace anyhyve::x86 {

namespace {

// What a prefix byte is, in legacy encodings.
enum PrefixByte : u8 { not_prefix, operand_size, address_size, lock, repne, rep, segment_es, segment_cs, segment_ss, segment_ds, segment_fs, segment_gs, rex_byte };

constexpr auto prefix_bytes = [] {
    std::array<u8, 256> table {};
    table[0x66] = operand_size, table[0x67] = address_size, table[0xf0] = PrefixByte::lock, table[0xf2] = repne, table[0xf3] = PrefixByte::rep;
    table[0x26] = segment_es, table[0x2e] = segment_cs, table[0x36] = segment_ss, table[0x3e] = segment_ds, table[0x64] = segment_fs, table[0x65] = segment_gs;
    for (unsigned byte = 0x40; byte < 0x50; ++byte)
        table[byte] = rex_byte;
    return table;
}();

// False when there are only prefixes, 15 of them or more.
inline bool Decoder::read_prefixes()
{
    auto& out = m_out;
    if (m_long && (*m_at & 0xf0) == 0x40 && prefix_bytes[m_at[1]] == not_prefix) { // by far the most frequent
        out.rex = *m_at++;
        return true;
    }
    for (;;) {
        auto const byte = *m_at;
        auto const kind = prefix_bytes[byte];
        if (kind == not_prefix)
            return true;
        if (kind == rex_byte) {
            if (!m_long)
                return true;
            out.rex = byte;
        } else {
            out.rex = 0; // counts only directly before the opcode
            switch (kind) {
            case operand_size: out.operand_size_prefix = true; break;
            case address_size: out.address_size_prefix = true; break;
            case PrefixByte::lock: out.lock = true; break;
            case repne: out.repeat = RepeatPrefix::repne; break;
            case PrefixByte::rep: out.repeat = RepeatPrefix::rep; break;
            default:
                if (!m_long || kind >= segment_fs)
                    out.segment_override = static_cast<Segment>(kind - segment_es);
            }
        }
        if (++m_at - m_code >= longest_instruction)
            return false;
    }
}

inline OpcodeTable const* Decoder::read_opcode()
{
    auto& out = m_out;
    out.opcode = *m_at++;
    if (out.opcode == 0x0f) {
        out.opcode = *m_at++;
        out.map = OpcodeMap::map_0f;
        if (out.opcode == 0x38 || out.opcode == 0x3a) {
            bool const is_38 = out.opcode == 0x38;
            out.opcode = *m_at++;
            out.map = is_38 ? OpcodeMap::map_0f38 : OpcodeMap::map_0f3a;
            return is_38 ? &table_0f38 : &table_0f3a;
        }
        return &table_0f;
    }
    if ((out.opcode & 0xf8) == 0xd8)
        return &table_x87;
    // In 16- and 32-bit code, LES, LDS and BOUND have these opcodes, and never a register operand. In 64-bit code they are undefined, but CPUs
    // still fetch them, with their ModRM byte, behind a REX prefix.
    if ((out.opcode == 0xc4 || out.opcode == 0xc5 || out.opcode == 0x62) && (m_long ? out.rex == 0 : *m_at >= 0xc0))
        return read_vex();
    return &table_primary;
}

} // namespace

} // namespace anyhyve::x86
