// VEX and EVEX prefixes, and the opcode byte behind them.
#pragma once

#include "x86/decoder.hpp"

namespace anyhyve::x86 {

namespace {

OpcodeTable const* Decoder::read_vex()
{
    auto& out = m_out;
    if (out.opcode == 0x62)
        return read_evex();
    if (out.opcode == 0xc4)
        return read_vex3();
    out.encoding = Encoding::vex;
    u8 const payload = *m_at++;
    out.rex = payload & 0x80 ? 0 : 0x04;
    out.vector_length = payload >> 2 & 1;
    take_vex(1, payload >> 3 & 15, payload & 3);
    return &table_vex_0f;
}

OpcodeTable const* Decoder::read_vex3()
{
    auto& out = m_out;
    out.encoding = Encoding::vex;
    u8 const first = m_at[0], second = m_at[1];
    m_at += 2;
    out.rex = static_cast<u8>(~first >> 5 & 7);
    out.vex_w = (second & 0x80) != 0;
    out.vector_length = second >> 2 & 1;
    take_vex(first & 31, second >> 3 & 15, second & 3);
    switch (first & 31) {
    case 1: return &table_vex_0f;
    case 2: return &table_vex_0f38;
    case 3: return &table_vex_0f3a;
    default: return nullptr;
    }
}

OpcodeTable const* Decoder::read_evex()
{
    auto& out = m_out;
    out.encoding = Encoding::evex;
    u8 const first = m_at[0], second = m_at[1], third = m_at[2];
    m_at += 3;
    out.rex = static_cast<u8>(~first >> 5 & 7);
    out.vex_w = (second & 0x80) != 0;
    out.vector_length = third >> 5 & 3;
    out.evex_b = (third & 0x10) != 0;
    out.evex_z = (third & 0x80) != 0;
    out.evex_aaa = third & 7;
    bool const reg_high = !(first & 0x10), vvvv_high = !(third & 8);
    m_malformed |= (first & 8) || !(second & 4) || (out.evex_z && out.evex_aaa == 0);
    take_vex(first & 7, second >> 3 & 15, second & 3);
    if (m_long) {
        out.reg = reg_high ? 16 : 0;
        out.vvvv |= vvvv_high ? 16 : 0;
    } else
        m_malformed |= vvvv_high;
    switch (first & 7) {
    case 1: return &table_evex_0f;
    case 2: return &table_evex_0f38;
    case 3: return &table_evex_0f3a;
    case 5: return &table_evex_map5;
    case 6: return &table_evex_map6;
    default: return nullptr;
    }
}

// The part that all three prefixes have: the opcode byte follows.
inline void Decoder::take_vex(u8 map, u8 inverted_vvvv, u8 pp)
{
    auto& out = m_out;
    constexpr OpcodeMap maps[] = { OpcodeMap::primary, OpcodeMap::map_0f, OpcodeMap::map_0f38, OpcodeMap::map_0f3a, OpcodeMap::primary, OpcodeMap::map_5, OpcodeMap::map_6, OpcodeMap::primary };
    out.map = maps[map & 7];
    out.vvvv = static_cast<u8>(~inverted_vvvv & 15);
    out.vex_pp = pp;
    // 66, F2, F3, LOCK and REX before it are #UD (SDM vol. 2A 2.3.2-2.3.4); the extension bits then live where REX's do.
    m_malformed |= out.operand_size_prefix || out.repeat != RepeatPrefix::none || out.lock;
    if (m_long)
        out.rex = static_cast<u8>(0x40 | out.rex | (out.vex_w ? 8 : 0));
    else
        out.rex = 0;
    out.opcode = *m_at++;
}

} // namespace

} // namespace anyhyve::x86
