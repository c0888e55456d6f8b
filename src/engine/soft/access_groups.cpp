// Which accesses of a hot block are to neighbouring addresses: the same registers, or others that are known to differ from them by a constant,
// and displacements close to each other. They share one check (translate_hot.cpp).
#include <algorithm>

#include "engine/soft/operations.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::MemoryAccess;
using x86::Operation;
using x86::Segment;

namespace {

constexpr u8 no_base = 0xff, no_index = 0xff;
constexpr i64 most_span = 256; // accesses further apart are checked apart

bool accesses_operand(x86::Instruction const& insn)
{
    return insn.has_memory && insn.info->memory != MemoryAccess::none;
}

// MOV of one 64-bit register to another.
bool copies_register(x86::Instruction const& insn, u8& to, u8& from)
{
    if (insn.has_memory || insn.operand_size != 8 || insn.encoding != x86::Encoding::legacy || insn.map != x86::OpcodeMap::primary)
        return false;
    to = insn.opcode == 0x89 ? insn.rm : insn.reg;
    from = insn.opcode == 0x89 ? insn.reg : insn.rm;
    return insn.opcode == 0x89 || insn.opcode == 0x8b;
}

} // namespace

// ADD and SUB of an immediate, INC, DEC, on a 64-bit register: by how much.
bool Translator::adds_constant(x86::Instruction const& insn, i64& amount)
{
    if (insn.has_memory || insn.operand_size != 8 || insn.encoding != x86::Encoding::legacy || insn.map != x86::OpcodeMap::primary)
        return false;
    unsigned const extension = insn.modrm >> 3 & 7;
    if (insn.opcode == 0x81 || insn.opcode == 0x83) {
        amount = extension == 5 ? -static_cast<i64>(insn.immediate) : static_cast<i64>(insn.immediate);
        return extension == 0 || extension == 5;
    }
    if (insn.opcode == 0xff) {
        amount = extension == 0 ? 1 : -1;
        return extension <= 1;
    }
    return false;
}

// Which registers are known to differ by a constant: the same root, each at its offset from it.
struct Translator::Roots {
    static constexpr u16 constant = 0xffff, none = 0xfffe;
    u16 root[16];
    i64 offset[16];
    u16 next = 16;
    u8 region = 0; // changes where the runtime is called

    Roots()
    {
        for (u16 i = 0; i < 16; ++i) {
            root[i] = i;
            offset[i] = 0;
        }
    }
    void forget(unsigned reg)
    {
        root[reg] = next++;
        offset[reg] = 0;
    }
    void set(unsigned to, unsigned from, i64 distance)
    {
        root[to] = root[from];
        offset[to] = offset[from] + distance;
    }
    void forget_written(x86::Instruction const& insn)
    {
        u16 const written = x86::general_registers(insn).written;
        for (unsigned i = 0; i < 16; ++i) {
            if (written >> i & 1)
                forget(i);
        }
    }
    void pass(x86::Instruction const&);
    u16 root_of(u8 index) const { return index == no_index ? none : root[index]; }
    i64 offset_of(u8 base, u8 index, u8 scale) const { return offset[base] + (index == no_index ? 0 : offset[index] * scale); }
};

// What the instruction does to the registers.
void Translator::Roots::pass(x86::Instruction const& insn)
{
    i64 const width = insn.operand_size;
    i64 amount = 0;
    u8 to = 0, from = 0;
    if (!has(insn, stays_in_code)) {
        for (unsigned i = 0; i < 16; ++i)
            forget(i);
        ++region;
        return;
    }
    switch (insn.info->operation) {
    case Operation::push:
    case Operation::push_immediate:
        offset[x86::rsp] -= width;
        return;
    case Operation::pop:
        offset[x86::rsp] += width;
        if (!insn.has_memory)
            forget(insn.rm);
        return;
    case Operation::leave:
        set(x86::rsp, x86::rbp, width);
        forget(x86::rbp);
        return;
    case Operation::lea:
        if (insn.operand_size == 8 && insn.address_size == 8 && insn.base < 16 && insn.index == no_index && insn.segment != Segment::fs && insn.segment != Segment::gs)
            return set(insn.reg, insn.base, insn.displacement);
        return forget(insn.reg);
    case Operation::copy:
        if (adds_constant(insn, amount)) {
            offset[insn.rm] += amount;
            return;
        }
        if (copies_register(insn, to, from))
            return set(to, from, 0);
        return forget_written(insn);
    default:
        return forget_written(insn);
    }
}

bool Translator::candidate(Step const& step, Candidate& found) const
{
    auto const& insn = step.insn;
    auto const operation = insn.info->operation;
    u16 const width = insn.operand_size;
    if (accesses_operand(insn)) {
        bool const copied = operation == Operation::copy;
        if (!copied && operation != Operation::push && operation != Operation::call_indirect && operation != Operation::jump_indirect)
            return false;
        u16 const size = copied ? insn.memory_size : width;
        if (insn.segment == Segment::fs || insn.segment == Segment::gs || insn.address_size != 8 || x86::is_masked(insn) || size == 0 || size > 64)
            return false;
        found = { .base = insn.base, .index = insn.index, .scale = insn.scale, .displacement = insn.displacement, .size = size,
            .writes = copied && (insn.info->memory == MemoryAccess::write || insn.info->memory == MemoryAccess::read_write) };
        if (insn.index != no_index)
            return insn.base != no_base && !spilled(insn.base) && !spilled(insn.index);
        if (insn.base == no_base && insn.rip_relative)
            found.displacement += static_cast<i64>(rip_behind(step));
        return !spilled(insn.base) && (insn.base != no_base || (static_cast<u64>(found.displacement) & 0xfff) + size <= 0x1000);
    }
    switch (operation) {
    case Operation::push:
    case Operation::push_immediate:
    case Operation::call_relative:
    case Operation::call_indirect:
        found = { .base = x86::rsp, .displacement = -i64 { width }, .size = width, .writes = true };
        return true;
    case Operation::pop:
    case Operation::return_near:
        found = { .base = x86::rsp, .displacement = 0, .size = width, .writes = false };
        return !insn.has_memory;
    case Operation::leave:
        found = { .base = x86::rbp, .displacement = 0, .size = width, .writes = false };
        return true;
    default:
        return false;
    }
}

// Do registers lead to the group here? Of an address made of two, only those that its first access names are asked.
bool Translator::leads_to(Group& group, Roots const& roots) const
{
    auto const take = [&](u8 base) {
        i64 const offset = roots.offset_of(base, group.first_index, group.scale);
        if (roots.root[base] != group.root || spilled(base) || !fits32(group.begin - offset))
            return false;
        group.first_base = base;
        group.first_offset = offset;
        return true;
    };
    if (group.constant)
        return true;
    if (group.first_index != no_index)
        return roots.root[group.first_index] == group.index_root && take(group.first_base);
    for (u8 reg = 0; reg < 16; ++reg) {
        if (take(reg))
            return true;
    }
    return false;
}

// Looking at a page destroys the flags. Where they are live before the group's first access, but not yet before an instruction on the way there, and
// registers are known there that lead to the group, the check comes that much earlier.
void Translator::place_check(Group& group, Roots const* history) const
{
    for (unsigned i = group.first_step + 1u; i-- > 0 && history[i].region == group.region;) {
        if (live_before(m_steps[i]) != 0 || !leads_to(group, history[i]))
            continue;
        group.check_at = static_cast<u8>(i);
        return;
    }
}

void Translator::join_group(unsigned step, Candidate const& access, Roots const& roots)
{
    bool const constant = access.base == no_base;
    u16 const root = constant ? Roots::constant : roots.root[access.base];
    u16 const index_root = roots.root_of(access.index);
    i64 const offset = constant ? 0 : roots.offset_of(access.base, access.index, access.scale);
    i64 const begin = offset + access.displacement, end = begin + access.size;
    for (unsigned i = m_group_count; i-- > 0;) {
        Group& group = m_groups[i];
        if (group.root != root || group.index_root != index_root || (index_root != Roots::none && group.scale != access.scale) || group.region != roots.region)
            continue;
        i64 const first = std::min(begin, group.begin), behind = std::max(end, group.end);
        bool const near = constant ? (static_cast<u64>(first) & page_mask) == (static_cast<u64>(behind - 1) & page_mask) : behind - first <= most_span && fits32(first - group.first_offset);
        if (!near)
            continue;
        group.begin = first;
        group.end = behind;
        group.writes |= access.writes;
        ++group.members;
        group.last_step = static_cast<u8>(step);
        m_steps[step].group = static_cast<i8>(i);
        return;
    }
    if (m_group_count == most_groups || (!constant && !fits32(access.displacement)))
        return;
    m_groups[m_group_count] = { .writes = access.writes, .constant = constant, .checked = false, .members = 1, .root = root, .index_root = index_root, .scale = access.scale, .region = roots.region, .begin = begin, .end = end,
        .check_at = static_cast<u8>(step), .first_step = static_cast<u8>(step), .first_offset = offset, .first_base = access.base, .first_index = access.index, .slot = no_slot, .last_step = static_cast<u8>(step) };
    m_steps[step].group = static_cast<i8>(m_group_count++);
}

void Translator::find_groups()
{
    m_group_count = 0;
    for (unsigned i = 0; i < m_step_count; ++i)
        m_steps[i].group = -1;
    if (!is64())
        return;
    if (!m_hot)
        return find_stack_runs();
    m_plan = m_hot_plan; // for which registers are at hand
    Roots history[most_instructions]; // before each step
    for (unsigned i = 0; i < m_step_count; ++i) {
        Roots& roots = history[i];
        if (i != 0) {
            roots = history[i - 1];
            roots.pass(m_steps[i - 1].insn);
        }
        Candidate access {};
        if (candidate(m_steps[i], access))
            join_group(i, access, roots);
    }
    for (unsigned i = 0; i < m_group_count; ++i)
        place_check(m_groups[i], history);
    m_plan = {};
}

} // namespace anyhyve::soft
