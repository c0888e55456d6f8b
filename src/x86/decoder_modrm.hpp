// ModRM, SIB and displacement: the registers and the address that they name.
#pragma once

#include "x86/decoder.hpp"

namespace anyhyve::x86 {

namespace {

inline void Decoder::read_modrm()
{
    auto& out = m_out;
    u8 const modrm = *m_at;
    out.has_modrm = true;
    out.modrm_offset = static_cast<u8>(length());
    ++m_at;
    out.modrm = modrm;
    out.mod = modrm >> 6;
    out.reg = static_cast<u8>(out.reg | (modrm >> 3 & 7) | (out.rex & 4) << 1);
    out.rm = static_cast<u8>((modrm & 7) | (out.rex & 1) << 3);
    // MOV to and from control and debug registers takes mod for 3, whatever it says.
    if (out.map == OpcodeMap::map_0f && out.encoding == Encoding::legacy && (out.opcode & 0xfc) == 0x20)
        out.mod = 3;
    if (out.mod == 3) {
        if (out.encoding == Encoding::evex && m_long)
            out.rm = static_cast<u8>(out.rm | (out.rex & 2) << 3); // EVEX.X is the fifth bit of a vector register
        return;
    }
    out.has_memory = true;
    if (out.address_size == 2)
        read_address16();
    else
        read_address();
}

inline void Decoder::read_address()
{
    auto& out = m_out;
    u8 const rm = out.modrm & 7;
    out.base = out.rm;
    if (rm == 4) {
        u8 const sib = *m_at++;
        out.has_sib = true;
        u8 const index = static_cast<u8>((sib >> 3 & 7) | (out.rex & 2) << 2);
        out.index = index == 4 ? no_register : index;
        out.scale = static_cast<u8>(1u << (sib >> 6));
        out.base = static_cast<u8>((sib & 7) | (out.rex & 1) << 3);
    }
    if (out.mod == 1) {
        out.displacement = static_cast<i8>(*m_at++);
        m_disp8 = true;
    } else if (out.mod == 2) {
        out.displacement = load<i32>(m_at);
        m_at += 4;
    } else if ((out.base & 7) == 5) {
        out.displacement = load<i32>(m_at);
        m_at += 4;
        out.rip_relative = m_long && rm == 5;
        out.base = no_register;
    }
}

void Decoder::read_address16()
{
    // SDM vol. 2A table 2-1: BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP, BX.
    constexpr u8 bases[] = { 3, 3, 5, 5, 6, 7, 5, 3 };
    constexpr u8 indexes[] = { 6, 7, 6, 7, no_register, no_register, no_register, no_register };
    auto& out = m_out;
    u8 const rm = out.modrm & 7;
    out.base = bases[rm];
    out.index = indexes[rm];
    out.scale = 1;
    if (out.mod == 1) {
        out.displacement = static_cast<i8>(*m_at++);
        m_disp8 = true;
    } else if (out.mod == 2 || rm == 6) {
        if (out.mod == 0)
            out.base = no_register;
        out.displacement = load<i16>(m_at);
        m_at += 2;
    }
}

// An index register, or none, of a VSIB operand: it cannot be absent, and EVEX.V' is its fifth bit.
bool Decoder::fix_vsib()
{
    auto& out = m_out;
    if (!out.has_memory || !out.has_sib)
        return false;
    if (out.index == no_register)
        out.index = 4;
    if (out.encoding == Encoding::evex && m_long) {
        out.index = static_cast<u8>(out.index | (out.vvvv & 16));
        out.vvvv &= 15;
    }
    return true;
}

// An EVEX displacement of one byte counts in units of the memory operand, or of what the table says (SDM vol. 2A 2.7.5).
inline void Decoder::scale_displacement(OpcodeInfo const& info)
{
    unsigned const scale = info.displacement_scale ? info.displacement_scale : m_out.memory_size;
    m_out.displacement *= static_cast<i64>(scale ? scale : 1);
}

inline void Decoder::set_segment()
{
    auto& out = m_out;
    if (out.segment_override != Segment::none)
        out.segment = out.segment_override;
    else
        out.segment = out.has_memory && (out.base == 4 || out.base == 5) ? Segment::ss : Segment::ds;
}

// Bits that extend a register number are ignored where there are not so many registers. (The check that an unused vvvv is 1111 looks at
// all of them.)
inline void Decoder::trim_register_numbers(OpcodeInfo const& info)
{
    auto& out = m_out;
    auto const has_eight = [](FieldKind kind) { return kind == FieldKind::mmx || kind == FieldKind::mask || kind == FieldKind::segment || kind == FieldKind::opcode_extension; };
    if (has_eight(info.reg_kind))
        out.reg &= 7;
    if (has_eight(info.rm_kind))
        out.rm &= 7;
    else if (info.rm_kind != FieldKind::vector)
        out.rm &= 15;
    if (!m_long)
        out.vvvv &= 7;
}

} // namespace

} // namespace anyhyve::x86
