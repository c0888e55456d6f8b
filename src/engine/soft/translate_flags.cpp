// The guest's arithmetic flags: which of them matter behind each instruction, and whether they are in the host's RFLAGS or saved.
#include "engine/soft/mode.hpp"
#include "engine/soft/operations.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;

static u16 flags_read(x86::Instruction const& insn)
{
    return has(insn, flags_by_row) ? insn.info->flags_read : x86::arithmetic_flags;
}

static u16 flags_killed(x86::Instruction const& insn)
{
    return has(insn, host_flags) ? insn.info->flags_written : 0;
}

// For stores through registers: where they go if the registers are what they are where the block begins, which is now. They may change on the
// way, so what is near counts: code that writes near itself is rare enough.
bool Translator::may_reach_block(u64 linear) const
{
    constexpr u64 near = 0x1000;
    return mask_rip(linear - m_linear + near) < m_block->guest_size + 2 * near;
}

// A store within the block: what follows it may not be what was decoded, and read flags that the old code overwrites.
bool Translator::may_rewrite_block(Step const& step) const
{
    auto const& insn = step.insn;
    bool const pushes = insn.info->operation == Operation::push || insn.info->operation == Operation::push_immediate;
    if (pushes && may_reach_block(m_cpu.gpr[x86::rsp] + m_cpu.base_of(x86::Segment::ss)))
        return true;
    bool const writes = insn.info->memory == x86::MemoryAccess::write || insn.info->memory == x86::MemoryAccess::read_write;
    if (!insn.has_memory || !writes)
        return false;
    if (insn.base != 0xff || insn.index != 0xff || insn.segment == x86::Segment::fs || insn.segment == x86::Segment::gs)
        return may_reach_block(m_cpu.mmu->effective_address(insn) + m_cpu.base_of(insn.segment));
    if (!is64() && !(m_mode & mode::flat))
        return true; // wherever the segment lies
    u64 const address = static_cast<u64>(insn.displacement) + (insn.rip_relative ? rip_behind(step) : 0);
    u64 const begin = m_hot ? m_linear & ~u64 { 0xfff } : m_linear; // hot code may go on anywhere in its page
    u64 const size = m_hot ? 0x1000 : m_block->guest_size;
    return mask_rip(address - begin) < size || mask_rip(begin - address) < x86::memory_operand_size(insn);
}

void Translator::find_liveness()
{
    u16 live = x86::arithmetic_flags;
    for (unsigned i = m_step_count; i-- > 0;) {
        Step& step = m_steps[i];
        bool const leaves = step.insn.info->operation == Operation::jump_conditional && !is_last(step);
        if (leaves || may_rewrite_block(step))
            live = x86::arithmetic_flags;
        step.live_after = live;
        live = static_cast<u16>((live & ~flags_killed(step.insn)) | flags_read(step.insn));
    }
    m_live_in = live;
}

u16 Translator::live_before(Step const& step)
{
    auto const& info = *step.insn.info;
    return static_cast<u16>((step.live_after & ~info.flags_written) | info.flags_read);
}

// The first thing that happens to the flags is a look-up or a call of ours: better to enter with them in memory.
bool Translator::begins_with_clobber() const
{
    for (unsigned i = 0; i < m_step_count; ++i) {
        auto const& insn = m_steps[i].insn;
        auto const operation = insn.info->operation;
        if (operation == Operation::nop || operation == Operation::lea || (operation == Operation::jump_relative && m_steps[i].goes_elsewhere))
            continue;
        if (insn.has_memory && insn.info->memory != x86::MemoryAccess::none && operation != Operation::jump_conditional)
            return true;
        if (!has(insn, host_flags))
            return operation != Operation::jump_conditional && operation != Operation::jump_relative && operation != Operation::loop && operation != Operation::jump_cx_zero;
        if (insn.info->flags_read || insn.info->flags_written || insn.info->flags_maybe)
            return false;
    }
    return false;
}

void Translator::clobber_flags(u16 live)
{
    if (m_flags_in == FlagsIn::host && live != 0) {
        emit_save_flags(m_asm, m_plan.a);
        m_flags_in = FlagsIn::memory;
    }
}

void Translator::need_host_flags()
{
    if (m_flags_in == FlagsIn::memory) {
        emit_restore_flags(m_asm, m_plan.a);
        m_flags_in = FlagsIn::host;
    }
}

// An instruction that reads flags, or leaves some of the live ones alone, needs them where the host can see them.
void Translator::before(Step const& step)
{
    auto const& info = *step.insn.info;
    u16 const touched = info.flags_read | info.flags_written | info.flags_maybe;
    if (touched == 0 || m_flags_in == FlagsIn::host)
        return;
    u16 const kept = static_cast<u16>((step.live_after & ~info.flags_written) | info.flags_read);
    if (kept != 0)
        need_host_flags();
    else
        m_flags_in = FlagsIn::host;
}

bool Translator::starts_in_memory() const
{
    return m_live_in != 0 && ((m_block->crosses_page && mode::linkable(m_mode)) || begins_with_clobber());
}

} // namespace anyhyve::soft
