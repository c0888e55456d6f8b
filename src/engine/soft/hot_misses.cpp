// What follows a failed check of hot code, behind the block. The look-aside tables are asked, of ordinary and of large pages, then the page tables, where
// looking changes nothing. What is left (faults, first uses, devices, operands in two pages, watched code) is done by a second copy of the block's
// rest, translated as everywhere else. So nothing that could drop what a check relied on ever happens between it and its accesses.
#include <algorithm>

#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

// r14 = linear address of `size` bytes. Afterwards r13 is their large page, r15 its slot, and "not equal" says that it is not known.
void Translator::emit_large_probe(u16 size, Access access)
{
    emit_page_of(size, large_page_mask);
    m_asm.mov32(m_plan.b, m_plan.address);
    m_asm.shr(false, m_plan.b, 16);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, (large_tlb_entries - 1) << 5);
    m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.a, large_tag_offset(m_tlb, access), m_plan.b);
}

// An access that has no slot.
void Translator::emit_wanderer(Late const& late)
{
    m_plan = late.plan;
    bool const grouped = late.group >= 0;
    if (!grouped || !m_groups[late.group].constant) {
        emit_large_probe(late.operand.size, late.operand.access);
        JumpSite const unknown = m_asm.jump_forward(Condition::not_equal);
        if (grouped) {
            m_asm.gs_load(true, m_plan.b, large_addend_offset(m_tlb), m_plan.b);
            emit_page_of(late.operand.size);
        } else
            m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, large_addend_offset(m_tlb), m_plan.b);
        m_asm.jump(late.resume);
        m_asm.bind(unknown);
    }
    emit_leave_for_copy(late);
}

// r15 = slot of a look-aside table, whose fields are there.
void Translator::emit_fill_run(u16 slot, u32 addend_offset, u32 run_offset)
{
    m_asm.gs_load(true, m_plan.a, addend_offset, m_plan.b);
    m_asm.gs_store(true, run_addend_offset(slot), m_plan.a);
    m_asm.gs_load(true, m_plan.a, run_offset, m_plan.b);
    m_asm.mov32(m_plan.b, m_plan.a);
    m_asm.arithmetic_imm(Arithmetic::and_, true, m_plan.a, -4096);
    m_asm.gs_store(true, run_first_offset(slot), m_plan.a);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, 0xfff);
    m_asm.shl(false, m_plan.b, 12);
    u32 taken = 0;
    for (unsigned i = 0; i < 3; ++i) {
        m_asm.arithmetic_imm(Arithmetic::add, true, m_plan.b, static_cast<i32>(i == 0 ? 0x1000 + 1 - run_size_classes[0] : taken - run_size_classes[i]));
        m_asm.gs_store(true, run_end_offset(slot, i), m_plan.b);
        taken = run_size_classes[i];
    }
}

// r13 = a page, r15 = what leads from it to the host's.
void Translator::emit_fill_page(u16 slot)
{
    m_asm.gs_store(true, site_addend_offset(slot), m_plan.b);
    m_asm.gs_store(true, site_page_offset(slot), m_plan.a);
}

// The slot is about to be filled, unless that has happened so often that somebody should look into it.
JumpSite Translator::emit_patience(u16 slot)
{
    m_asm.gs_decrement(site_patience_offset(slot));
    return m_asm.jump_forward(Condition::sign);
}

void Translator::emit_resume(Late const& late)
{
    m_asm.gs_store_imm8(sites_used_offset(late.slot), 1);
    m_asm.jump(late.resume);
}

// A run has been missed. Large pages come first, since they are what makes runs long without a search.
void Translator::emit_refill_run(Late const& late, JumpSite (&impatient)[2], JumpSite& unknown)
{
    emit_large_probe(late.operand.size, late.operand.access);
    JumpSite const small = m_asm.jump_forward(Condition::not_equal);
    impatient[0] = emit_patience(late.slot);
    emit_fill_run(late.slot, large_addend_offset(m_tlb), large_run_offset(m_tlb));
    emit_resume(late);
    m_asm.bind(small);
    emit_probe(late.operand.size, late.operand.access);
    unknown = m_asm.jump_forward(Condition::not_equal);
    impatient[1] = emit_patience(late.slot);
    emit_fill_run(late.slot, tlb_addend_offset(m_tlb), tlb_run_offset(m_tlb));
    emit_resume(late);
}

void Translator::emit_refill_page(Late const& late, JumpSite (&impatient)[2], JumpSite& unknown)
{
    emit_probe(late.operand.size, late.operand.access);
    JumpSite const other = m_asm.jump_forward(Condition::not_equal);
    impatient[0] = emit_patience(late.slot);
    m_asm.gs_load(true, m_plan.b, tlb_addend_offset(m_tlb), m_plan.b);
    emit_fill_page(late.slot);
    emit_resume(late);
    m_asm.bind(other);
    emit_large_probe(late.operand.size, late.operand.access);
    unknown = m_asm.jump_forward(Condition::not_equal);
    impatient[1] = emit_patience(late.slot);
    m_asm.gs_load(true, m_plan.b, large_addend_offset(m_tlb), m_plan.b);
    emit_page_of(late.operand.size);
    emit_fill_page(late.slot);
    emit_resume(late);
}

// The page that a constant address is in: what the slot holds leads from nought.
void Translator::emit_refill_constant(Late const& late, JumpSite (&impatient)[2], JumpSite& unknown)
{
    emit_probe(late.operand.size, late.operand.access);
    unknown = m_asm.jump_forward(Condition::not_equal);
    impatient[0] = emit_patience(late.slot);
    m_asm.gs_load(true, m_plan.b, tlb_addend_offset(m_tlb), m_plan.b);
    m_asm.arithmetic(Arithmetic::add, true, m_plan.b, m_plan.a);
    emit_fill_page(late.slot);
    emit_resume(late);
}

// What the slot does not know, the look-aside tables may.
void Translator::emit_refill(Late const& late)
{
    bool const constant = late.group >= 0 && m_groups[late.group].constant;
    m_plan = late.plan;
    if (late.group >= 0)
        emit_group_address(m_groups[late.group]);
    auto* const site = m_cache.make<HotSite>();
    ASSERT(site, "the cache had room for a block");
    *site = { .block = m_block, .physical = m_physical + m_steps[late.group >= 0 ? m_groups[late.group].first_step : late.step].offset, .slot = late.slot, .size = late.operand.size, .access = late.operand.access, .constant = constant };
    count(Counter::site_miss);
    u8* const again = m_asm.position();
    JumpSite impatient[2], unknown;
    if (constant)
        emit_refill_constant(late, impatient, unknown);
    else if (is_run_slot(late.slot))
        emit_refill_run(late, impatient, unknown);
    else
        emit_refill_page(late, impatient, unknown);
    for (unsigned i = 0; i < (constant ? 1u : 2u); ++i)
        m_asm.bind(impatient[i]);
    emit_call_for_site(site, m_thunks.site_misses);
    m_plan = late.plan;
    m_asm.bind(unknown);
    emit_call_for_site(site, m_thunks.find_page);
    site->resume = here();
    enter_plan(late.plan, AddressRegister::kept);
    m_asm.jump(again);
    site->leave = here();
    m_plan = {};
    emit_restore_flags_for_copy(late);
    m_asm.jump(m_copy_label[late.step]);
}

void Translator::emit_call_for_site(HotSite* site, u8* thunk)
{
    leave_plan(AddressRegister::kept);
    // SAFETY: records lie below 2 GiB.
    m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(site));
    jump_to_thunk(thunk);
}

void Translator::emit_restore_flags_for_copy(Late const& late)
{
    if (late.flags_in == FlagsIn::memory && m_copy_flags[late.step] == FlagsIn::host)
        emit_restore_flags(m_asm, m_plan.a);
}

// The instruction begins once more, in the careful copy.
void Translator::emit_leave_for_copy(Late const& late)
{
    m_plan = late.plan;
    emit_restore_flags_for_copy(late);
    leave_plan();
    m_asm.jump(m_copy_label[late.step]);
}

// Do the same flags count in all rounds of a loop?
bool Translator::rounds_are_alike() const
{
    unsigned const last_round = m_step_count - m_round_length;
    for (unsigned i = 0; i < last_round; ++i) {
        if (live_before(m_steps[i]) != live_before(m_steps[last_round + i % m_round_length]))
            return false;
    }
    return true;
}

// From the first instruction with a check on. The rounds of a loop share the last one's copy: from there it goes on with the loop's start.
void Translator::emit_careful_copy()
{
    unsigned const last_round = rounds_are_alike() ? m_step_count - m_round_length : 0;
    auto const copied_as = [&](unsigned step) { return step < last_round ? last_round + step % m_round_length : step; };
    unsigned first = m_step_count;
    for (unsigned i = 0; i < m_step_count; ++i) {
        if (m_needs_copy[i])
            first = std::min(first, copied_as(i));
    }
    if (first == m_step_count)
        return;
    for (unsigned i = 0; i < m_late_count; ++i) {
        if ((m_late[i].kind == Late::Kind::refill || m_late[i].kind == Late::Kind::wanderer) && copied_as(m_late[i].step) == first)
            m_flags_in = m_late[i].flags_in;
    }
    m_hot = false;
    m_ended = false;
    m_plan = {};
    m_stack_pending = 0;
    emit_steps(first);
    for (unsigned i = 0; i < last_round; ++i) {
        m_copy_label[i] = m_copy_label[copied_as(i)];
        m_copy_flags[i] = m_copy_flags[copied_as(i)];
    }
}

} // namespace anyhyve::soft
