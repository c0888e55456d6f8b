// The byte-level instruction decoder: prefixes, opcode, ModRM, SIB, displacement, immediates, and the checks that make #UD.
// Source: Intel SDM vol. 2A chapter 2 (instruction format; 2.3 VEX, 2.7 EVEX), vol. 2D appendix A.
//
// It never tests for the end of its input on the way: it reads from the caller's bytes when there are plenty of them, else from a copy
// padded with zeros, and compares lengths at the end. What it decoded out of the padding is thrown away.
#include "x86/instruction.hpp"
#include "x86/opcode_table.hpp"

#include <bit>
#include <cstring>
#include <iterator>

namespace anyhyve::x86 {

namespace {

constexpr unsigned longest_instruction = 15;
// 14 prefixes, escape and opcode bytes, ModRM, SIB, 4 bytes of displacement, 8 of immediates: no read goes farther than this.
constexpr unsigned read_ahead = 48;
constexpr u8 no_register = 0xff;

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

template<typename Integer>
Integer load(u8 const* from)
{
    Integer value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

class Decoder {
public:
    Decoder(u8 const* code, CodeSize size, Instruction& out) : m_code(code), m_at(code), m_out(out), m_long(size == CodeSize::bits64) { out.code_size = size; }

    unsigned run();

private:
    bool read_prefixes();
    OpcodeTable const* read_opcode();
    OpcodeTable const* read_vex();
    OpcodeTable const* read_vex3();
    OpcodeTable const* read_evex();
    void take_vex(u8 map, u8 inverted_vvvv, u8 pp);
    void read_modrm();
    void read_address();
    void read_address16();
    void set_segment();
    void trim_register_numbers(OpcodeInfo const& info);
    void set_operand_size(OpcodeInfo const& info);
    void read_immediate(Immediate kind);
    void read_rare_immediate(Immediate kind);
    void scale_displacement(OpcodeInfo const& info);
    bool is_valid(OpcodeInfo const& info) const;
    bool is_valid_vex(OpcodeInfo const& info) const;
    bool is_valid_evex(OpcodeInfo const& info) const;
    u32 selection() const;
    unsigned length() const { return static_cast<unsigned>(m_at - m_code); }

    u8 const* const m_code;
    u8 const* m_at;
    Instruction& m_out;
    bool const m_long;
    bool m_malformed = false;
    bool m_disp8 = false;
    u8 m_normal_size = 4; // operand size by mode, 66 and REX.W
};

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

inline void Decoder::set_segment()
{
    auto& out = m_out;
    if (out.segment_override != Segment::none)
        out.segment = out.segment_override;
    else
        out.segment = out.has_memory && (out.base == 4 || out.base == 5) ? Segment::ss : Segment::ds;
}

inline u32 Decoder::selection() const
{
    namespace s = selector;
    auto const& out = m_out;
    u32 prefix = s::prefix_none;
    bool w = out.vex_w;
    u32 length = out.vector_length;
    if (out.encoding == Encoding::legacy) {
        prefix = out.repeat == RepeatPrefix::rep ? s::prefix_f3 : out.repeat == RepeatPrefix::repne ? s::prefix_f2 : out.operand_size_prefix ? s::prefix_66 : s::prefix_none;
        w = (out.rex & 8) != 0;
    } else {
        prefix = out.vex_pp;
        if (out.evex_b && out.mod == 3)
            length = 2; // L'L is the rounding mode of a 512-bit operation
    }
    return prefix << s::prefix_shift | u32 { out.mod == 3 } << s::mod_shift | u32 { out.modrm >> 3 & 7u } << s::reg_shift | u32 { out.modrm & 7u } << s::rm_shift
        | u32 { w } << s::w_shift | length << s::length_shift | u32 { m_long } << s::long_shift | u32 { m_normal_size == 2 } << s::operand16_shift
        | u32 { out.rex & 1u } << s::rex_b_shift;
}

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

// Widths that do not depend on the instruction, or 0, in the order of MemoryWidth up to b64.
constexpr u8 fixed_widths[] = { 0, 1, 2, 4, 8, 10, 16, 32, 64 };

unsigned rare_operand_bytes(Instruction const& instruction)
{
    using W = MemoryWidth;
    unsigned const vector = 16u << (instruction.vector_length & 3);
    unsigned const operand = instruction.operand_size;
    bool const one = instruction.evex_b;
    switch (instruction.info->width) {
    case W::vector_half: return vector / 2;
    case W::vector_quarter: return vector / 4;
    case W::vector_eighth: return vector / 8;
    case W::broadcast32: return one ? 4 : vector;
    case W::broadcast64: return one ? 8 : vector;
    case W::broadcast32_half: return one ? 4 : vector / 2;
    case W::broadcast16: return one ? 2 : vector;
    case W::broadcast16_half: return one ? 2 : vector / 2;
    case W::broadcast16_quarter: return one ? 2 : vector / 4;
    case W::operand_pair: return operand * 2;
    case W::far_pointer: return operand + 2;
    case W::pseudo_descriptor: return instruction.code_size == CodeSize::bits64 ? 10 : 6;
    case W::x87_environment: return operand == 2 ? 14 : 28;
    case W::x87_state: return operand == 2 ? 94 : 108;
    case W::fx_state: return 512;
    default: return 0; // xsave_state
    }
}

// What the memory operand takes.
inline unsigned operand_bytes(Instruction const& instruction)
{
    auto const width = instruction.info->width;
    if (width == MemoryWidth::operand)
        return instruction.operand_size;
    if (width < MemoryWidth::operand)
        return fixed_widths[static_cast<unsigned>(width)];
    if (width == MemoryWidth::vector)
        return 16u << (instruction.vector_length & 3);
    return rare_operand_bytes(instruction);
}

// An index register, or none, of a VSIB operand: it cannot be absent, and EVEX.V' is its fifth bit.
bool fix_vsib(Instruction& out, bool in_long_mode)
{
    if (!out.has_memory || !out.has_sib)
        return false;
    if (out.index == no_register)
        out.index = 4;
    if (out.encoding == Encoding::evex && in_long_mode) {
        out.index = static_cast<u8>(out.index | (out.vvvv & 16));
        out.vvvv &= 15;
    }
    return true;
}

inline void Decoder::scale_displacement(OpcodeInfo const& info)
{
    unsigned const scale = info.displacement_scale ? info.displacement_scale : m_out.memory_size;
    m_out.displacement *= static_cast<i64>(scale ? scale : 1);
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

unsigned Decoder::run()
{
    auto& out = m_out;
    out.info = &undefined_instruction;
    if (!read_prefixes())
        return longest_instruction + 1;

    bool const short_mode = out.code_size == CodeSize::bits16;
    out.address_size = m_long ? (out.address_size_prefix ? 4 : 8) : (out.address_size_prefix != short_mode ? 2 : 4);
    auto const* const table = read_opcode();
    out.opcode_offset = static_cast<u8>(length() - 1);
    if (out.encoding != Encoding::legacy && table == nullptr)
        m_malformed = true;
    m_normal_size = out.rex & 8 ? 8 : out.operand_size_prefix != short_mode ? 2 : 4;
    out.operand_size = m_normal_size;
    if (table == nullptr)
        return length();

    auto const entry = table->index[out.opcode];
    if (entry.has_modrm)
        read_modrm();
    auto const* info = find_row(*table, entry, selection());
    if (info->opcode_register) {
        out.rm = static_cast<u8>((out.opcode & 7) | (out.rex & 1) << 3);
        out.reg = 0;
    }
    set_operand_size(*info);
    read_immediate(info->immediate);
    if (info->vsib && !fix_vsib(out, m_long))
        info = &undefined_instruction;
    if (!is_valid(*info))
        info = &undefined_instruction;
    if (info->count_immediate && (out.immediate & (out.operand_size == 8 ? 63 : 31)) != 0)
        info = with_count(info);
    trim_register_numbers(*info);
    out.info = info;
    set_segment();
    if (out.has_memory) {
        auto const size = operand_bytes(out);
        out.memory_size = size < 256 ? static_cast<u8>(size) : 0;
        if (m_disp8 && out.encoding == Encoding::evex)
            scale_displacement(*info);
    }
    return length();
}

} // namespace

unsigned memory_operand_size(Instruction const& instruction)
{
    return instruction.has_memory ? operand_bytes(instruction) : 0;
}

RegisterUse general_registers(Instruction const& instruction)
{
    auto const& info = *instruction.info;
    RegisterUse result { info.implicit_read, info.implicit_write };
    auto const add = [&](unsigned number, unsigned use) {
        result.read = static_cast<u16>(result.read | (use & use_read ? 1u : 0u) << number);
        result.written = static_cast<u16>(result.written | (use & use_write ? 1u : 0u) << number);
    };
    auto const field = [&](FieldKind kind, FieldUse use, unsigned number) {
        if (kind == FieldKind::gpr8 && instruction.rex == 0)
            number &= 3; // AH, CH, DH, BH
        if (kind == FieldKind::gpr || kind == FieldKind::gpr8)
            add(number, use);
    };
    field(info.reg_kind, info.reg_use, instruction.reg);
    if (info.opcode_register || instruction.mod == 3)
        field(info.rm_kind, info.rm_use, instruction.rm);
    field(info.vvvv_kind, info.vvvv_use, instruction.vvvv);
    if (instruction.has_memory && instruction.base != no_register)
        add(instruction.base, use_read);
    if (instruction.has_memory && instruction.index != no_register && !info.vsib)
        add(instruction.index, use_read);
    return result;
}

DecodeStatus decode(u8 const* code, unsigned available, CodeSize size, Instruction& out)
{
    std::memset(static_cast<void*>(&out), 0, sizeof out);
    out.segment_override = Segment::none;
    out.base = no_register;
    out.index = no_register;

    u8 padded[read_ahead];
    if (available < read_ahead) {
        std::memset(padded, 0, sizeof padded);
        std::memcpy(padded, code, available);
        code = padded;
    }
    auto const length = Decoder(code, size, out).run();
    if (length > available && available < longest_instruction)
        return DecodeStatus::need_more;
    if (length > longest_instruction)
        return DecodeStatus::too_long;
    out.length = static_cast<u8>(length);
    std::memcpy(out.bytes, code, sizeof out.bytes);
    return DecodeStatus::ok;
}

} // namespace anyhyve::x86
