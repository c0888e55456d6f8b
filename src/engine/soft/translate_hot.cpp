// Code where time is spent, translated with more care. Each access remembers the page that it found last, or the run of pages, in a slot of its own,
// and accesses to neighbouring addresses share one check. What becomes of those that do not find what they remember: hot_misses.cpp.
#include <algorithm>

#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Segment;

// Which of RunSlot::end an access of so many bytes needs.
static unsigned size_class(u16 size)
{
    return size <= run_size_classes[0] ? 0 : size <= run_size_classes[1] ? 1 : 2;
}
u32 Translator::addend_offset(u16 slot) const
{
    if (slot == stack_slot)
        return stack_addend_offset(m_tlb);
    return is_run_slot(slot) ? run_addend_offset(slot) : site_addend_offset(slot);
}

bool Translator::can_be_hot(ModeBits mode)
{
    constexpr ModeBits odd = mode::single_step | mode::alignment_check | mode::real_addressing | mode::careful;
    return mode::linkable(mode) && !(mode & odd);
}

// Where the code in hand goes when a check fails: a look-up behind the block, or the careful copy at once.
void Translator::note_check(JumpSite from, Late::Kind kind, Step const& step, MemoryOperand const& operand, u16 slot)
{
    unsigned const number = static_cast<unsigned>(&step - m_steps);
    m_needs_copy[number] = true;
    m_late[m_late_count++] = { .kind = kind, .from = from, .operand = operand, .resume = m_asm.position(), .slot = slot, .step = static_cast<u8>(number), .flags_in = m_flags_in, .group = -1, .plan = m_plan };
}

// Are accesses still to come that go where a check made before has found their page?
bool Translator::is_relied_on(u16 slot) const
{
    return std::any_of(m_groups, m_groups + m_group_count, [&](Group const& group) { return group.checked && group.slot == slot && group.last_step >= m_current; });
}

// There are fewer slots for runs than a block may have groups, but not of the others.
u16 Translator::take_slot(Step const& step, Access access)
{
    static_assert(most_groups <= fewest_site_slots);
    SiteKind const kind = access == Access::write ? SiteKind::write : SiteKind::read;
    u64 const physical = m_physical + static_cast<u64>(i64 { step.offset });
    if (m_cache.strays(physical) && !m_cache.wanders(physical)) {
        u16 const slot = m_cache.take_run_slot(m_tlb, kind);
        if (!is_relied_on(slot))
            return slot;
    }
    for (;;) {
        u16 const slot = m_cache.take_site_slot(m_tlb, kind);
        if (!is_relied_on(slot))
            return slot;
    }
}

// The rounds of a loop find the same page, mostly: the same accesses of the next round get the slot of those of the last, once these are done.
u16 Translator::take_group_slot(Group const& group)
{
    Step const& step = m_steps[group.first_step];
    if (group.constant)
        return m_cache.take_site_slot(m_tlb, group.writes ? SiteKind::constant_write : SiteKind::constant_read);
    for (Group const& other : std::span(m_groups).first(static_cast<std::size_t>(&group - m_groups))) {
        if (other.checked && !other.constant && other.writes == group.writes && m_steps[other.first_step].offset == step.offset && !is_relied_on(other.slot))
            return other.slot;
    }
    return take_slot(step, group.writes ? Access::write : Access::read);
}

// r13 = linear address. Jumps when the slot's page or run does not hold all of the access.
JumpSite Translator::emit_slot_compare(u16 slot, u16 size)
{
    if (is_run_slot(slot)) {
        m_asm.gs_arithmetic(Arithmetic::sub, true, m_plan.a, run_first_offset(slot));
        m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.a, run_end_offset(slot, size_class(size)));
        return m_asm.jump_forward(Condition::above_or_equal);
    }
    m_asm.gs_arithmetic(Arithmetic::sub, true, m_plan.a, site_page_offset(slot));
    m_asm.arithmetic_imm(Arithmetic::cmp, true, m_plan.a, 0x1000 - size);
    return m_asm.jump_forward(Condition::above);
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
        note_check(m_asm.jump_forward(Condition::not_equal), Late::Kind::wanderer, step, operand, no_slot);
        m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, tlb_addend_offset(m_tlb), m_plan.b);
        m_late[m_late_count - 1].resume = m_asm.position();
        return;
    }
    u16 const slot = take_slot(step, operand.access);
    m_asm.mov(m_plan.a, m_plan.address);
    JumpSite const miss = emit_slot_compare(slot, operand.size);
    note_check(miss, Late::Kind::refill, step, operand, slot);
    m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, addend_offset(slot));
}

// r14 = where the group's first byte is.
void Translator::emit_group_address(Group const& group)
{
    if (group.constant)
        m_asm.mov_imm(m_plan.address, static_cast<u64>(group.begin));
    else
        m_asm.lea(true, m_plan.address, group.first_base, group.first_index, group.scale, static_cast<i32>(group.begin - group.first_offset));
}

// Afterwards r15 is what leads from linear addresses of the group to the host's.
void Translator::emit_group_check(Step const& step, Group& group)
{
    if (group.slot == stack_slot)
        return emit_stack_run_check(group);
    u16 const span = static_cast<u16>(group.end - group.begin);
    count(Counter::site_look_up);
    MemoryOperand const operand { .segment = Segment::ds, .size = span, .access = group.writes ? Access::write : Access::read, .reads = true };
    bool const wanders = m_cache.wanders(m_physical + m_steps[group.first_step].offset);
    group.slot = take_group_slot(group);
    if (wanders) {
        emit_group_address(group);
        emit_probe(span, operand.access);
        note_check(m_asm.jump_forward(Condition::not_equal), Late::Kind::wanderer, step, operand, no_slot);
        m_late[m_late_count - 1].group = static_cast<i8>(&group - m_groups);
        m_asm.gs_load(true, m_plan.b, tlb_addend_offset(m_tlb), m_plan.b);
        m_late[m_late_count - 1].resume = m_asm.position();
        if (group.constant)
            m_asm.arithmetic(Arithmetic::add, true, m_plan.b, m_plan.a);
        if (group.members == 1 && group.check_at == group.first_step)
            return;
        m_asm.gs_store(true, site_page_offset(group.slot), m_plan.a); // whoever shares the slot finds both parts of one page
        m_asm.gs_store(true, site_addend_offset(group.slot), m_plan.b);
        m_asm.gs_store_imm8(sites_used_offset(group.slot), 1);
        return;
    }
    JumpSite miss;
    if (group.constant) {
        i64 const page = static_cast<i64>(static_cast<u64>(group.begin) & page_mask);
        if (fits32(page))
            m_asm.gs_compare_signed(site_page_offset(group.slot), static_cast<i32>(page));
        else {
            m_asm.mov_imm(m_plan.a, static_cast<u64>(page));
            m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.a, site_page_offset(group.slot));
        }
        miss = m_asm.jump_forward(Condition::not_equal);
    } else {
        i32 const distance = static_cast<i32>(group.begin - group.first_offset);
        if (group.first_index != Assembler::no_register) {
            emit_group_address(group);
            m_asm.mov(m_plan.a, m_plan.address);
        } else if (distance == 0)
            m_asm.mov(m_plan.a, group.first_base);
        else
            m_asm.lea(true, m_plan.a, group.first_base, Assembler::no_register, 1, distance);
        miss = emit_slot_compare(group.slot, span);
    }
    note_check(miss, Late::Kind::refill, step, operand, group.slot);
    m_late[m_late_count - 1].group = static_cast<i8>(&group - m_groups);
    if (group.check_at == group.first_step)
        m_asm.gs_load(true, m_plan.b, addend_offset(group.slot));
}

// Those whose place is before this step, but whose accesses come later.
void Translator::emit_early_checks()
{
    for (unsigned i = 0; i < m_group_count; ++i) {
        Group& group = m_groups[i];
        if (group.check_at != m_current || group.first_step == m_current)
            continue;
        settle_stack_pointer();
        emit_group_check(m_steps[m_current], group);
        group.checked = true;
        m_addend_slot = no_slot;
    }
}

Translator::Reference Translator::emit_group_member(Step const& step, Group& group, Candidate const& access)
{
    bool const first = !group.checked;
    if (first) {
        settle_stack_pointer();
        clobber_flags(live_before(step));
        emit_group_check(step, group);
        group.checked = true;
    } else if (m_addend_slot != group.slot)
        m_asm.gs_load(true, m_plan.b, addend_offset(group.slot));
    m_addend_slot = group.members == 1 ? no_slot : group.slot;
    if (group.constant)
        return { nullptr, HostMemory(m_plan.b, HostMemory::no_register, static_cast<i32>(access.displacement & 0xfff)) };
    i32 const pending = access.base == x86::rsp ? m_stack_pending : 0;
    if (access.index != Assembler::no_register) {
        // Three registers are more than an operand can name. Where the check has just been made, the first two are in one.
        if (first)
            return { nullptr, HostMemory(m_plan.address, m_plan.b, static_cast<i32>(access.displacement - (group.begin - group.first_offset))) };
        m_asm.lea(true, m_plan.address, access.base, access.index, access.scale, static_cast<i32>(access.displacement) + pending);
        return { nullptr, HostMemory(m_plan.address, m_plan.b, 0) };
    }
    return { nullptr, HostMemory(access.base, m_plan.b, static_cast<i32>(access.displacement) + pending) };
}

} // namespace anyhyve::soft
