// The decoder as a whole: its parts in their order, the row of the opcode table, and the bytes that it may read.
#include "x86/decoder.hpp"
#include "x86/decoder_immediate.hpp"
#include "x86/decoder_modrm.hpp"
#include "x86/decoder_prefixes.hpp"
#include "x86/decoder_validity.hpp"
#include "x86/decoder_vex.hpp"

namespace anyhyve::x86 {

namespace {

// 14 prefixes, escape and opcode bytes, ModRM, SIB, 4 bytes of displacement, 8 of immediates: no read goes farther than this.
constexpr unsigned read_ahead = 48;

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

// The memory operand's size, and the displacement, which may count in units of it.
inline void Decoder::measure_memory(OpcodeInfo const& info)
{
    auto const size = operand_bytes(m_out);
    m_out.memory_size = size < 256 ? static_cast<u8>(size) : 0;
    if (m_disp8 && m_out.encoding == Encoding::evex)
        scale_displacement(info);
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
    if (info->vsib && !fix_vsib())
        info = &undefined_instruction;
    if (!is_valid(*info))
        info = &undefined_instruction;
    if (info->count_immediate && (out.immediate & (out.operand_size == 8 ? 63 : 31)) != 0)
        info = with_count(info);
    trim_register_numbers(*info);
    out.info = info;
    set_segment();
    if (out.has_memory)
        measure_memory(*info);
    return length();
}

} // namespace

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
