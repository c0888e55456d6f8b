// The frame of a block's translation: entry, instructions by kind, and the code behind the block.
#include "engine/soft/translator.hpp"

#include <algorithm>

#include "engine/soft/byte_copy.hpp"
#include "engine/soft/cpuid.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/operations.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/vector_state.hpp"
#include "engine/soft/vendor.hpp"

namespace anyhyve::soft {

using x86::CodeSize;
using x86::Operation;

u64 Translator::mask_rip(u64 rip) const
{
    return is64() ? rip : rip & 0xffffffff;
}

// Every loop of blocks has a jump backwards or an indirect one in it: those blocks look for events.
bool Translator::polls() const
{
    if (m_mode & mode::single_step)
        return false;
    return std::any_of(m_steps, m_steps + m_step_count, [this](Step const& step) {
        auto const& insn = step.insn;
        switch (insn.info->operation) {
        case Operation::jump_conditional:
        case Operation::jump_relative:
        case Operation::call_relative:
        case Operation::loop:
        case Operation::jump_cx_zero:
            return mask_rip(rip_behind(step) + insn.immediate) <= rip_of(step) || m_rip > rip_behind(step);
        case Operation::jump_indirect:
        case Operation::call_indirect:
        case Operation::return_near:
            return true;
        default:
            return false;
        }
    });
}

void Translator::emit_entry()
{
    bool const poll = polls();
    bool const guard_tail = m_block->crosses_page && mode::linkable(m_mode);
    bool const start_in_memory = starts_in_memory();
    m_flags_in = start_in_memory ? FlagsIn::memory : FlagsIn::host;
    m_block->code_begin = here();
    if (m_live_in == 0) {
        m_block->entry_host = m_block->entry_memory = here();
    } else if (start_in_memory) {
        m_block->entry_host = here();
        emit_save_flags(m_asm, m_plan.a);
        m_block->entry_memory = here();
    } else {
        m_block->entry_memory = here();
        emit_restore_flags(m_asm, m_plan.a);
        m_block->entry_host = here();
    }
    if (guard_tail)
        emit_tail_guard();
    enter_plan(m_hot_plan);
    if (!poll)
        return;
    // Going round within the block, flags are dead or in the host where it begins.
    if (m_hot && !start_in_memory)
        m_loop_head = m_asm.position();
    if (m_live_in != 0 && !start_in_memory)
        return emit_poll_keeping_flags();
    m_asm.gs_compare_imm8(false, poll_offset(), 0);
    m_late[m_late_count++] = { .kind = Late::Kind::poll, .from = m_asm.jump_forward(Condition::not_equal), .flags_in = FlagsIn::memory, .plan = m_plan };
}

// JRCXZ looks at no flags and changes none.
void Translator::emit_poll_keeping_flags()
{
    m_asm.mov(m_plan.a, x86::rcx);
    m_asm.gs_load(false, x86::rcx, poll_offset());
    m_asm.jump_if_rcx_zero(5);
    m_late[m_late_count++] = { .kind = Late::Kind::poll, .from = m_asm.jump_forward(), .flags_in = FlagsIn::host, .plan = m_plan };
    m_asm.mov(x86::rcx, m_plan.a);
}

// A block whose last instruction ends in the next page runs only while that page lies where it was translated from.
void Translator::emit_tail_guard()
{
    u64 const next_page = (m_linear & ~u64 { 0xfff }) + 0x1000;
    unsigned const slot = code_tlb_slot(next_page);
    m_asm.mov_imm(m_plan.b, Mmu::code_guard(next_page, m_block->second_physical));
    m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.b, code_tlb_offset(m_tlb) + slot * 8);
    m_late[m_late_count++] = { .kind = Late::Kind::tail, .from = m_asm.jump_forward(Condition::not_equal) };
}

// VPINSRQ and VPEXTRQ outside of 64-bit code: Intel ignores VEX.W (SDM vol. 2, PINSRD and PEXTRD, note 1), AMD does not have them there.
static bool is_quadword_transfer(x86::Instruction const& insn)
{
    return insn.encoding == x86::Encoding::vex && insn.map == x86::OpcodeMap::map_0f3a && insn.vex_w && (insn.opcode == 0x16 || insn.opcode == 0x22);
}

bool Translator::allowed(x86::Instruction const& insn) const
{
    using x86::Unit;
    if (insn.info->operation == Operation::undefined || !m_cpu.cpuid->has(insn.info->feature))
        return false;
    if (!is64() && is_quadword_transfer(insn) && cpu_vendor() == Vendor::amd)
        return false;
    bool const vector = insn.encoding != x86::Encoding::legacy && insn.info->unit != Unit::integer;
    if (insn.encoding != x86::Encoding::legacy && (m_mode & mode::real_addressing))
        return false;
    switch (insn.info->unit) {
    case Unit::integer:
    case Unit::x87:
        return true;
    case Unit::mmx:
        return !(m_mode & mode::fpu_emulation);
    case Unit::sse:
        if (vector)
            return (m_mode & mode::avx_enabled) != 0;
        return (m_mode & mode::sse_enabled) && !(m_mode & mode::fpu_emulation);
    case Unit::avx:
        return (m_mode & mode::avx_enabled) != 0;
    case Unit::avx512:
        return (m_mode & mode::avx512_enabled) != 0;
    }
    return false;
}

bool Translator::device_not_available(x86::Instruction const& insn) const
{
    using x86::Unit;
    bool const wait = insn.map == x86::OpcodeMap::primary && insn.opcode == 0x9b;
    if (wait)
        return (m_mode & mode::monitor_fpu) && (m_mode & mode::task_switched);
    switch (insn.info->unit) {
    case Unit::integer:
        return false;
    case Unit::x87:
        return (m_mode & (mode::task_switched | mode::fpu_emulation)) != 0;
    default:
        return (m_mode & mode::task_switched) != 0;
    }
}

// Does the code of this instruction, as far as its accesses belong to groups, leave alone what leads to the last group's operands?
static bool keeps_addend(x86::Instruction const& insn)
{
    switch (insn.info->operation) {
    case Operation::copy:
    case Operation::lea:
    case Operation::nop:
    case Operation::push:
    case Operation::push_immediate:
    case Operation::pop:
    case Operation::jump_conditional:
    case Operation::jump_relative:
    case Operation::call_relative:
    case Operation::return_near:
        return true;
    default:
        return false;
    }
}

void Translator::emit_step(Step const& step)
{
    if (!keeps_addend(step.insn))
        m_addend_slot = no_slot;
    bool const undefined = !allowed(step.insn);
    if (undefined || device_not_available(step.insn)) {
        settle_stack_pointer();
        emit_call(step, undefined ? execute_undefined : execute_not_available, true);
        m_ended = true;
        return;
    }
    if (m_stack_pending != 0 && minds_stack_pointer(step))
        settle_stack_pointer();
    switch (step.insn.info->operation) {
    case Operation::copy: return emit_copy(step);
    case Operation::nop: return;
    case Operation::lea: return emit_lea(step);
    case Operation::bit_test_memory: return emit_bit_test_memory(step);
    case Operation::move_offset: return emit_move_offset(step);
    case Operation::exchange_accumulator: return emit_exchange_accumulator(step);
    case Operation::inc_dec_short: return emit_inc_dec_short(step);
    case Operation::push: return emit_push(step);
    case Operation::push_immediate: return emit_push(step);
    case Operation::pop: return emit_pop(step);
    case Operation::jump_conditional: return emit_jump_conditional(step);
    case Operation::jump_relative: return emit_jump_relative(step);
    case Operation::jump_indirect: return emit_jump_indirect(step);
    case Operation::call_relative: return emit_call_relative(step);
    case Operation::call_indirect: return emit_call_indirect(step);
    case Operation::return_near: return emit_return(step);
    case Operation::loop:
    case Operation::jump_cx_zero: return emit_loop(step);
    case Operation::pause: return emit_pause(step);
    default:
        if (!emit_system(step))
            emit_operation(step);
    }
}

void Translator::emit_call(Step const& step, Execute execute, bool last)
{
    emit_call(step, execute, last, m_flags_in == FlagsIn::host ? m_thunks.operation_host : m_thunks.operation_memory);
}

// A call of a function of ours. `last`: nothing of the block follows.
void Translator::emit_call(Step const& step, Execute execute, bool last, u8* thunk)
{
    leave_plan();
    auto* const site = m_cache.make<OperationSite>();
    ASSERT(site, "the cache had room for a block");
    site->execute = execute;
    site->rip = rip_of(step);
    site->block = m_block;
    site->instruction = step.insn;
    if (last)
        count(Counter::operation);
    // SAFETY: a record's address, below 2 GiB, for generated code.
    m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(site));
    jump_to_thunk(thunk);
    m_flags_in = FlagsIn::memory;
    site->resume = last ? nullptr : here();
}

// The passage that does the instruction, as far as nothing is odd; nullptr: the function alone does.
u8* Translator::string_thunk(x86::Instruction const& insn) const
{
    bool const moves = insn.info->operation == Operation::string_move;
    bool const segmented = moves && insn.segment_override != x86::Segment::none;
    bool const odd = (m_mode & (mode::single_step | mode::alignment_check)) || insn.address_size != 8 || segmented;
    if ((!moves && insn.info->operation != Operation::string_store) || insn.repeat == x86::RepeatPrefix::none || !is64() || odd)
        return nullptr;
    return m_thunks.strings.of(moves ? StringThunks::Kind::move : StringThunks::Kind::store, insn.operand_size, m_tlb);
}

void Translator::emit_operation(Step const& step)
{
    Execute const execute = execute_function(step.insn.info->operation);
    if (u8* const thunk = string_thunk(step.insn)) {
        clobber_flags(x86::arithmetic_flags);
        return emit_call(step, execute, false, thunk);
    }
    bool const last = has(step.insn, ends_block) || step.insn.info->operation == Operation::sti || (m_mode & mode::single_step);
    emit_call(step, execute ? execute : execute_undefined, last);
    m_ended = last;
}

// The block's instructions from `first` on, and the way out behind the last.
void Translator::emit_steps(unsigned first)
{
    for (m_current = first; m_current < m_step_count && !m_ended; ++m_current) {
        m_copy_label[m_current] = m_asm.position();
        m_copy_flags[m_current] = m_flags_in;
        u8 const* const begin = m_asm.position();
        u16 const addend_slot = m_addend_slot;
        RegisterPlan const plan = m_plan;
        if (m_hot)
            emit_early_checks();
        emit_step(m_steps[m_current]);
        if (m_cache.checks_translations() && !m_asm.overflowed())
            check_translation(m_steps[m_current], begin, addend_slot, plan);
    }
    if (m_ended)
        return;
    settle_stack_pointer();
    Step const& last = m_steps[m_step_count - 1];
    if (m_step_count > 1 && m_steps[m_step_count - 2].insn.info->operation == Operation::sti)
        emit_poll_behind(last);
    count(Counter::fall_through);
    leave_plan();
    emit_edge(rip_behind(last));
}

void Translator::emit_block()
{
    emit_entry();
    emit_steps(0);
    if (m_block->hot)
        emit_careful_copy();
    emit_late_code();
    m_block->code_end = here();
}

// Interrupts that STI has let in come behind the instruction that follows it, not at the end of a later block.
void Translator::emit_poll_behind(Step const& step)
{
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    m_asm.gs_compare_imm8(false, poll_offset(), 0);
    JumpSite const quiet = m_asm.jump_forward(Condition::equal);
    emit_set_rip(rip_behind(step));
    jump_to_thunk(m_thunks.dispatch_memory);
    m_asm.bind(quiet);
}

// More is appended while it runs: what misses on the stack's page is looked up in the ordinary way, which may miss too.
void Translator::emit_late_code()
{
    for (unsigned i = 0; i < m_late_count; ++i) {
        Late const late = m_late[i];
        m_asm.bind(late.from);
        emit_late(late);
    }
}

void Translator::emit_late(Late const& late)
{
    switch (late.kind) {
    case Late::Kind::copy:
        late.site->resume_copy = here();
        copy_trap_points(late.body_begin, late.body_end);
        m_asm.bytes(late.body_begin, static_cast<unsigned>(late.body_end - late.body_begin));
        // SAFETY: records lie below 2 GiB.
        m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(late.site));
        return jump_to_thunk(m_thunks.commit);
    case Late::Kind::stack:
        return emit_stack_miss(late.operand, late.site);
    case Late::Kind::stack_run:
        m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(late.stack_site)); // SAFETY: as above
        return jump_to_thunk(m_thunks.stack_misses[m_tlb]);
    case Late::Kind::access:
        m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(late.site)); // SAFETY: as above
        return jump_to_thunk(late.segmented ? m_thunks.access_segmented : m_thunks.access);
    case Late::Kind::edge:
        late.edge->stub = m_asm.position();
        m_asm.mov_imm(m_plan.b, reinterpret_cast<std::uintptr_t>(late.edge)); // SAFETY: as above
        return jump_to_thunk(late.edge->flags_in_memory ? m_thunks.link_memory : m_thunks.link_host);
    case Late::Kind::exit:
        m_plan = late.plan;
        leave_plan();
        return emit_edge(late.edge, m_asm.aligned_jump());
    case Late::Kind::poll:
        m_plan = late.plan;
        if (late.flags_in == FlagsIn::host)
            m_asm.mov(x86::rcx, m_plan.a);
        count(Counter::poll);
        leave_plan();
        emit_set_rip(m_rip);
        return jump_to_thunk(late.flags_in == FlagsIn::host ? m_thunks.dispatch_host : m_thunks.dispatch_memory);
    case Late::Kind::tail: // looks the second page up again, and comes back or finds other code
        m_asm.mov_imm(m_plan.address, m_rip);
        return jump_to_thunk(m_thunks.jump_miss);
    case Late::Kind::refill:
        return emit_refill(late);
    case Late::Kind::wanderer:
        return emit_wanderer(late);
    }
}

void Translator::emit_set_rip(u64 rip)
{
    if (static_cast<u64>(static_cast<i64>(static_cast<i32>(rip))) == rip)
        return m_asm.gs_store_imm(rip_offset(), static_cast<i32>(rip));
    m_asm.mov_imm(m_plan.b, rip);
    m_asm.gs_store(true, rip_offset(), m_plan.b);
}

void Translator::note_trap_point(Step const& step, u8* begin)
{
    if (m_trap_count == std::size(m_traps))
        return;
    m_traps[m_trap_count++] = { static_cast<u32>(begin - m_block->code_begin), static_cast<u32>(here() - m_block->code_begin), step.offset, step.insn.length, m_flags_in == FlagsIn::memory, m_plan.in_memory };
}

// Code that stands a second time, from here on, may trap there as well.
void Translator::copy_trap_points(u8 const* begin, u8 const* end)
{
    u8 const* const base = m_cache.writable(m_block->code_begin);
    for (unsigned i = 0, count = m_trap_count; i < count && m_trap_count < std::size(m_traps); ++i) {
        TrapPoint point = m_traps[i];
        if (base + point.host_begin < begin || base + point.host_end > end)
            continue;
        u32 const moved_by = static_cast<u32>(m_asm.position() - begin);
        point.host_begin += moved_by;
        point.host_end += moved_by;
        m_traps[m_trap_count++] = point;
    }
}

// A guest may choose instructions that become more host code than there is room for: then the block is made of fewer.
Outcome Translator::translate(u64 physical, ModeBits mode, Block*& block)
{
    for (m_room = most_instructions;; m_room /= 2) {
        STEP(try_to_translate(physical, mode));
        if (!m_asm.overflowed())
            break;
        ASSERT(m_room > 8, "a few instructions fit");
    }
    publish_block();
    block = m_block;
    return Outcome::next;
}

Outcome Translator::try_to_translate(u64 physical, ModeBits mode)
{
    constexpr u64 most_code = 64 * KiB;
    u8* const start = m_cache.code_space(most_code);
    m_block = m_cache.make<Block>();
    ASSERT(start && m_block, "the cache had room for a block");
    m_rip = m_block->rip = m_cpu.rip;
    m_physical = m_block->physical = physical;
    m_mode = m_block->mode = mode;
    m_code_size = mode::code_size(mode);
    m_linear = m_cpu.code_linear(m_rip);
    m_tlb = mode::tlb(mode);
    m_asm = Assembler(start, start + most_code);
    m_late_count = m_trap_count = 0;
    m_ended = false;
    m_addend_slot = no_slot;
    m_plan = m_hot_plan = {};
    m_stack_pending = 0;
    m_run_end = -1;
    m_loop_head = nullptr;
    zero_bytes(m_needs_copy, sizeof m_needs_copy);
    m_hot = m_block->hot = can_be_hot(mode) && m_cache.is_hot(physical, m_rip, mode);
    STEP(decode_block());
    find_liveness();
    unroll_loop();
    choose_plan();
    find_groups();
    emit_block();
    return Outcome::next;
}

void Translator::publish_block()
{
    m_cache.commit_code(m_asm.position());
    if (m_trap_count != 0) {
        auto* const points = static_cast<TrapPoint*>(m_cache.allocate(sizeof(TrapPoint) * m_trap_count, alignof(TrapPoint)));
        ASSERT(points, "the cache had room for a block");
        copy_bytes(points, m_traps, sizeof(TrapPoint) * m_trap_count);
        m_block->trap_points = points;
        m_block->trap_point_count = m_trap_count;
    }
    m_cache.insert(*m_block);
    if (m_cache.profiler()) {
        VectorStateGuard guard(m_cpu);
        m_cache.profiler()->block_made(*m_block);
    }
    auto& statistics = m_cache.statistics();
    ++statistics.blocks_translated;
    statistics.instructions_translated += m_step_count;
    statistics.guest_bytes += m_block->guest_size;
    statistics.host_bytes += static_cast<u64>(m_block->code_end - m_block->code_begin);
}

} // namespace anyhyve::soft
