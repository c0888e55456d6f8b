// An instruction as text: see instruction_text.hpp.
#include "x86/instruction_text.hpp"

#include <vector>

#include <fmt/core.h>

namespace anyhyve::x86 {

namespace {

constexpr char const* names64[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi" };
constexpr char const* names_high8[] = { "ah", "ch", "dh", "bh" };
constexpr char const* names_low8[] = { "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil" };
constexpr char const* segment_names[] = { "es", "cs", "ss", "ds", "fs", "gs", "?", "?" };

std::string register_name(unsigned number, unsigned width, bool has_rex)
{
    if (number >= 8)
        return fmt::format("r{}{}", number, width == 8 ? "" : width == 4 ? "d" : width == 2 ? "w" : "b");
    if (width == 1)
        return number >= 4 && !has_rex ? names_high8[number - 4] : names_low8[number];
    if (width == 8)
        return names64[number];
    return fmt::format("{}{}", width == 4 ? "e" : "", names64[number] + 1);
}

// The name of a register that a field names; "" for what is none.
std::string field_name(Instruction const& insn, FieldKind kind, unsigned number)
{
    static constexpr char const* vectors[] = { "xmm", "ymm", "zmm", "zmm" };
    switch (kind) {
    case FieldKind::gpr: {
        unsigned const width = insn.encoding == Encoding::legacy ? insn.operand_size : insn.vex_w ? 8 : 4;
        return register_name(number & 15, width == 1 ? 4 : width, insn.rex != 0);
    }
    case FieldKind::gpr8: return register_name(number & 15, 1, insn.rex != 0);
    case FieldKind::vector: return fmt::format("{}{}", vectors[insn.encoding == Encoding::legacy ? 0 : insn.vector_length], number & 31);
    case FieldKind::mask: return fmt::format("k{}", number & 7);
    case FieldKind::mmx: return fmt::format("mm{}", number & 7);
    case FieldKind::segment: return segment_names[number & 7];
    case FieldKind::control: return fmt::format("cr{}", number & 15);
    case FieldKind::debug: return fmt::format("dr{}", number & 15);
    default: return {};
    }
}

std::string signed_number(i64 value, bool with_plus)
{
    u64 const size = value < 0 ? -static_cast<u64>(value) : static_cast<u64>(value);
    return fmt::format("{}{:#x}", value < 0 ? "-" : with_plus ? "+" : "", size);
}

char const* size_name(unsigned size)
{
    switch (size) {
    case 1: return "byte ";
    case 2: return "word ";
    case 4: return "dword ";
    case 8: return "qword ";
    case 10: return "tbyte ";
    case 16: return "xmmword ";
    case 32: return "ymmword ";
    case 64: return "zmmword ";
    default: return "";
    }
}

std::string memory_text(Instruction const& insn, u64 address)
{
    std::string text = insn.info->operation == Operation::lea ? "" : size_name(memory_operand_size(insn));
    if (insn.segment_override != Segment::none)
        text += fmt::format("{}:", segment_names[static_cast<unsigned>(insn.segment_override)]);
    text += '[';
    bool any = false;
    if (insn.rip_relative)
        return text + fmt::format("{:#x}]", address + insn.length + static_cast<u64>(insn.displacement));
    if (insn.base != 0xff) {
        text += register_name(insn.base, insn.address_size, true);
        any = true;
    }
    if (insn.index != 0xff) {
        bool const vector = insn.info->vsib;
        text += fmt::format("{}{}", any ? "+" : "", vector ? fmt::format("v{}", insn.index) : register_name(insn.index, insn.address_size, true));
        if (insn.scale > 1)
            text += fmt::format("*{}", insn.scale);
        any = true;
    }
    if (!any)
        text += fmt::format("{:#x}", static_cast<u64>(insn.displacement) & (insn.address_size == 8 ? ~u64 { 0 } : insn.address_size == 4 ? 0xffffffff : 0xffff));
    else if (insn.displacement != 0)
        text += signed_number(insn.displacement, true);
    return text + ']';
}

std::string immediate_text(Instruction const& insn, u64 address)
{
    switch (insn.info->immediate) {
    case Immediate::none:
    case Immediate::memory_offset:
        return {};
    case Immediate::relative_byte:
    case Immediate::relative: {
        u64 const target = address + insn.length + insn.immediate;
        return fmt::format("{:#x}", insn.code_size == CodeSize::bits64 ? target : target & 0xffffffff);
    }
    case Immediate::far_pointer: return fmt::format("{:#x}:{:#x}", insn.immediate2, insn.immediate);
    case Immediate::word_byte:
    case Immediate::byte_byte: return fmt::format("{:#x}, {:#x}", insn.immediate, insn.immediate2);
    case Immediate::signed_byte: return signed_number(static_cast<i64>(insn.immediate), false);
    default: break;
    }
    u64 const mask = insn.operand_size == 8 ? ~u64 { 0 } : insn.operand_size == 4 ? 0xffffffff : insn.operand_size == 2 ? 0xffff : 0xff;
    return fmt::format("{:#x}", insn.immediate & mask);
}

// ADD rm, reg and ADD reg, rm differ by a bit of the opcode; elsewhere the one that is written comes first.
bool rm_comes_first(Instruction const& insn)
{
    auto const& info = *insn.info;
    bool const rm_written = (info.rm_use & use_write) || info.memory == MemoryAccess::write || info.memory == MemoryAccess::read_write;
    bool const reg_written = (info.reg_use & use_write) != 0;
    if (rm_written != reg_written)
        return rm_written;
    return insn.map == OpcodeMap::primary && !(insn.opcode & 2);
}

std::string mnemonic(Instruction const& insn)
{
    static constexpr char const* conditions[] = { "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g" };
    if (insn.info->operation == Operation::jump_conditional)
        return fmt::format("j{}", conditions[insn.opcode & 15]);
    std::string text = insn.lock ? "lock " : "";
    auto const operation = insn.info->operation;
    if (insn.repeat != RepeatPrefix::none && operation >= Operation::string_move && operation <= Operation::string_out)
        text += insn.repeat == RepeatPrefix::rep ? "rep " : "repne ";
    return text + insn.info->name;
}

} // namespace

std::string instruction_text(Instruction const& insn, u64 address)
{
    auto const& info = *insn.info;
    std::string const reg = insn.has_modrm ? field_name(insn, info.reg_kind, insn.reg) : std::string();
    std::string const vvvv = insn.encoding == Encoding::legacy ? std::string() : field_name(insn, info.vvvv_kind, insn.vvvv);
    std::string const rm = insn.has_memory ? memory_text(insn, address) : field_name(insn, info.rm_kind, insn.rm);
    std::vector<std::string> operands = rm_comes_first(insn) ? std::vector { rm, vvvv, reg } : std::vector { reg, vvvv, rm };
    operands.push_back(immediate_text(insn, address));
    std::string text = mnemonic(insn);
    char const* separator = " ";
    for (auto const& operand : operands) {
        if (operand.empty())
            continue;
        text += separator + operand;
        separator = ", ";
    }
    return text;
}

} // namespace anyhyve::x86
