// Cases of a block of instructions with branches, loops, calls and stores into itself: see generator.hpp.
#include <algorithm>
#include <cstring>

#include "generator.hpp"

namespace anyhyve::random_test {

using namespace x86;

void Generator::choose_pointers(Case& c)
{
    unsigned const registers = c.long_mode ? 16 : 8;
    m_pointers = 1 << rsp;
    for (unsigned n = 0; n < registers; ++n) {
        if (n == rsp || !m_random.one_in(3))
            continue;
        m_pointers = static_cast<u16>(m_pointers | 1u << n);
        c.gpr[n] = m_builder.tame_target(64);
    }
    m_index = static_cast<u8>(m_random.below(8));
    if (m_index != rsp) {
        m_pointers = static_cast<u16>(m_pointers & ~(1u << m_index));
        c.gpr[m_index] = m_random.below(64);
    }
    c.gpr[rsp] = layout::data + (m_random.one_in(3) ? layout::page : 0x800 + m_random.below(0x100) * 8);
    c.flags &= ~u64 { 0x40400 };
}

bool Generator::writes_pointer(Instruction const& insn) const
{
    return general_registers(insn).written & (m_pointers | 1u << m_index) & ~(1u << rsp);
}

// Gives the operand a base register that holds an address, or RIP, and the displacement that leads to a good place.
bool Generator::point_operand(Case const& c, Item& item)
{
    auto& code = item.code;
    auto const old = code.insn;
    if (!old.has_memory || old.info->operation == Operation::lea)
        return true;
    if (old.modrm_offset == 0 || old.address_size == 2 || old.segment == Segment::gs)
        return false;
    u64 const target = m_random.one_in(25) ? m_builder.wild_target(std::max(1u, memory_operand_size(old)), m_size) : m_builder.tame_target(std::max(1u, memory_operand_size(old)));
    std::array<u8, 32> bytes {};
    unsigned at = old.modrm_offset;
    std::copy_n(code.bytes.begin(), at, bytes.begin());
    unsigned const high = (old.rex & 1) << 3, reg = old.modrm & 0x38;
    bool const by_rip = m_size == CodeSize::bits64 && !old.info->vsib && m_random.one_in(8);
    if (by_rip) {
        bytes[at++] = static_cast<u8>(reg | 5);
        item.rip_target = target;
    } else {
        u8 usable[8];
        unsigned count = 0;
        for (unsigned n = 0; n < 8; ++n) {
            if (m_pointers >> (n + high) & 1)
                usable[count++] = static_cast<u8>(n);
        }
        if (count == 0)
            return false;
        u8 const base = usable[m_random.below(count)];
        bool const sib = base == 4 || old.info->vsib || m_random.one_in(4);
        bytes[at++] = static_cast<u8>(0x80 | reg | (sib ? 4u : base));
        bool const indexed = m_index != rsp && !(old.rex & 2) && m_random.one_in(2);
        if (sib)
            bytes[at++] = static_cast<u8>((old.info->vsib ? m_random() & 0xf8 : indexed ? (m_random() & 0xc0) | m_index << 3 : 0x20) | base);
    }
    unsigned const displacement_at = at;
    at += 4;
    std::copy_n(&code.bytes[old.immediate_offset], old.immediate_size, &bytes[at]);
    at += old.immediate_size;
    if (at > 15)
        return false;
    std::copy_n(bytes.begin(), 16, code.bytes.begin());
    InstructionBuilder::decode(code, m_size);
    if (code.insn.length != at || code.insn.info != old.info)
        return false;
    if (!by_rip) {
        u64 const distance = target - InstructionBuilder::address(code.insn, c.gpr, 0);
        std::memcpy(&code.bytes[displacement_at], &distance, 4);
        InstructionBuilder::decode(code, m_size);
    }
    return true;
}

bool Generator::add_random(Case const& c)
{
    Item item;
    item.code = m_random.percent(60) ? m_builder.sample_common(m_size) : m_builder.sample(m_size);
    auto const& insn = item.code.insn;
    switch (InstructionBuilder::kind(insn)) {
    case Kind::undefined:
    case Kind::privileged:
        if (!m_random.one_in(60))
            return false;
        break;
    case Kind::divide:
        if (!m_random.one_in(10))
            return false;
        break;
    case Kind::branch:
        if (insn.info->immediate != Immediate::relative && insn.info->immediate != Immediate::relative_byte && !m_random.one_in(20))
            return false;
        if (insn.info->operation == Operation::call_relative || insn.operand_size == 2)
            return false;
        item.branch_to = -2;
        break;
    case Kind::stack:
        if (insn.info->operation == Operation::enter || insn.info->operation == Operation::leave || insn.operand_size == 2)
            return false;
        if (insn.info->operation == Operation::pop_flags && !m_random.one_in(4))
            return false;
        break;
    case Kind::ordinary:
        if (insn.repeat != RepeatPrefix::none && insn.info->operation >= Operation::string_move && insn.info->operation <= Operation::string_scan && !m_random.one_in(4))
            return false;
        if ((general_registers(insn).written >> rsp & 1) && !m_random.one_in(30))
            return false;
        if (insn.info->alignment == 0 || !m_random.one_in(4))
            break;
        return false;
    }
    if (writes_pointer(insn) && !m_random.one_in(12))
        return false;
    if (!point_operand(c, item))
        return false;
    m_items.push_back(item);
    return true;
}

void Generator::add_bytes(std::initializer_list<u8> bytes, int branch_to)
{
    Item item;
    std::copy(bytes.begin(), bytes.end(), item.code.bytes.begin());
    InstructionBuilder::decode(item.code, m_size);
    item.branch_to = branch_to;
    m_items.push_back(item);
}

// One of the pointers moves on: the rounds of a loop access what lies side by side, and come to the next page.
void Generator::add_pointer_step()
{
    constexpr u8 distances[] = { 1, 4, 8, 8, 16, 20, 64, 0xf8 };
    unsigned const first = static_cast<unsigned>(m_random.below(16));
    for (unsigned n = first; n < first + 16; ++n) {
        unsigned const pointer = n % 16;
        if (pointer == rsp || !(m_pointers >> pointer & 1))
            continue;
        u8 const modrm = static_cast<u8>(0xc0 | (pointer & 7)), distance = distances[m_random.below(std::size(distances))];
        if (m_size == CodeSize::bits64)
            return add_bytes({ static_cast<u8>(0x48 | pointer >> 3), 0x83, modrm, distance });
        return add_bytes({ 0x83, modrm, distance });
    }
}

// mov word [counter], n ... dec word [counter]; jle behind; jcc back
void Generator::add_counted_loop(Case const& c)
{
    u64 const counter = layout::data + 6 * layout::page + 0xf00 + m_random.below(32) * 2;
    auto const operand = [&](u8 opcode, u8 extension, bool with_immediate) {
        Item item;
        auto& bytes = item.code.bytes;
        unsigned at = 0;
        bytes[at++] = 0x66;
        bytes[at++] = opcode;
        bytes[at++] = static_cast<u8>(extension << 3 | 5); // RIP-relative, or absolute outside of 64-bit code
        u32 const absolute = static_cast<u32>(counter);
        std::memcpy(&bytes[at], &absolute, 4);
        at += 4;
        if (with_immediate) {
            bytes[at++] = static_cast<u8>(1 + m_random.below(m_random.one_in(10) ? 100 : 6));
            bytes[at++] = 0;
        }
        InstructionBuilder::decode(item.code, m_size);
        if (m_size == CodeSize::bits64)
            item.rip_target = counter;
        m_items.push_back(item);
    };
    operand(0xc7, 0, true);
    int const head = static_cast<int>(m_items.size());
    unsigned const wanted = 1 + static_cast<unsigned>(m_random.below(8));
    bool const moves = m_random.one_in(2);
    for (unsigned n = 0, tries = 0; n < wanted && tries < 100; ++tries) {
        if (moves && m_random.one_in(3))
            add_pointer_step();
        n += add_random(c);
    }
    int const end = static_cast<int>(m_items.size());
    operand(0xff, 1, false);
    add_bytes({ 0x0f, 0x8e, 0, 0, 0, 0 }, end + 3);
    u8 const condition = static_cast<u8>(m_random() & 15);
    if (m_random.one_in(4))
        add_bytes({ 0xe9, 0, 0, 0, 0 }, head);
    else
        add_bytes({ 0x0f, static_cast<u8>(0x80 | condition), 0, 0, 0, 0 }, head);
}

// A store to the last byte of a later instruction: its immediate, its displacement, its registers or its opcode.
void Generator::add_store_to_code()
{
    Item item;
    u8 value = static_cast<u8>(m_random());
    if (value == 0xf1) // INT1: see unfit_for_host()
        value = 0x90;
    std::array<u8, 7> const bytes { 0xc6, 0x05, 0, 0, 0, 0, value };
    std::copy(bytes.begin(), bytes.end(), item.code.bytes.begin());
    InstructionBuilder::decode(item.code, m_size);
    item.modifies = static_cast<int>(m_items.size() + 1 + m_random.below(6));
    m_items.push_back(item);
}

// call function; jmp behind; function: ...; ret
void Generator::add_function()
{
    int const here = static_cast<int>(m_items.size());
    add_bytes({ 0xe8, 0, 0, 0, 0 }, here + 2);
    int const jump = static_cast<int>(m_items.size());
    add_bytes({ 0xe9, 0, 0, 0, 0 }, -1);
    add_bytes({ 0x48, 0x90 }); // 64-bit: NOP; else DEC EAX, NOP
    InstructionBuilder::decode(m_items.back().code, m_size);
    Case c;
    for (unsigned tries = 0; tries < 4; ++tries) {
        Item item;
        item.code = m_builder.sample_common(m_size);
        if (!item.code.insn.has_memory && !writes_pointer(item.code.insn) && InstructionBuilder::kind(item.code.insn) == Kind::ordinary && !(general_registers(item.code.insn).written >> rsp & 1))
            m_items.push_back(item);
    }
    if (m_random.one_in(4))
        add_bytes({ 0xc2, static_cast<u8>(m_random.below(3) * 8), 0 });
    else
        add_bytes({ 0xc3 });
    m_items[static_cast<unsigned>(jump)].branch_to = static_cast<int>(m_items.size());
}

// Random branches go forward, at least behind themselves.
void Generator::aim_branches()
{
    int const count = static_cast<int>(m_items.size());
    for (int n = 0; n < count; ++n) {
        auto& item = m_items[static_cast<unsigned>(n)];
        if (item.branch_to == -2)
            item.branch_to = item.code.insn.immediate_size ? std::min(count, n + 1 + static_cast<int>(m_random.below(4))) : -1;
        if (item.modifies >= count)
            item.modifies = count - 1;
    }
}

void Generator::lay_out(Case& c)
{
    // Instructions that do not fit are left out with what follows them.
    std::vector<unsigned> places { 0 };
    for (auto const& item : m_items) {
        unsigned const length = item.code.length();
        if (places.back() + length > c.code.size())
            break;
        std::copy_n(item.code.bytes.begin(), length, &c.code[places.back()]);
        places.push_back(places.back() + length);
    }
    c.code_length = static_cast<u16>(places.back());
    place(c, c.code_length);
    if (c.code_offset >= 0x1f00 - c.code_length && m_random.percent(70))
        c.code_offset = static_cast<u16>(0x1000 - m_random.below(c.code_length + 2u));
    for (unsigned n = 0; n + 1 < places.size(); ++n) {
        auto const& item = m_items[n];
        auto const& insn = item.code.insn;
        u8* const bytes = &c.code[places[n]];
        u64 const behind = c.start() + places[n + 1];
        auto const last = static_cast<int>(places.size()) - 1;
        if (item.branch_to >= 0 && insn.immediate_size) {
            u64 const distance = places[static_cast<unsigned>(std::min(item.branch_to, last))] - u64 { places[n + 1] };
            std::memcpy(bytes + insn.immediate_offset, &distance, insn.immediate_size);
        }
        u64 target = item.rip_target;
        if (item.modifies >= 0)
            target = c.start() + places[static_cast<unsigned>(std::min(item.modifies + 1, last))] - 1;
        if (target == 0)
            continue;
        u64 const distance = m_size == CodeSize::bits64 ? target - behind : target;
        std::memcpy(bytes + insn.modrm_offset + 1, &distance, 4);
    }
}

Case Generator::block(CodeSize size)
{
    m_size = size;
    m_items.clear();
    Case c;
    start_state(c);
    choose_pointers(c);
    unsigned const wanted = 2 + static_cast<unsigned>(m_random.below(m_random.one_in(3) ? 38 : 12));
    bool const modifies = m_random.one_in(6);
    for (unsigned tries = 0; m_items.size() < wanted && tries < 400; ++tries) {
        u64 const choice = m_random.below(100);
        if (choice < 3)
            add_counted_loop(c);
        else if (choice < 5)
            add_function();
        else if (choice < 10 && modifies)
            add_store_to_code();
        else
            add_random(c);
    }
    aim_branches();
    lay_out(c);
    return c;
}

} // namespace anyhyve::random_test
