// The notation of the opcode table: a row is written as text close to the SDM's and becomes an OpcodeInfo at compile time.
//
//   { "58 66 /r", "addpd", "+Vx Wx", F::sse2 }
//
// Key: opcode in hex, "+r" when its low three bits name a register, then what else selects the row, in any order:
//   np 66 f3 f2   mandatory prefix (np: none of them); nf: neither F3 nor F2. Without one, prefixes do not select.
//   /r  /0../7    there is a ModRM byte; its reg field is this.    rm0..rm7: its rm field is this.
//   mem reg       mod selects memory / a register.                 w0 w1: REX.W, VEX.W, EVEX.W.
//   l0 l1 l2      vector length 128, 256, 512; l12: not 128.       64 not64: only in / not in 64-bit mode.
//   o16           the operand size is 16 bits.                     nob: REX.B is clear.
//   Rows of one opcode are tried in their order; the first that fits holds.
//
// Operands, each with its use before it (nothing: read, = written, + both, & address taken only) and its width after it:
//   G general register of ModRM.reg     E general register or memory of ModRM.rm    R / M: only the register / only memory
//   B general register of vvvv          Z register in the opcode's low bits         S C D segment, control, debug register
//   V vector register of ModRM.reg      W vector register or memory    U only the register    H vector of vvvv    L vector of imm8[7:4]
//   P MMX register of ModRM.reg         Q MMX register or memory       N only the register
//   K mask register of ModRM.reg        Y mask register or memory      T mask register of vvvv
//   I immediate (b s w z v)  J relative (b z)  A far pointer  O memory offset
//   Widths: b w d q t dq qq zz = 1 2 4 8 10 16 32 64 bytes; v operand size; y 4, or 8 with W; x h f e the vector, half, a fourth, an
//   eighth of it; xd xq xw EVEX vector or broadcast of 4, 8, 2 bytes; hd hw fw the same for half and fourth vectors; a two operands;
//   p far pointer; s descriptor-table register; m none or special.
//
// Notes: lock; r: w: m: flags read, written, maybe written (of oszapc); read: write: implicit registers; d64 f64 mode byte io normal: operand size;
//   aligned / unaligned; vsib; sae er nomask nozero; n1..n16 disp8 scale; 256:feature for wider vectors; count; distinct; unit:name.
#pragma once

#include "x86/instruction.hpp"

#include <array>
#include <cstddef>
#include <string_view>

namespace anyhyve::x86 {

// Bits of the number that rows are selected by: what the decoder knows once ModRM has been read.
namespace selector {
constexpr unsigned prefix_shift = 0, mod_shift = 2, reg_shift = 3, rm_shift = 6, w_shift = 9, length_shift = 10, long_shift = 12,
                   operand16_shift = 13, rex_b_shift = 14;
constexpr u32 prefix_mask = 3u << prefix_shift, prefix_repeat = 2u << prefix_shift, mod_mask = 1u << mod_shift, reg_mask = 7u << reg_shift,
              rm_mask = 7u << rm_shift, w_mask = 1u << w_shift, length_mask = 3u << length_shift, long_mask = 1u << long_shift,
              operand16_mask = 1u << operand16_shift, rex_b_mask = 1u << rex_b_shift;
// Values of the prefix field.
constexpr u32 prefix_none = 0, prefix_66 = 1, prefix_f3 = 2, prefix_f2 = 3;
} // namespace selector

// A row holds when (selector & mask) == value.
struct RowKey {
    u32 mask = 0;
    u32 value = 0;

    constexpr void require(u32 field, u32 bits)
    {
        mask |= field;
        value = (value & ~field) | bits;
    }
};

struct Row {
    RowKey key {};
    u8 opcode = 0;
    bool modrm = false;
    bool longer_vectors_only = false; // l12
    bool length_selected = false;
    bool aligned = false;
    bool unaligned = false;
    bool partial_write = false;       // a 16-bit operand would leave the rest of a written register as it is
    Feature wide_feature = Feature::base; // for vectors beyond 128 bits, when not base
    OpcodeInfo info {};

    consteval Row(char const* selection, char const* name, char const* operands, Feature feature, char const* notes = "")
        : Row(selection, name, operands, feature, Operation::copy, notes)
    {
    }
    consteval Row(char const* selection, char const* name, char const* operands, Operation operation, char const* notes = "")
        : Row(selection, name, operands, Feature::base, operation, notes)
    {
    }
    consteval Row(char const* selection, char const* name, char const* operands, Feature feature, Operation operation, char const* notes)
    {
        info.name = name;
        info.operation = operation;
        info.feature = feature;
        bool first = true;
        each_word(selection, [&](std::string_view word) {
            if (first)
                read_opcode(word);
            else
                read_selection(word);
            first = false;
        });
        each_word(operands, [&](std::string_view word) { read_operand(word); });
        each_word(notes, [&](std::string_view word) { read_note(word); });
        if (info.mandatory_66 && info.size_rule == OperandSize::normal)
            info.size_rule = OperandSize::double_or_quad;
    }
    constexpr Row() = default;

private:
    template<typename Function>
    static constexpr void each_word(std::string_view text, Function function)
    {
        while (!text.empty()) {
            auto const end = text.find(' ');
            if (end != 0)
                function(text.substr(0, end));
            text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
        }
    }

    constexpr void read_opcode(std::string_view word);
    constexpr void read_selection(std::string_view word);
    constexpr void read_operand(std::string_view word);
    constexpr void read_note(std::string_view word);
    constexpr void read_immediate(std::string_view word);
    constexpr void read_size(std::string_view width);
    constexpr void set_memory(char use, std::string_view width);
    constexpr void set_field(FieldKind& kind_field, FieldUse& use_field, FieldKind kind, char use, std::string_view width);
    constexpr void use_unit(Unit unit);
};

constexpr u8 hex_digit(char c) { return static_cast<u8>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10); }

constexpr void Row::read_opcode(std::string_view word)
{
    opcode = static_cast<u8>(hex_digit(word[0]) << 4 | hex_digit(word[1]));
    if (word.substr(2) == "+r")
        info.opcode_register = true;
    else if (word.size() != 2)
        throw "bad opcode in a row's key";
}

constexpr void Row::read_selection(std::string_view word)
{
    namespace s = selector;
    auto const number = [](char c) { return static_cast<u32>(c - '0'); };
    if (word == "np")
        key.require(s::prefix_mask, s::prefix_none);
    else if (word == "66") {
        key.require(s::prefix_mask, s::prefix_66);
        info.mandatory_66 = true;
    } else if (word == "f3")
        key.require(s::prefix_mask, s::prefix_f3);
    else if (word == "f2")
        key.require(s::prefix_mask, s::prefix_f2);
    else if (word == "nf")
        key.require(s::prefix_repeat, 0);
    else if (word == "/r")
        modrm = true;
    else if (word[0] == '/') {
        modrm = true;
        key.require(s::reg_mask, number(word[1]) << s::reg_shift);
        info.reg_kind = FieldKind::opcode_extension;
    } else if (word.starts_with("rm"))
        key.require(s::rm_mask, number(word[2]) << s::rm_shift);
    else if (word == "mem")
        key.require(s::mod_mask, 0);
    else if (word == "reg")
        key.require(s::mod_mask, s::mod_mask);
    else if (word == "w0" || word == "w1")
        key.require(s::w_mask, number(word[1]) << s::w_shift);
    else if (word == "l12") {
        longer_vectors_only = true;
    } else if (word[0] == 'l' && word.size() == 2) {
        key.require(s::length_mask, number(word[1]) << s::length_shift);
        length_selected = true;
    } else if (word == "64")
        key.require(s::long_mask, s::long_mask);
    else if (word == "not64")
        key.require(s::long_mask, 0);
    else if (word == "o16")
        key.require(s::operand16_mask, s::operand16_mask);
    else if (word == "nob")
        key.require(s::rex_b_mask, 0);
    else
        throw "unknown word in a row's key";
}

constexpr MemoryWidth parse_width(std::string_view width)
{
    using W = MemoryWidth;
    struct Name {
        std::string_view text;
        MemoryWidth width;
    };
    constexpr Name names[] = {
        { "b", W::b1 }, { "w", W::b2 }, { "d", W::b4 }, { "q", W::b8 }, { "t", W::b10 }, { "dq", W::b16 }, { "qq", W::b32 }, { "zz", W::b64 },
        { "v", W::operand }, { "y", W::operand }, { "x", W::vector }, { "h", W::vector_half }, { "f", W::vector_quarter },
        { "e", W::vector_eighth }, { "xd", W::broadcast32 }, { "xq", W::broadcast64 }, { "xw", W::broadcast16 }, { "hd", W::broadcast32_half },
        { "hw", W::broadcast16_half }, { "fw", W::broadcast16_quarter }, { "a", W::operand_pair }, { "p", W::far_pointer },
        { "s", W::pseudo_descriptor }, { "m", W::none }, { "env", W::x87_environment }, { "state", W::x87_state }, { "fx", W::fx_state },
        { "xs", W::xsave_state },
    };
    for (auto const& name : names)
        if (name.text == width)
            return name.width;
    throw "unknown operand width in a row";
}

constexpr void Row::set_memory(char use, std::string_view width)
{
    info.memory = use == '=' ? MemoryAccess::write : use == '+' ? MemoryAccess::read_write : use == '&' ? MemoryAccess::address_only : MemoryAccess::read;
    info.width = parse_width(width);
}

constexpr void Row::read_size(std::string_view width)
{
    if (width == "b" && info.size_rule == OperandSize::normal && info.reg_kind != FieldKind::gpr) {
        info.size_rule = OperandSize::byte;
        info.byte_operand = true;
    } else if (width == "y" || width == "q" || width == "d") {
        if (info.size_rule == OperandSize::normal && info.reg_kind != FieldKind::gpr)
            info.size_rule = OperandSize::double_or_quad;
    }
}

constexpr void Row::set_field(FieldKind& kind_field, FieldUse& use_field, FieldKind kind, char use, std::string_view width)
{
    if (kind == FieldKind::gpr && width == "b")
        kind = FieldKind::gpr8;
    kind_field = kind;
    use_field = use == '=' ? use_write : use == '+' ? use_read_write : use == '&' ? use_none : use_read;
    if (use_field == use_write && (kind == FieldKind::gpr8 || (kind == FieldKind::gpr && width == "w")))
        use_field = use_read_write; // the rest of the register stays
    if (use_field == use_write && kind == FieldKind::gpr && width == "v")
        partial_write = true;
}

constexpr void Row::use_unit(Unit unit)
{
    if (info.unit == Unit::integer || unit == Unit::mmx)
        info.unit = unit;
}

constexpr void Row::read_immediate(std::string_view word)
{
    using I = Immediate;
    auto const first = info.immediate;
    if (word == "Ib")
        info.immediate = first == I::word ? I::word_byte : first == I::byte ? I::byte_byte : I::byte;
    else if (word == "Is")
        info.immediate = I::signed_byte;
    else if (word == "Iw")
        info.immediate = I::word;
    else if (word == "Iz")
        info.immediate = I::operand;
    else if (word == "Iv")
        info.immediate = I::operand_full;
    else if (word == "Jb")
        info.immediate = I::relative_byte;
    else if (word == "Jz")
        info.immediate = I::relative;
    else if (word == "Ap")
        info.immediate = I::far_pointer;
    else
        throw "unknown immediate in a row";
}

constexpr void Row::read_operand(std::string_view word)
{
    char use = ' ';
    if (word[0] == '=' || word[0] == '+' || word[0] == '&') {
        use = word[0];
        word = word.substr(1);
    }
    auto const letter = word[0];
    auto const width = word.substr(1);
    auto const in_reg = [&](FieldKind kind) { modrm = true, set_field(info.reg_kind, info.reg_use, kind, use, width); };
    auto const in_rm = [&](FieldKind kind) { modrm = true, set_field(info.rm_kind, info.rm_use, kind, use, width); };
    auto const in_vvvv = [&](FieldKind kind) { set_field(info.vvvv_kind, info.vvvv_use, kind, use, width); };
    switch (letter) {
    case 'G': read_size(width), in_reg(FieldKind::gpr); break;
    case 'E': read_size(width), in_rm(FieldKind::gpr), set_memory(use, width); break;
    case 'R': read_size(width), in_rm(FieldKind::gpr), key.require(selector::mod_mask, selector::mod_mask); break;
    case 'M': modrm = true, set_memory(use, width), key.require(selector::mod_mask, 0);
        if (width == "y" || width == "b")
            read_size(width);
        break;
    case 'B': in_vvvv(FieldKind::gpr); break;
    case 'Z': read_size(width), set_field(info.rm_kind, info.rm_use, FieldKind::gpr, use, width); break;
    case 'S': in_reg(FieldKind::segment); break;
    case 'C': in_reg(FieldKind::control); break;
    case 'D': in_reg(FieldKind::debug); break;
    case 'V': in_reg(FieldKind::vector), use_unit(Unit::sse); break;
    case 'W': in_rm(FieldKind::vector), set_memory(use, width), use_unit(Unit::sse); break;
    case 'U': in_rm(FieldKind::vector), key.require(selector::mod_mask, selector::mod_mask), use_unit(Unit::sse); break;
    case 'H': in_vvvv(FieldKind::vector); break;
    case 'L': info.immediate = Immediate::byte; break;
    case 'P': in_reg(FieldKind::mmx), use_unit(Unit::mmx); break;
    case 'Q': in_rm(FieldKind::mmx), set_memory(use, width), use_unit(Unit::mmx); break;
    case 'N': in_rm(FieldKind::mmx), key.require(selector::mod_mask, selector::mod_mask), use_unit(Unit::mmx); break;
    case 'K': in_reg(FieldKind::mask), use_unit(Unit::avx512); break;
    case 'Y': in_rm(FieldKind::mask), use_unit(Unit::avx512);
        if (!width.empty())
            set_memory(use, width);
        else
            key.require(selector::mod_mask, selector::mod_mask);
        break;
    case 'T': in_vvvv(FieldKind::mask); break;
    case 'O': set_memory(use, width), info.immediate = Immediate::memory_offset;
        if (width == "b")
            read_size(width);
        break;
    case 'I':
    case 'J':
    case 'A': read_immediate(word); break;
    default: throw "unknown operand in a row";
    }
}

constexpr u16 parse_flags(std::string_view letters)
{
    u16 flags = 0;
    for (char c : letters)
        flags |= c == 'o' ? flag_of : c == 's' ? flag_sf : c == 'z' ? flag_zf : c == 'a' ? flag_af : c == 'p' ? flag_pf : c == 'c' ? flag_cf : throw "unknown flag";
    return flags;
}

// "ax,dx": general registers by their 16-bit names, those from R8 on by their numbers.
constexpr u16 parse_registers(std::string_view names)
{
    constexpr std::string_view order[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "08", "09", "10", "11", "12", "13", "14", "15" };
    u16 registers = 0;
    for (std::size_t at = 0; at < names.size(); at += 3)
        for (unsigned n = 0; n < 16; ++n)
            if (names.substr(at, 2) == order[n])
                registers |= static_cast<u16>(1u << n);
    if (registers == 0)
        throw "unknown implicit register in a row";
    return registers;
}

constexpr void Row::read_note(std::string_view word)
{
    auto const after = [&](std::string_view prefix) { return word.substr(prefix.size()); };
    if (word == "lock")
        info.lockable = true;
    else if (word.starts_with("r:"))
        info.flags_read = parse_flags(after("r:"));
    else if (word.starts_with("w:"))
        info.flags_written = parse_flags(after("w:"));
    else if (word.starts_with("m:"))
        info.flags_maybe = parse_flags(after("m:"));
    else if (word.starts_with("read:"))
        info.implicit_read = parse_registers(after("read:"));
    else if (word.starts_with("write:"))
        info.implicit_write = parse_registers(after("write:"));
    else if (word == "d64")
        info.size_rule = OperandSize::default64;
    else if (word == "f64")
        info.size_rule = OperandSize::force64;
    else if (word == "normal")
        info.size_rule = OperandSize::normal;
    else if (word == "mode")
        info.size_rule = OperandSize::mode;
    else if (word == "io")
        info.size_rule = OperandSize::input_output;
    else if (word == "byte")
        info.size_rule = OperandSize::byte, info.byte_operand = true;
    else if (word == "aligned")
        aligned = true;
    else if (word == "unaligned")
        unaligned = true;
    else if (word == "vsib")
        info.vsib = true;
    else if (word == "masked")
        info.masked = true;
    else if (word == "sae")
        info.evex_options |= evex_sae;
    else if (word == "er")
        info.evex_options |= evex_sae | evex_rounding;
    else if (word == "nomask" || word == "nozero")
        info.evex_options |= word == "nomask" ? evex_no_mask : evex_no_zero;
    else if (word == "n1" || word == "n2" || word == "n4" || word == "n8")
        info.displacement_scale = static_cast<u8>(word[1] - '0');
    else if (word == "count")
        info.count_immediate = true;
    else if (word == "distinct")
        info.distinct_destination = true;
    else if (word == "256:avx2")
        wide_feature = Feature::avx2;
    else if (word == "256:vaes")
        wide_feature = Feature::vaes;
    else if (word == "256:vpclmulqdq")
        wide_feature = Feature::vpclmulqdq;
    else if (word == "unit:x87")
        info.unit = Unit::x87;
    else if (word == "unit:mmx")
        info.unit = Unit::mmx;
    else if (word == "unit:sse")
        info.unit = Unit::sse;
    else
        throw "unknown note in a row";
}

} // namespace anyhyve::x86
