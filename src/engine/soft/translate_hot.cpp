// Code where time is spent, translated with more care. Each access remembers the page that it found last in a slot of its own, and accesses to
// neighbouring addresses share one check. Whatever a check does not know, the look-aside table is asked for behind the block; and what that does not
// hold (pages to be walked, devices, operands in two pages, watched code) is done by a second copy of the block's rest, translated as everywhere else.
// So nothing of the runtime is ever called between a check and the accesses that rely on it.
#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::MemoryAccess;
using x86::Operation;
using x86::Segment;

namespace {

constexpr u8 no_base = 0xff;
constexpr i64 most_span = 256; // accesses further apart are checked apart
constexpr u64 page_mask = ~u64 { 0xfff };

bool fits32(i64 value)
{
    return value == static_cast<i32>(value);
}

// Steps whose code calls nothing and changes no more than registers and memory.
bool stays_in_generated_code(x86::Instruction const& insn)
{
    switch (insn.info->operation) {
    case Operation::copy:
    case Operation::nop:
    case Operation::lea:
    case Operation::push:
    case Operation::push_immediate:
    case Operation::pop:
    case Operation::leave:
    case Operation::exchange_accumulator:
    case Operation::move_offset:
    case Operation::bit_test_memory:
    case Operation::jump_conditional:
    case Operation::jump_relative:
    case Operation::jump_indirect:
    case Operation::call_relative:
    case Operation::call_indirect:
    case Operation::return_near:
        return true;
    default:
        return false;
    }
}

bool accesses_operand(x86::Instruction const& insn)
{
    return insn.has_memory && insn.info->memory != MemoryAccess::none;
}

// ADD and SUB of an immediate, INC, DEC, on a 64-bit register: by how much.
bool adds_constant(x86::Instruction const& insn, i64& amount)
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

// MOV of one 64-bit register to another.
bool copies_register(x86::Instruction const& insn, u8& to, u8& from)
{
    if (insn.has_memory || insn.operand_size != 8 || insn.encoding != x86::Encoding::legacy || insn.map != x86::OpcodeMap::primary)
        return false;
    to = insn.opcode == 0x89 ? insn.rm : insn.reg;
    from = insn.opcode == 0x89 ? insn.reg : insn.rm;
    return insn.opcode == 0x89 || insn.opcode == 0x8b;
}

// Registers that must stay in the host's: those that the encoding does not name, and AH to BH.
u16 pinned_registers(x86::Instruction const& insn)
{
    u16 pinned = insn.info->implicit_read | insn.info->implicit_write;
    switch (insn.info->operation) {
    case Operation::leave:
        pinned |= 1 << x86::rbp;
        break;
    case Operation::exchange_accumulator:
    case Operation::move_offset:
        pinned |= 1 << x86::rax;
        break;
    default:
        break;
    }
    auto const high_byte = [&](x86::FieldKind kind, u8 reg) {
        if (kind == x86::FieldKind::gpr8 && insn.rex == 0 && insn.encoding == x86::Encoding::legacy && reg >= 4 && reg < 8)
            pinned |= static_cast<u16>(1 << (reg - 4));
    };
    high_byte(insn.info->reg_kind, insn.reg);
    if (!insn.has_memory)
        high_byte(insn.info->rm_kind, insn.rm);
    return pinned;
}

} // namespace

// Which registers are known to differ by a constant: the same root, each at its offset from it.
struct Translator::Roots {
    static constexpr u16 constant = 0xffff;
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
};

// What the instruction does to the registers.
void Translator::Roots::pass(x86::Instruction const& insn)
{
    i64 const width = insn.operand_size;
    i64 amount = 0;
    u8 to = 0, from = 0;
    if (!stays_in_generated_code(insn)) {
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
        if (insn.operand_size == 8 && insn.address_size == 8 && insn.base < 16 && insn.index == no_base && insn.segment != Segment::fs && insn.segment != Segment::gs)
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

bool Translator::can_be_hot(ModeBits mode)
{
    constexpr ModeBits odd = mode::single_step | mode::watch_data | mode::alignment_check | mode::real_addressing;
    return mode::linkable(mode) && !(mode & odd);
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
        bool const masked = insn.info->masked || insn.evex_aaa != 0 || insn.info->vsib;
        if (insn.segment == Segment::fs || insn.segment == Segment::gs || insn.address_size != 8 || insn.index != no_base || masked || size == 0 || size > 64)
            return false;
        found = { .base = insn.base, .displacement = insn.displacement, .size = size,
            .writes = copied && (insn.info->memory == MemoryAccess::write || insn.info->memory == MemoryAccess::read_write) };
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

void Translator::join_group(unsigned step, Candidate const& access, Roots const& roots)
{
    bool const constant = access.base == no_base;
    u16 const root = constant ? Roots::constant : roots.root[access.base];
    i64 const offset = constant ? 0 : roots.offset[access.base];
    i64 const begin = offset + access.displacement, end = begin + access.size;
    for (unsigned i = m_group_count; i-- > 0;) {
        Group& group = m_groups[i];
        if (group.root != root || group.region != roots.region)
            continue;
        i64 const first = std::min(begin, group.begin), behind = std::max(end, group.end);
        bool const near = constant ? (static_cast<u64>(first) & page_mask) == (static_cast<u64>(behind - 1) & page_mask) : behind - first <= most_span && fits32(first - group.first_offset);
        if (!near)
            continue;
        group.begin = first;
        group.end = behind;
        group.writes |= access.writes;
        ++group.members;
        m_steps[step].group = static_cast<i8>(i);
        return;
    }
    if (m_group_count == most_groups || (!constant && !fits32(access.displacement)))
        return;
    m_groups[m_group_count] = { .writes = access.writes, .constant = constant, .checked = false, .members = 1, .root = root, .region = roots.region, .begin = begin, .end = end,
        .first_offset = offset, .first_base = access.base, .slot = no_slot };
    m_steps[step].group = static_cast<i8>(m_group_count++);
}

// --- registers ---

// Where the block's last instruction jumps back to its first.
bool Translator::loops_to_itself() const
{
    Step const& last = m_steps[m_step_count - 1];
    return last.insn.info->operation == Operation::jump_conditional && mask_rip(rip_behind(last) + last.insn.immediate) == m_rip && m_live_in == 0;
}

// R13-R15 change places with registers that the block hardly uses. Going in and out costs a move for each, but for a block that loops to itself.
void Translator::choose_plan()
{
    if (!m_hot || !is64())
        return;
    unsigned uses[16] {};
    u16 pinned = 1 << x86::rsp;
    m_written = 0;
    for (unsigned i = 0; i < m_step_count; ++i) {
        auto const& insn = m_steps[i].insn;
        if (!stays_in_generated_code(insn))
            return;
        pinned |= pinned_registers(insn);
        auto const used = x86::general_registers(insn);
        m_written |= used.written;
        for (unsigned reg = 0; reg < 16; ++reg)
            uses[reg] += (used.read >> reg & 1u) + (used.written >> reg & 1u);
    }
    unsigned const worth = loops_to_itself() || m_cache.heat() == CodeCache::Heat::always ? 1 : 5; // tests want to see it
    u16 in_memory = 0xe000;
    for (u16 spilled_register = 13; spilled_register < 16; ++spilled_register) {
        int best = -1;
        for (int reg = 12; reg >= 0; --reg) {
            if (!((pinned | in_memory) >> reg & 1) && (best < 0 || uses[reg] < uses[best]))
                best = reg;
        }
        if (best >= 0 && uses[spilled_register] >= uses[best] + worth)
            in_memory = static_cast<u16>((in_memory & ~(1 << spilled_register)) | 1 << best);
    }
    HostRegister free[3] {};
    unsigned count = 0;
    for (HostRegister reg = 16; reg-- > 0;) {
        if (in_memory >> reg & 1)
            free[count++] = reg;
    }
    m_hot_plan = { .in_memory = in_memory, .a = free[2], .address = free[1], .b = free[0] };
    if (m_hot_plan.usual())
        m_hot_plan = {};
}

// From the usual plan. `kept`: r14's value goes to the new address register.
void Translator::enter_plan(RegisterPlan const& plan, AddressRegister address)
{
    ASSERT(m_plan.usual(), "plans are entered from the usual one");
    m_plan = plan;
    if (plan.usual())
        return;
    for (HostRegister reg = 0; reg < first_spilled; ++reg) {
        if (plan.in_memory >> reg & 1)
            m_asm.gs_store(true, gpr_offset(reg), reg);
    }
    if (address == AddressRegister::kept && plan.address != address_register)
        m_asm.mov(plan.address, address_register);
    for (HostRegister reg = first_spilled; reg < 16; ++reg) {
        if (!(plan.in_memory >> reg & 1))
            m_asm.gs_load(true, reg, gpr_offset(reg));
    }
}

// Back to the usual plan; flags stay. `kept`: the address register's value goes to r14.
void Translator::leave_plan(AddressRegister address)
{
    ASSERT(m_stack_pending == 0, "the stack pointer is right where a block ends");
    RegisterPlan const plan = m_plan;
    m_plan = {};
    m_addend_slot = no_slot;
    if (plan.usual())
        return;
    for (HostRegister reg = first_spilled; reg < 16; ++reg) {
        if (!(plan.in_memory >> reg & 1) && (m_written >> reg & 1))
            m_asm.gs_store(true, gpr_offset(reg), reg);
    }
    if (address == AddressRegister::kept && plan.address != address_register)
        m_asm.mov(address_register, plan.address);
    for (HostRegister reg = 0; reg < first_spilled; ++reg) {
        if (plan.in_memory >> reg & 1)
            m_asm.gs_load(true, reg, gpr_offset(reg));
    }
}

// --- the stack pointer ---

// Pushes and pops next to each other move it once, at the end.
void Translator::settle_stack_pointer()
{
    if (m_stack_pending == 0)
        return;
    m_asm.lea(true, x86::rsp, x86::rsp, Assembler::no_register, 1, m_stack_pending);
    m_stack_pending = 0;
}

// Does this step need to find the stack pointer in its place?
bool Translator::minds_stack_pointer(Step const& step) const
{
    auto const& insn = step.insn;
    switch (insn.info->operation) {
    case Operation::push:
    case Operation::pop:
        return step.group < 0 || insn.has_memory || insn.rm == x86::rsp;
    case Operation::push_immediate:
    case Operation::call_relative:
    case Operation::return_near:
        return step.group < 0;
    case Operation::nop:
        return false;
    case Operation::copy:
        if (insn.has_memory)
            return true;
        return may_trap(insn) || ((x86::general_registers(insn).read | x86::general_registers(insn).written) >> x86::rsp & 1);
    default:
        return true;
    }
}

// --- groups of accesses ---

void Translator::find_groups()
{
    m_group_count = 0;
    m_plan = m_hot_plan; // for which registers are at hand
    Roots roots;
    for (unsigned i = 0; i < m_step_count; ++i) {
        m_steps[i].group = -1;
        Candidate access {};
        if (m_hot && is64() && candidate(m_steps[i], access))
            join_group(i, access, roots);
        roots.pass(m_steps[i].insn);
    }
    m_plan = {};
}

// r14 = linear address of `size` bytes. Afterwards r13 is their page, r15 the slot of the look-aside table, and "not equal" says that it does not know.
void Translator::emit_probe(u16 size, Access access)
{
    if (size == 1)
        m_asm.mov(m_plan.a, m_plan.address);
    else
        m_asm.lea(true, m_plan.a, m_plan.address, Assembler::no_register, 1, size - 1);
    m_asm.mov32(m_plan.b, m_plan.address);
    m_asm.shr(false, m_plan.b, 7);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, (tlb_entries - 1) << 5);
    m_asm.arithmetic_imm(Arithmetic::and_, true, m_plan.a, -4096);
    m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.a, access == Access::write ? tlb_write_tag_offset(m_tlb) : tlb_read_tag_offset(m_tlb), m_plan.b);
}

// Where the code in hand goes when a check fails: a look-up behind the block, or the careful copy at once.
void Translator::note_check(JumpSite from, Late::Kind kind, Step const& step, MemoryOperand const& operand, u16 slot)
{
    unsigned const number = static_cast<unsigned>(&step - m_steps);
    m_needs_copy[number] = true;
    m_late[m_late_count++] = { .kind = kind, .from = from, .operand = operand, .resume = m_asm.position(), .slot = slot, .step = static_cast<u8>(number), .flags_in = m_flags_in, .group = -1, .plan = m_plan };
}

// r14 = linear address -> host pointer.
void Translator::emit_site_check(MemoryOperand const& operand)
{
    Step const& step = m_steps[m_current];
    ASSERT(m_stack_pending == 0, "the stack pointer is right where the block may be left");
    m_addend_slot = no_slot;
    count(Counter::site_look_up);
    if (m_cache.wanders(m_physical + step.offset)) {
        emit_probe(operand.size, operand.access);
        note_check(m_asm.jump_forward(Condition::not_equal), Late::Kind::leave, step, operand, no_slot);
        m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, tlb_addend_offset(m_tlb), m_plan.b);
        return;
    }
    u16 const slot = m_cache.take_site_slot(m_tlb, operand.access == Access::write ? SiteKind::write : SiteKind::read);
    m_asm.mov(m_plan.a, m_plan.address);
    m_asm.gs_arithmetic(Arithmetic::sub, true, m_plan.a, site_page_offset(slot));
    m_asm.arithmetic_imm(Arithmetic::cmp, true, m_plan.a, 0x1000 - operand.size);
    note_check(m_asm.jump_forward(Condition::above), Late::Kind::refill, step, operand, slot);
    m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, site_addend_offset(slot));
}

// r14 = where the group's first byte is.
void Translator::emit_group_address(Group const& group)
{
    if (group.constant)
        m_asm.mov_imm(m_plan.address, static_cast<u64>(group.begin));
    else
        m_asm.lea(true, m_plan.address, group.first_base, Assembler::no_register, 1, static_cast<i32>(group.begin - group.first_offset));
}

// Afterwards r15 is what leads from linear addresses of the group to the host's.
void Translator::emit_group_check(Step const& step, Group& group)
{
    u16 const span = static_cast<u16>(group.end - group.begin);
    count(Counter::site_look_up);
    MemoryOperand const operand { .segment = Segment::ds, .size = span, .access = group.writes ? Access::write : Access::read, .reads = true };
    group.slot = m_cache.take_site_slot(m_tlb, group.constant ? (group.writes ? SiteKind::constant_write : SiteKind::constant_read) : group.writes ? SiteKind::write : SiteKind::read);
    if (m_cache.wanders(m_physical + step.offset)) {
        emit_group_address(group);
        emit_probe(span, operand.access);
        note_check(m_asm.jump_forward(Condition::not_equal), Late::Kind::leave, step, operand, no_slot);
        m_asm.gs_load(true, m_plan.b, tlb_addend_offset(m_tlb), m_plan.b);
        if (group.constant)
            m_asm.arithmetic(Arithmetic::add, true, m_plan.b, m_plan.a);
        if (group.members == 1)
            return;
        m_asm.gs_store(true, site_page_offset(group.slot), m_plan.a); // whoever shares the slot finds both parts of one page
        m_asm.gs_store(true, site_addend_offset(group.slot), m_plan.b);
        m_asm.gs_store_imm8(sites_used_offset(group.slot), 1);
        return;
    }
    Condition miss = Condition::not_equal;
    if (group.constant) {
        i64 const page = static_cast<i64>(static_cast<u64>(group.begin) & page_mask);
        if (fits32(page))
            m_asm.gs_compare_signed(site_page_offset(group.slot), static_cast<i32>(page));
        else {
            m_asm.mov_imm(m_plan.a, static_cast<u64>(page));
            m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.a, site_page_offset(group.slot));
        }
    } else {
        m_asm.lea(true, m_plan.a, group.first_base, Assembler::no_register, 1, static_cast<i32>(group.begin - group.first_offset));
        m_asm.gs_arithmetic(Arithmetic::sub, true, m_plan.a, site_page_offset(group.slot));
        m_asm.arithmetic_imm(Arithmetic::cmp, true, m_plan.a, 0x1000 - span);
        miss = Condition::above;
    }
    note_check(m_asm.jump_forward(miss), Late::Kind::refill, step, operand, group.slot);
    m_late[m_late_count - 1].group = static_cast<i8>(&group - m_groups);
    m_asm.gs_load(true, m_plan.b, site_addend_offset(group.slot));
}

Translator::Reference Translator::emit_group_member(Step const& step, Group& group, Candidate const& access)
{
    if (!group.checked) {
        settle_stack_pointer();
        clobber_flags(live_before(step));
        emit_group_check(step, group);
        group.checked = true;
    } else if (m_addend_slot != group.slot)
        m_asm.gs_load(true, m_plan.b, site_addend_offset(group.slot));
    m_addend_slot = group.slot;
    if (group.constant)
        return { nullptr, HostMemory(m_plan.b, HostMemory::no_register, static_cast<i32>(access.displacement & 0xfff)) };
    i32 const pending = access.base == x86::rsp ? m_stack_pending : 0;
    return { nullptr, HostMemory(access.base, m_plan.b, static_cast<i32>(access.displacement) + pending) };
}

// --- behind the block ---

// What the slot does not know, the look-aside table may.
void Translator::emit_refill(Late const& late)
{
    bool const constant = late.group >= 0 && m_groups[late.group].constant;
    m_plan = late.plan;
    if (late.group >= 0)
        emit_group_address(m_groups[late.group]);
    auto* const site = m_cache.make<HotSite>();
    ASSERT(site, "the cache had room for a block");
    *site = { .block = m_block, .physical = m_physical + m_steps[late.step].offset, .resume = nullptr, .slot = late.slot };
    count(Counter::site_miss);
    u8* const again = m_asm.position();
    emit_probe(late.operand.size, late.operand.access);
    JumpSite const unknown = m_asm.jump_forward(Condition::not_equal);
    m_asm.gs_decrement(site_patience_offset(late.slot));
    JumpSite const impatient = m_asm.jump_forward(Condition::sign);
    m_asm.gs_load(true, m_plan.b, tlb_addend_offset(m_tlb), m_plan.b);
    if (constant)
        m_asm.arithmetic(Arithmetic::add, true, m_plan.b, m_plan.a);
    m_asm.gs_store(true, site_addend_offset(late.slot), m_plan.b);
    m_asm.gs_store(true, site_page_offset(late.slot), m_plan.a);
    m_asm.gs_store_imm8(sites_used_offset(late.slot), 1);
    m_asm.jump(late.resume);
    m_asm.bind(impatient);
    leave_plan(AddressRegister::kept);
    // SAFETY: records lie below 2 GiB.
    m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(site));
    jump_to_thunk(m_thunks.site_misses);
    site->resume = here();
    enter_plan(late.plan, AddressRegister::kept);
    m_asm.jump(again);
    m_asm.bind(unknown);
    emit_leave_for_copy(late);
}

// The instruction begins once more, in the careful copy.
void Translator::emit_leave_for_copy(Late const& late)
{
    m_plan = late.plan;
    if (late.flags_in == FlagsIn::memory && m_copy_flags[late.step] == FlagsIn::host)
        emit_restore_flags(m_asm, m_plan.a);
    leave_plan();
    m_asm.jump(m_copy_label[late.step]);
}

// From the first instruction with a check on.
void Translator::emit_careful_copy()
{
    unsigned first = 0;
    while (first < m_step_count && !m_needs_copy[first])
        ++first;
    if (first == m_step_count)
        return;
    for (unsigned i = 0; i < m_late_count; ++i) {
        if ((m_late[i].kind == Late::Kind::refill || m_late[i].kind == Late::Kind::leave) && m_late[i].step == first)
            m_flags_in = m_late[i].flags_in;
    }
    m_hot = false;
    m_ended = false;
    m_plan = {};
    m_stack_pending = 0;
    emit_steps(first);
}

} // namespace anyhyve::soft
