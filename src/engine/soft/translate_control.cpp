// Near control flow and the stack: jumps, calls, returns, loops, pushes and pops.
// Spec: Intel SDM vol. 1 chapter 6 (stack), vol. 2 (JMP, CALL, RET, Jcc, LOOP, PUSH, POP).
#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;
using x86::Segment;

// Instruction pointers are as wide as the operand size outside 64-bit code.
static u64 truncate_target(x86::Instruction const& insn, u64 target)
{
    return insn.operand_size == 8 ? target : insn.operand_size == 4 ? target & 0xffffffff : target & 0xffff;
}

// --- ways out ---

Edge* Translator::make_edge(u64 target)
{
    auto* const edge = m_cache.make<Edge>();
    ASSERT(edge, "the cache had room for a block");
    edge->target = target;
    edge->from = m_block;
    edge->flags_in_memory = m_flags_in == FlagsIn::memory;
    edge->same_page = (target & ~u64 { 0xfff }) == (m_rip & ~u64 { 0xfff }) && ((m_rip - m_linear) & 0xfff) == 0;
    return edge;
}

// `from`: its displacement lies in one cache line.
void Translator::emit_edge(Edge* edge, JumpSite from)
{
    edge->displacement = from.displacement;
    m_late[m_late_count++] = { .kind = Late::Kind::edge, .from = from, .edge = edge };
}

Edge* Translator::emit_edge(u64 target)
{
    Edge* const edge = make_edge(target);
    emit_edge(edge, m_asm.aligned_jump());
    return edge;
}

void Translator::emit_jump_relative(Step const& step)
{
    u64 const target = truncate_target(step.insn, rip_behind(step) + step.insn.immediate);
    count(Counter::jump);
    if (!is_last(step))
        return; // the next step is what it jumps to
    settle_stack_pointer();
    if (m_hot && m_loop_head && target == m_rip) {
        if (m_live_in != 0)
            need_host_flags();
        Assembler::patch(m_asm.jump_forward(), m_loop_head);
        m_plan = {};
    } else {
        leave_plan();
        emit_edge(target)->may_go_on = true;
    }
    m_ended = true;
}

void Translator::emit_jump_conditional(Step const& step)
{
    u64 const target = truncate_target(step.insn, rip_behind(step) + step.insn.immediate);
    auto const condition = static_cast<Condition>(step.insn.opcode & 15);
    need_host_flags();
    settle_stack_pointer();
    count(Counter::conditional);
    if (!is_last(step))
        return step.goes_elsewhere ? emit_side_exit(inverse(condition), rip_behind(step)) : emit_side_exit(condition, target);
    bool const within = m_hot && m_loop_head && target == m_rip;
    if (within)
        Assembler::patch(m_asm.jump_forward(condition), m_loop_head);
    leave_plan();
    if (!within) {
        Edge* const edge = make_edge(target);
        edge->may_go_on = true;
        emit_edge(edge, m_asm.aligned_jump(condition));
    }
    count(Counter::not_taken);
    emit_edge(rip_behind(step))->may_go_on = true;
    m_ended = true;
}

// LOOP, LOOPE, LOOPNE, JrCXZ: the host's own, over a count register made as wide as the host can count.
void Translator::emit_loop(Step const& step)
{
    auto const& insn = step.insn;
    u64 const target = truncate_target(insn, rip_behind(step) + insn.immediate);
    bool const reads_flags = insn.opcode < 0xe2; // E0 LOOPNE, E1 LOOPE
    if (reads_flags)
        need_host_flags();
    count(Counter::loop);
    bool const narrow = insn.address_size == 2;
    bool const counts = insn.opcode != 0xe3;
    if (narrow) {
        m_asm.mov(m_plan.a, x86::rcx);
        m_asm.movzx16(x86::rcx, x86::rcx);
    }
    auto restore = [&] {
        if (!narrow)
            return;
        if (counts)
            m_asm.mov16(m_plan.a, x86::rcx);
        m_asm.mov(x86::rcx, m_plan.a);
    };
    if (insn.address_size != 8)
        m_asm.byte(0x67);
    m_asm.byte(insn.opcode);
    u8* const short_displacement = m_asm.position();
    m_asm.byte(0);
    restore();
    emit_edge(rip_behind(step));
    if (!m_asm.overflowed())
        *short_displacement = static_cast<u8>(m_asm.position() - (short_displacement + 1));
    restore();
    emit_edge(target);
    m_ended = true;
}

// The address register = where to go on: through the jump cache, else through the dispatcher.
void Translator::emit_indirect_tail(Step const& step, i32 stack_adjustment)
{
    settle_stack_pointer();
    auto* const site = m_cache.make<IndirectSite>();
    ASSERT(site, "the cache had room for a block");
    *site = { .rip = rip_of(step), .stack_adjustment = stack_adjustment };
    auto const operation = step.insn.info->operation;
    count(operation == Operation::return_near ? Counter::near_return : operation == Operation::call_indirect ? Counter::indirect_call : Counter::indirect_jump);
    // SAFETY: records lie below 2 GiB.
    auto const site_number = reinterpret_cast<std::uintptr_t>(site);
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    leave_plan(AddressRegister::kept);
    m_ended = true;
    if (!mode::linkable(m_mode)) {
        m_asm.mov_imm(m_plan.b, site_number);
        return jump_to_thunk(m_thunks.jump_from);
    }
    m_asm.mov32(m_plan.b, m_plan.address);
    m_asm.shr(false, m_plan.b, 12);
    m_asm.arithmetic(Arithmetic::xor_, false, m_plan.b, m_plan.address);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, jump_cache_slots - 1);
    m_asm.gs_compare_element(m_plan.address, jump_cache_rip_offset(m_tlb), m_plan.b);
    JumpSite const other_target = m_asm.jump_forward(Condition::not_equal);
    m_asm.gs_jump_element(jump_cache_entry_offset(m_tlb), m_plan.b);
    m_asm.bind(other_target);
    m_asm.mov_imm(m_plan.b, site_number);
    jump_to_thunk(m_thunks.jump_from);
}

// --- the stack ---

void Translator::emit_stack_adjust(i32 amount)
{
    if (is64() && shares_check(m_steps[m_current])) {
        m_stack_pending += amount;
        return;
    }
    if (is64())
        return m_asm.lea(true, x86::rsp, x86::rsp, Assembler::no_register, 1, amount);
    if (m_mode & mode::stack32)
        return m_asm.lea(false, x86::rsp, x86::rsp, Assembler::no_register, 1, amount);
    m_asm.lea(false, m_plan.b, x86::rsp, Assembler::no_register, 1, amount);
    m_asm.mov16(x86::rsp, m_plan.b);
}

Translator::Reference Translator::emit_stack_access(i32 displacement, unsigned width, Access access, bool ends_instruction)
{
    Step const& step = m_steps[m_current];
    if (shares_check(step) && !(step.insn.has_memory && step.insn.info->memory != x86::MemoryAccess::none))
        return emit_group_member(step, m_groups[step.group], { .base = x86::rsp, .displacement = displacement, .size = static_cast<u16>(width), .writes = access == Access::write });
    settle_stack_pointer();
    clobber_flags(live_before(step));
    emit_stack_address(displacement);
    return emit_translate({ .segment = Segment::ss, .size = static_cast<u16>(width), .access = access, .reads = access == Access::read, .alignment = 0, .ends_instruction = ends_instruction, .stack = true, .stack_top = access == Access::write });
}

void Translator::emit_push(Step const& step)
{
    auto const& insn = step.insn;
    unsigned const width = insn.operand_size;
    i32 const down = -static_cast<i32>(width);
    if (insn.info->operation == Operation::push && insn.has_memory) {
        emit_access(emit_operand(step, { .segment = insn.segment, .size = static_cast<u16>(width), .access = Access::read, .reads = true, .ends_instruction = false }), [&](HostMemory where) {
            m_asm.load_zero_extended(width, m_plan.a, where);
            m_asm.gs_store(true, scratch_offset(0), m_plan.a);
        });
    }
    emit_access(emit_stack_access(down, width, Access::write), [&](HostMemory where) {
        if (insn.info->operation == Operation::push_immediate)
            m_asm.store_imm(width, where, static_cast<i32>(insn.immediate));
        else if (insn.has_memory) {
            m_asm.gs_load(true, m_plan.a, scratch_offset(0));
            m_asm.store(width, where, m_plan.a);
        } else if (spilled(insn.rm)) {
            m_asm.gs_load(true, m_plan.a, gpr_offset(insn.rm));
            m_asm.store(width, where, m_plan.a);
        } else
            m_asm.store(width, where, insn.rm);
        emit_stack_adjust(down);
    });
}

void Translator::emit_pop(Step const& step)
{
    auto const& insn = step.insn;
    unsigned const width = insn.operand_size;
    Reference const top = emit_stack_access(0, width, Access::read, !insn.has_memory);
    if (!insn.has_memory) {
        emit_access(top, [&](HostMemory where) {
            HostRegister const to = spilled(insn.rm) ? m_plan.a : insn.rm;
            if (to == m_plan.a && width == 2)
                m_asm.gs_load(true, m_plan.a, gpr_offset(insn.rm));
            if (to == x86::rsp) { // the popped value wins over the increment
                m_asm.load_zero_extended(width, m_plan.a, where);
                emit_stack_adjust(static_cast<i32>(width));
                settle_stack_pointer();
                width == 2 ? m_asm.mov16(x86::rsp, m_plan.a) : width == 4 ? m_asm.mov32(x86::rsp, m_plan.a) : m_asm.mov(x86::rsp, m_plan.a);
                return;
            }
            m_asm.load(width, to, where);
            emit_stack_adjust(static_cast<i32>(width));
            if (to == m_plan.a)
                m_asm.gs_store(true, gpr_offset(insn.rm), m_plan.a);
        });
        return;
    }
    emit_access(top, [&](HostMemory where) {
        m_asm.load_zero_extended(width, m_plan.a, where);
        m_asm.gs_store(true, scratch_offset(0), m_plan.a);
    });
    settle_stack_pointer();
    // The address is computed with the incremented stack pointer (SDM vol. 2, POP).
    emit_effective_address(insn, insn.base == x86::rsp ? static_cast<i64>(width) : 0);
    Reference const destination = emit_translate({ .segment = insn.segment, .size = static_cast<u16>(width), .access = Access::write, .reads = false });
    emit_access(destination, [&](HostMemory where) {
        m_asm.gs_load(true, m_plan.a, scratch_offset(0));
        m_asm.store(width, where, m_plan.a);
        emit_stack_adjust(static_cast<i32>(width));
    });
}

// LEAVE in 64-bit code: the stack pointer from rBP, and rBP from there.
void Translator::emit_leave(Step const& step)
{
    unsigned const width = step.insn.operand_size;
    auto const body = [&](HostMemory where) {
        m_asm.load(width, m_plan.a, where);
        m_asm.lea(true, x86::rsp, x86::rbp, Assembler::no_register, 1, static_cast<i32>(width));
        width == 2 ? m_asm.mov16(x86::rbp, m_plan.a) : m_asm.mov(x86::rbp, m_plan.a);
    };
    if (shares_check(step))
        return emit_access(emit_group_member(step, m_groups[step.group], { .base = x86::rbp, .displacement = 0, .size = static_cast<u16>(width), .writes = false }), body);
    clobber_flags(live_before(step));
    m_asm.mov(m_plan.address, x86::rbp);
    emit_access(emit_translate({ .segment = Segment::ss, .size = static_cast<u16>(width), .access = Access::read, .reads = true }), body);
}

// --- calls and returns ---

void Translator::emit_push_return(u64 rip, unsigned width)
{
    emit_access(emit_stack_access(-static_cast<i32>(width), width, Access::write, false), [&](HostMemory where) { emit_store_return(where, rip, width); });
}

void Translator::emit_store_return(HostMemory where, u64 rip, unsigned width)
{
    if (width < 8 || static_cast<u64>(static_cast<i64>(static_cast<i32>(rip))) == rip)
        m_asm.store_imm(width, where, static_cast<i32>(rip));
    else {
        m_asm.mov_imm(m_plan.a, rip);
        m_asm.store(8, where, m_plan.a);
    }
    emit_stack_adjust(-static_cast<i32>(width));
}

void Translator::emit_call_relative(Step const& step)
{
    emit_push_return(rip_behind(step), step.insn.operand_size);
    count(Counter::call);
    settle_stack_pointer();
    leave_plan();
    emit_edge(truncate_target(step.insn, rip_behind(step) + step.insn.immediate));
    m_ended = true;
}

// The target of JMP/CALL rm into the address register, as wide as the operand.
void Translator::emit_read_target(Step const& step)
{
    auto const& insn = step.insn;
    unsigned const width = insn.operand_size;
    if (insn.has_memory)
        return emit_access(emit_operand(step, { .segment = insn.segment, .size = static_cast<u16>(width), .access = Access::read, .reads = true, .ends_instruction = false }),
            [&](HostMemory where) { m_asm.load_zero_extended(width, m_plan.address, where); });
    if (spilled(insn.rm))
        m_asm.gs_load(true, m_plan.address, gpr_offset(insn.rm));
    HostRegister const from = spilled(insn.rm) ? m_plan.address : insn.rm;
    if (width == 8)
        m_asm.mov(m_plan.address, from);
    else
        width == 4 ? m_asm.mov32(m_plan.address, from) : m_asm.movzx16(m_plan.address, from);
}

void Translator::emit_jump_indirect(Step const& step)
{
    emit_read_target(step);
    emit_indirect_tail(step, 0);
}

// The return address is pushed after the target has been read, and the target waits meanwhile.
void Translator::emit_call_indirect(Step const& step)
{
    bool const looked_up = shares_check(step) && !step.insn.has_memory;
    if (!looked_up) {
        emit_read_target(step);
        m_asm.gs_store(true, scratch_offset(0), m_plan.address);
    } else if (step.insn.rm == x86::rsp)
        settle_stack_pointer();
    if (looked_up) {
        // The check may start the instruction again, so it comes first; the registers stay as they are until the store is done.
        emit_access(emit_stack_access(-static_cast<i32>(step.insn.operand_size), step.insn.operand_size, Access::write, false), [&](HostMemory where) {
            emit_read_target(step);
            emit_store_return(where, rip_behind(step), step.insn.operand_size);
        });
        return emit_indirect_tail(step, -static_cast<i32>(step.insn.operand_size));
    }
    emit_push_return(rip_behind(step), step.insn.operand_size);
    m_asm.gs_load(true, m_plan.address, scratch_offset(0));
    emit_indirect_tail(step, -static_cast<i32>(step.insn.operand_size));
}

void Translator::emit_return(Step const& step)
{
    auto const& insn = step.insn;
    unsigned const width = insn.operand_size;
    i32 const popped = static_cast<i32>(width + (insn.immediate_size ? insn.immediate & 0xffff : 0));
    emit_access(emit_stack_access(0, width, Access::read, false), [&](HostMemory where) {
        m_asm.load_zero_extended(width, m_plan.address, where);
        emit_stack_adjust(popped);
    });
    emit_indirect_tail(step, popped);
}

} // namespace anyhyve::soft
