// Walks all forms of all instructions that the opcode table knows, and writes random encodings of them, for tests.
#pragma once

#include "x86/opcode_table.hpp"

#include <bit>

namespace anyhyve::x86 {

// One row of the table for one opcode byte (rows that name a register in the opcode hold for eight).
struct OpcodeForm {
    OpcodeTable const* table;
    u16 row;
    u8 opcode;

    Encoding encoding() const { return table->encoding; }
    OpcodeMap map() const { return table->map; }
    RowKey const& key() const { return table->keys[row]; }
    OpcodeInfo const& info() const { return table->infos[row]; }
    bool has_modrm() const { return table->index[opcode].has_modrm; }
    // Reached only through the row before it: a shift by a constant that is not 0.
    bool follows_another() const { return row > 0 && table->infos[row - 1].count_immediate; }

    // What the row asks for; -1 where it does not care. Prefix: selector::prefix_none, 66, F3, F2.
    int prefix() const { return field(selector::prefix_mask); }
    int modrm_reg() const { return field(selector::reg_mask); }
    int modrm_rm() const { return field(selector::rm_mask); }
    int w() const { return field(selector::w_mask); }
    int vector_length() const { return field(selector::length_mask); }
    int rex_b() const { return field(selector::rex_b_mask); }
    bool needs_memory() const { return field(selector::mod_mask) == 0 || info().vsib; }
    bool needs_register() const { return field(selector::mod_mask) == 1; }
    bool needs_operand16() const { return field(selector::operand16_mask) == 1; }
    bool exists_in(CodeSize size) const
    {
        int const only = field(selector::long_mask);
        return only < 0 || (only == 1) == (size == CodeSize::bits64);
    }

private:
    int field(u32 mask) const
    {
        if ((key().mask & mask) != mask)
            return -1;
        return static_cast<int>((key().value & mask) >> std::countr_zero(mask));
    }
};

// Calls `visit(OpcodeForm)` for every row of every table, in their order.
template<typename Visitor>
void for_each_opcode_form(Visitor visit)
{
    for (auto const* table : all_opcode_tables())
        for (unsigned opcode = 0; opcode < 256; ++opcode)
            for (unsigned n = 0; n < table->index[opcode].count; ++n)
                visit(OpcodeForm { table, static_cast<u16>(table->index[opcode].first + n), static_cast<u8>(opcode) });
}

// Writes random encodings of forms. `Random` is called for 64 random bits.
template<typename Random>
class EncodingSampler {
public:
    explicit EncodingSampler(Random& random) : m_random(random) {}

    // Fills `out` with an encoding of `form` that is valid more often than not, and with random bytes behind it: what the decoder does not
    // take is what follows. Returns how many bytes lie before ModRM or the operands, including the opcode.
    unsigned sample(OpcodeForm const& form, CodeSize size, u8 (&out)[16])
    {
        m_out = out;
        m_size = 0;
        for (auto& byte : out)
            byte = static_cast<u8>(m_random());
        if (form.encoding() == Encoding::legacy)
            legacy_prefixes(form, size);
        else if (form.encoding() == Encoding::vex)
            vex_prefix(form, size);
        else
            evex_prefix(form, size);
        put(form.opcode);
        unsigned const head = m_size;
        if (form.has_modrm())
            modrm(form, size);
        return head;
    }

private:
    bool one_in(unsigned n) { return m_random() % n == 0; }
    void put(unsigned byte) { m_out[m_size++] = static_cast<u8>(byte); }
    unsigned or_random(int wanted, unsigned choices) { return wanted >= 0 ? static_cast<unsigned>(wanted) : static_cast<unsigned>(m_random() % choices); }

    void legacy_prefixes(OpcodeForm const& form, CodeSize size)
    {
        constexpr u8 segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
        bool const in16 = size == CodeSize::bits16;
        int const prefix = form.prefix();
        if (one_in(8))
            put(segments[m_random() % 6]);
        if (one_in(8))
            put(0x67);
        if (one_in(form.info().lockable ? 4 : 64))
            put(0xf0);
        bool const word = prefix < 0 || prefix >= 2 ? (form.needs_operand16() ? !in16 : one_in(form.info().size_rule == OperandSize::normal ? 4 : 16)) : prefix == 1;
        if (word)
            put(0x66);
        if (prefix >= 2 || (prefix < 0 && one_in(32)))
            put(prefix == 2 || (prefix < 0 && one_in(2)) ? 0xf3 : 0xf2);
        if (size == CodeSize::bits64 && (form.w() == 1 || form.rex_b() == 1 || one_in(2)))
            put(0x40u | (form.needs_operand16() ? 0 : or_random(form.w(), 2)) << 3 | (m_random() & 6) | or_random(form.rex_b(), 2));
        if (form.map() != OpcodeMap::primary)
            put(0x0f);
        if (form.map() == OpcodeMap::map_0f38 || form.map() == OpcodeMap::map_0f3a)
            put(form.map() == OpcodeMap::map_0f38 ? 0x38 : 0x3a);
    }

    // vvvv, inverted: 1111 where the form has none.
    unsigned vvvv(OpcodeForm const& form, CodeSize size)
    {
        if (form.info().vvvv_kind == FieldKind::none)
            return one_in(32) ? m_random() & 15 : 15;
        return (m_random() & 15) | (size != CodeSize::bits64 || form.info().vvvv_kind == FieldKind::mask ? 8u : 0u);
    }

    // R, X, B, inverted. In 16- and 32-bit code, R and X must be 1 for the bytes to be no LES, LDS or BOUND.
    unsigned extensions(OpcodeForm const& form, CodeSize size)
    {
        unsigned const bits = m_random() & 7;
        return (size == CodeSize::bits64 ? bits : bits | 6) | (form.info().reg_kind == FieldKind::mask && !one_in(16) ? 4u : 0u);
    }

    static unsigned pp(OpcodeForm const& form) { return form.prefix() < 0 ? 0 : static_cast<unsigned>(form.prefix()); }

    void vex_prefix(OpcodeForm const& form, CodeSize size)
    {
        unsigned const w = or_random(form.w(), 2), length = or_random(form.vector_length(), 2), rxb = extensions(form, size), v = vvvv(form, size);
        if (form.map() == OpcodeMap::map_0f && w == 0 && one_in(2)) {
            put(0xc5);
            put((rxb & 4) << 5 | (size == CodeSize::bits64 ? v : v | 8) << 3 | length << 2 | pp(form));
            return;
        }
        put(0xc4);
        put(rxb << 5 | static_cast<unsigned>(form.map()));
        put(w << 7 | v << 3 | length << 2 | pp(form));
    }

    void evex_prefix(OpcodeForm const& form, CodeSize size)
    {
        auto const& info = form.info();
        constexpr u8 map_numbers[] = { 0, 1, 2, 3, 5, 6 };
        bool const mask = (info.evex_options & evex_mask) ? (info.vsib || one_in(2)) : one_in(32);
        unsigned const aaa = mask ? m_random() & 7 : 0;
        bool const zero = aaa != 0 && one_in((info.evex_options & evex_zero) ? 2 : 32);
        bool const high_register = size == CodeSize::bits64 && info.reg_kind == FieldKind::vector && one_in(2);
        bool const high_vvvv = size == CodeSize::bits64 && (info.vvvv_kind == FieldKind::vector || info.vsib) && one_in(2);
        put(0x62);
        put(extensions(form, size) << 5 | (high_register ? 0u : 0x10u) | map_numbers[static_cast<unsigned>(form.map())]);
        put(or_random(form.w(), 2) << 7 | vvvv(form, size) << 3 | 4 | pp(form));
        put((zero ? 0x80u : 0u) | or_random(form.vector_length(), one_in(16) ? 4 : 3) << 5 | (one_in(4) ? 0x10u : 0u) | (high_vvvv ? 0u : 8u) | aaa);
    }

    void modrm(OpcodeForm const& form, CodeSize)
    {
        bool const memory = form.needs_memory() || (!form.needs_register() && one_in(2));
        unsigned const mod = memory ? static_cast<unsigned>(m_random() % 3) : 3;
        unsigned const rm = form.info().vsib ? 4 : or_random(form.modrm_rm(), 8);
        put(mod << 6 | or_random(form.modrm_reg(), 8) << 3 | rm);
    }

    Random& m_random;
    u8* m_out = nullptr;
    unsigned m_size = 0;
};

} // namespace anyhyve::x86
