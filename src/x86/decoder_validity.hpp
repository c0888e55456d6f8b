// Whether an encoding is one that the instruction of its opcode has; else it is #UD.
#pragma once

#include "x86/decoder.hpp"

namespace anyhyve::x86 {

namespace {

bool Decoder::is_valid_evex(OpcodeInfo const& info) const
{
    auto const& out = m_out;
    bool const memory = out.mod != 3;
    if (out.evex_aaa != 0 && !(info.evex_options & evex_mask))
        return false;
    if (out.evex_z && (!(info.evex_options & evex_zero) || (memory && info.memory != MemoryAccess::read)))
        return false;
    if (info.vsib && (out.evex_aaa == 0 || (info.memory == MemoryAccess::read && out.reg == out.index)))
        return false;
    if (info.distinct_destination && (out.reg == out.vvvv || (!memory && out.reg == out.rm)))
        return false;
    if (out.evex_b) {
        bool const broadcast = info.width >= MemoryWidth::broadcast32 && info.width <= MemoryWidth::broadcast16_quarter;
        return memory ? broadcast && out.vector_length < 3 : (info.evex_options & evex_sae) != 0;
    }
    return out.vector_length < 3;
}

bool Decoder::is_valid_vex(OpcodeInfo const& info) const
{
    auto const& out = m_out;
    if (m_malformed || (info.vvvv_kind == FieldKind::none && out.vvvv != 0))
        return false;
    u8 const vvvv = m_long ? out.vvvv : out.vvvv & 7;
    if ((info.vvvv_kind == FieldKind::mask && vvvv > 7) || (info.vvvv_kind == FieldKind::gpr && vvvv > 15))
        return false;
    if ((info.reg_kind == FieldKind::mask && out.reg > 7) || (info.reg_kind == FieldKind::gpr && out.reg > 15))
        return false;
    if (info.vsib && out.encoding == Encoding::vex && (out.reg == out.index || out.reg == vvvv || out.index == vvvv))
        return false; // gathers: destination, index and mask must differ
    return out.encoding == Encoding::vex || is_valid_evex(info);
}

// Whether the encoding is one that the row's instruction has; operands are known.
inline bool Decoder::is_valid(OpcodeInfo const& info) const
{
    auto const& out = m_out;
    if (out.lock && !(info.lockable && out.has_memory))
        return false;
    if (out.encoding != Encoding::legacy)
        return is_valid_vex(info);
    switch (info.reg_kind) {
    case FieldKind::segment: {
        auto const number = out.modrm >> 3 & 7;
        return number <= 5 && !(info.operation == Operation::move_to_segment && number == 1);
    }
    case FieldKind::control: return out.reg <= 8 && (0x11du >> out.reg & 1);
    case FieldKind::debug: return out.reg <= 7;
    default: return true;
    }
}

} // namespace

} // namespace anyhyve::x86
