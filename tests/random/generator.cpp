// Cases of one instruction: see generator.hpp.
#include "generator.hpp"

#include <algorithm>
#include <cstring>

namespace anyhyve::random_test {

using namespace x86;

void Generator::begin_batch()
{
    m_memory_seed = m_random() | 1;
    for (unsigned n = 0; n < m_vector_seeds.size(); ++n)
        m_vector_seeds[n] = (m_random() & ~u64 { 0x1f }) | n << 1 | 1;
}

void Generator::start_state(Case& c)
{
    c.long_mode = m_size == CodeSize::bits64;
    for (auto& value : c.gpr)
        value = m_random.one_in(3) ? m_builder.tame_target(8) : corner_integer(m_random);
    c.gpr[rsp] = m_builder.wild_target(8, m_size) & (m_random.one_in(8) ? ~u64 { 0 } : ~u64 { 7 });
    c.flags = 0x202 | (m_random() & arithmetic_flags) | (m_random.one_in(8) ? 0x400 : 0) | (m_random.one_in(40) ? 0x40000 : 0);
    c.gs_base = c.long_mode ? (m_random.one_in(2) ? 0x1000 : m_random.below(layout::data)) : 0;
    c.vector_seed = m_random.one_in(16) ? 0 : m_vector_seeds[m_random.below(m_vector_seeds.size())];
    c.memory_seed = m_memory_seed;
    if (m_random.one_in(2))
        c.mxcsr = 0x1f80 | (m_random() & 0xe07f);
    if (m_random.one_in(8))
        c.mxcsr &= ~(m_random() & 0x1f80);
    if (m_random.one_in(2))
        c.control_word = static_cast<u16>(0x7f | (m_random() & 0x0f00));
    if (m_random.one_in(8))
        c.control_word = static_cast<u16>(c.control_word & ~(m_random() & 0x3f));
    if (!c.long_mode) {
        for (auto& value : c.gpr)
            value &= 0xffffffff;
    }
}

// Registers that instructions use without being told, or want to be in a range.
void Generator::shape_registers(Case& c, Instruction const& insn)
{
    auto const target = [&](unsigned size) { return m_builder.wild_target(size, m_size); };
    switch (insn.info->operation) {
    case Operation::string_move: case Operation::string_compare: case Operation::string_store: case Operation::string_load: case Operation::string_scan:
        c.gpr[rsi] = target(8) - (insn.segment == Segment::gs ? c.gs_base : 0);
        c.gpr[rdi] = m_random.one_in(4) ? c.gpr[rsi] + m_random.below(129) - 64 : target(8);
        c.gpr[rcx] = m_random.one_in(8) ? m_random.below(0x3000) : m_random.below(70);
        if (m_random.one_in(3))
            c.flags ^= 0x400;
        break;
    case Operation::xlat:
        c.gpr[rbx] = target(1) - (c.gpr[rax] & 0xff);
        break;
    case Operation::mask_move:
        c.gpr[rdi] = target(16) - (insn.segment == Segment::gs ? c.gs_base : 0);
        break;
    case Operation::enter: case Operation::leave:
        c.gpr[rbp] = target(8) & ~u64 { 7 };
        break;
    case Operation::bit_test_memory:
        if (m_random.percent(70))
            c.gpr[insn.reg] = m_random.below(512) - 256;
        break;
    case Operation::bound:
        c.gpr[insn.reg] = m_random.below(256);
        break;
    default:
        break;
    }
    if (InstructionBuilder::kind(insn) == Kind::divide && m_random.percent(70))
        c.gpr[rdx] = m_random.one_in(2) ? m_random.below(64) : static_cast<u64>(static_cast<i64>(c.gpr[rax]) >> 63);
    bool const counts_strings = insn.map == OpcodeMap::map_0f3a && insn.opcode >= 0x60 && insn.opcode <= 0x63;
    if (counts_strings && m_random.percent(80)) {
        c.gpr[rax] = m_random.below(24) - 4;
        c.gpr[rdx] = m_random.below(24) - 4;
    }
}

// CMPXCHG and its wider forms: equal every other time.
void Generator::shape_compare(Case& c, Instruction const& insn, u64 target)
{
    bool const two_operands = insn.map == OpcodeMap::map_0f && (insn.opcode == 0xb0 || insn.opcode == 0xb1) && insn.encoding == Encoding::legacy;
    bool const wide = insn.map == OpcodeMap::map_0f && insn.opcode == 0xc7 && (insn.modrm >> 3 & 7) == 1;
    if ((!two_operands && !wide) || m_random.one_in(2))
        return;
    m_image.prepare(c);
    u64 const value = insn.mod == 3 ? c.gpr[insn.rm] : m_image.value_at(target, 8);
    c.gpr[rax] = value;
    if (wide) {
        bool const quad = insn.operand_size == 8;
        c.gpr[rdx] = quad ? m_image.value_at(target + 8, 8) : value >> 32;
        if (!quad)
            c.gpr[rax] = value & 0xffffffff;
    }
}

// Makes the operand's address what we want, by registers or by the displacement.
void Generator::shape_memory(Case& c, Encoded& encoded)
{
    auto& insn = encoded.insn;
    if (!insn.has_memory || insn.info->operation == Operation::lea || insn.address_size == 2)
        return;
    unsigned const size = std::max(1u, memory_operand_size(insn));
    u64 const target = m_builder.wild_target(size, m_size);
    u64 const offset = target - (insn.segment == Segment::gs ? c.gs_base : 0);
    u64 const next_rip = c.start() + insn.length;
    bool const has_index = insn.index < 16 && !insn.info->vsib;
    if (has_index && insn.base == 0xff)
        c.gpr[insn.index] = m_random.below(0x1000);
    if (insn.base < 16 && insn.base != insn.index) {
        c.gpr[insn.base] = 0;
        c.gpr[insn.base] = offset - InstructionBuilder::address({ insn }, c.gpr, next_rip);
    } else if (has_index && insn.base == insn.index)
        c.gpr[insn.base] = (offset - static_cast<u64>(insn.displacement)) / (1u + insn.scale);
    else {
        u64 const without = InstructionBuilder::address(insn, c.gpr, next_rip) - static_cast<u64>(insn.displacement);
        InstructionBuilder::set_displacement(encoded, static_cast<i64>(offset - without));
    }
    shape_compare(c, insn, target);
}

u64 Generator::branch_target(Case const& c)
{
    switch (m_random.below(16)) {
    case 0: return layout::data + m_random.below(layout::data_size);
    case 1: return c.long_mode ? m_random() : m_random() & 0xffffffff;
    case 2: return layout::code + layout::code_size + m_random.below(64) - 32;
    case 3: return c.start() + m_random.below(16);
    default: return layout::code + m_random.below(layout::code_size);
    }
}

void Generator::shape_branch(Case& c, Encoded& encoded)
{
    auto& insn = encoded.insn;
    if (insn.info->immediate == Immediate::relative) {
        u64 const distance = branch_target(c) - (c.start() + insn.length);
        std::memcpy(&encoded.bytes[insn.immediate_offset], &distance, insn.immediate_size);
    }
    bool const indirect = insn.info->operation == Operation::jump_indirect || insn.info->operation == Operation::call_indirect;
    if (indirect && !insn.has_memory)
        c.gpr[insn.rm] = branch_target(c);
}

// Where the code lies: sometimes across a page's end, or up to where there is nothing any more.
void Generator::place(Case& c, unsigned length)
{
    u64 const choice = m_random.below(100);
    if (choice < 85)
        c.code_offset = static_cast<u16>(0xc0 + m_random.below(0xe00));
    else
        c.code_offset = static_cast<u16>((choice < 96 ? 0x1000 : 0x2000) - m_random.below(length + 2));
}

Case Generator::single(CodeSize size)
{
    m_size = size;
    Case c;
    start_state(c);
    Encoded encoded = m_builder.sample(size);
    place(c, encoded.length());
    shape_registers(c, encoded.insn);
    shape_branch(c, encoded);
    shape_memory(c, encoded);
    if (!c.long_mode) {
        for (auto& value : c.gpr)
            value &= 0xffffffff;
    }
    c.code_length = static_cast<u16>(encoded.length());
    std::copy_n(encoded.bytes.begin(), c.code_length, c.code.begin());
    return c;
}

} // namespace anyhyve::random_test
