// Which way hot code goes on behind a jump. Blocks end at jumps; but where the code that follows is hot as well, or the code that is jumped to, and lies in
// the same page, both are translated together: checks and registers are shared, and nothing is asked twice.
#include <algorithm>

#include "engine/soft/byte_copy.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;

// Whether the block may go on `offset` bytes from its start: in its page, with code that is not part of it yet.
bool Translator::may_go_on_at(i64 offset) const
{
    i64 const in_page = static_cast<i64>(m_physical & 0xfff) + offset;
    return in_page >= 0 && in_page < 0x1000 && std::none_of(m_steps, m_steps + m_step_count, [&](Step const& step) { return step.offset == offset; });
}

Translator::Heard Translator::heard_of(i64 offset) const
{
    if (!may_go_on_at(offset))
        return Heard::nothing;
    u64 const physical = m_physical + static_cast<u64>(offset), rip = m_rip + static_cast<u64>(offset);
    return m_cache.is_hot(physical, rip, m_mode) ? Heard::hot : m_cache.find(physical, rip, m_mode) ? Heard::has_run : Heard::nothing;
}

// A jump has been decoded, `offset` is behind it. True: translate on, from there or from elsewhere. What an unconditional jump leads to runs as often
// as the block. Of the two ways that a conditional one may go, the hot one is taken, or else the only one that has ever been.
bool Translator::goes_on(Step& step, i64& offset) const
{
    auto const operation = step.insn.info->operation;
    bool const conditional = operation == Operation::jump_conditional;
    if (!m_hot || !is64() || m_step_count == m_room || (!conditional && operation != Operation::jump_relative))
        return false;
    i64 const target = offset + static_cast<i64>(step.insn.immediate);
    if (target == 0)
        return false; // a loop of its own
    if (conditional) {
        Heard const behind = heard_of(offset), there = heard_of(target);
        if (behind == Heard::hot || behind > there)
            return true;
        if (behind == there)
            return false;
    } else if (!may_go_on_at(target))
        return false;
    step.goes_elsewhere = true;
    offset = target;
    return true;
}

// A loop goes round a few times before it comes back to its start: what its rounds access next to each other shares checks, and one poll does for all.
void Translator::unroll_loop()
{
    constexpr unsigned most_rounds = 4;
    m_round_length = m_step_count;
    if (!m_hot || !is64() || m_block->crosses_page || !loops_to_itself())
        return;
    for (unsigned round = 1; round < most_rounds && m_step_count + m_round_length <= m_room; ++round) {
        m_steps[m_step_count - 1].goes_elsewhere = true;
        copy_bytes(m_steps + m_step_count, m_steps, sizeof(Step) * m_round_length);
        m_step_count += m_round_length;
        m_steps[m_step_count - 1].goes_elsewhere = false;
    }
    find_liveness();
}

// A conditional jump in the midst of the block. Where it leads, the usual registers are wanted.
void Translator::emit_side_exit(Condition condition, u64 target)
{
    Edge* const edge = make_edge(target);
    if (m_plan.usual())
        return emit_edge(edge, m_asm.aligned_jump(condition));
    m_late[m_late_count++] = { .kind = Late::Kind::exit, .from = m_asm.jump_forward(condition), .edge = edge, .flags_in = m_flags_in, .plan = m_plan };
}

} // namespace anyhyve::soft
