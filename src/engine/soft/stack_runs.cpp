// Accesses relative to the stack pointer, in code that is not hot: those of a block lie near each other, and share one look at the stack's page
// (StackPage in cpu.hpp). Its addend stays good from there on: no access between them may change it and come back. One that does, or that
// needs more than one page of RAM, begins once more in a careful translation, which looks everything up by itself; so does a run whose bytes are not
// all in a page that is known to be writable.
#include <algorithm>

#include "engine/soft/mode.hpp"
#include "engine/soft/operations.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;

constexpr i64 most_span = 256; // the longer, the more often in two pages

bool Translator::stack_access(Step const& step, Candidate& found) const
{
    auto const& insn = step.insn;
    bool const copied = insn.info->operation == Operation::copy;
    return allowed(insn) && !device_not_available(insn) && (copied || !insn.has_memory) && candidate(step, found) && found.base == x86::rsp && found.index == 0xff && fits32(found.displacement);
}

// False: behind the step nothing is known of the stack pointer or the stack's page.
bool Translator::follows_stack(Step const& step, i64& stack) const
{
    auto const& insn = step.insn;
    if (!has(insn, stays_in_code) || !allowed(insn) || device_not_available(insn))
        return false;
    i64 amount = 0;
    switch (insn.info->operation) {
    case Operation::push:
    case Operation::push_immediate:
        stack -= insn.operand_size;
        return true;
    case Operation::pop:
        stack += insn.operand_size;
        return !insn.has_memory && insn.rm != x86::rsp;
    case Operation::leave:
        return false;
    case Operation::copy:
        if (adds_constant(insn, amount) && insn.rm == x86::rsp) {
            stack += amount;
            return true;
        }
        break;
    default:
        break;
    }
    return !(x86::general_registers(insn).written >> x86::rsp & 1);
}

// A run of one is no better than an access with a look-up of its own, unless it is a push: what misses then is short.
void Translator::close_stack_run()
{
    Group const& run = m_groups[m_group_count - 1];
    if (run.members > 1 || run.writes)
        return;
    m_steps[run.first_step].group = -1;
    --m_group_count;
}

// False: too far from the run's other accesses.
bool Translator::join_stack_run(unsigned step, i64 begin, Candidate const& access)
{
    Group& run = m_groups[m_group_count - 1];
    i64 const first = std::min(begin, run.begin), end = std::max(begin + access.size, run.end);
    if (run.members != 0 && end - first > most_span)
        return false;
    run.begin = first;
    run.end = end;
    run.writes |= access.writes;
    run.last_step = static_cast<u8>(step);
    ++run.members;
    m_steps[step].group = static_cast<i8>(m_group_count - 1);
    return true;
}

void Translator::open_stack_run(unsigned step, i64 begin)
{
    m_groups[m_group_count++] = { .writes = false, .constant = false, .checked = false, .members = 0, .root = x86::rsp, .index_root = 0xffff, .scale = 1, .region = 0, .begin = begin, .end = begin,
        .check_at = static_cast<u8>(step), .first_step = static_cast<u8>(step), .first_offset = 0, .first_base = x86::rsp, .first_index = 0xff, .slot = stack_slot, .last_step = static_cast<u8>(step) };
}

void Translator::find_stack_runs()
{
    if (m_mode & (mode::single_step | mode::alignment_check | mode::careful))
        return;
    bool open = false;
    i64 stack = 0; // the stack pointer, from where it was before the run
    for (unsigned i = 0; i < m_step_count; ++i) {
        Candidate access {};
        if (stack_access(m_steps[i], access) && !(open && join_stack_run(i, stack + access.displacement, access))) {
            if (open)
                close_stack_run();
            stack = 0;
            open_stack_run(i, access.displacement);
            open = join_stack_run(i, access.displacement, access);
        }
        if (open && !follows_stack(m_steps[i], stack)) {
            close_stack_run();
            open = false;
        }
    }
    if (open)
        close_stack_run();
}

// Afterwards r15 is what leads from linear addresses of the run to the host's.
void Translator::emit_stack_run_check(Group const& run)
{
    auto* const site = m_cache.make<StackSite>();
    ASSERT(site, "the cache had room for a block");
    count(Counter::stack_look_up);
    i32 const begin = static_cast<i32>(run.begin), span = static_cast<i32>(run.end - run.begin);
    m_asm.lea(true, m_plan.a, x86::rsp, Assembler::no_register, 1, begin);
    m_asm.gs_arithmetic(Arithmetic::sub, true, m_plan.a, stack_page_offset(m_tlb));
    m_asm.arithmetic_imm(Arithmetic::cmp, true, m_plan.a, 0x1000 - span);
    m_late[m_late_count++] = { .kind = Late::Kind::stack_run, .from = m_asm.jump_forward(Condition::above), .stack_site = site };
    *site = { .rip = rip_of(m_steps[m_current]), .resume = here(), .careful = nullptr, .begin = begin, .last = span - 1, .flags_in_memory = m_flags_in == FlagsIn::memory };
    m_asm.gs_load(true, m_plan.b, stack_addend_offset(m_tlb));
    m_run_end = run.last_step;
}

} // namespace anyhyve::soft
