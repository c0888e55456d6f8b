// System instructions that kernels execute all the time, without a call: SWAPGS, CLI, STI, CLD, STAC, CLAC, PUSHF, MOV from segment registers,
// RDFSBASE and its like, RDTSC, RDPKRU, WRPKRU. Only where nothing can go wrong, mostly 64-bit code of ring 0. Everything else takes the general way.
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/operations.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;

void Translator::emit_swapgs()
{
    u32 const base = segment_base_offset(x86::Segment::gs);
    m_asm.gs_load(true, m_plan.a, base);
    m_asm.gs_load(true, m_plan.b, kernel_gs_base_offset());
    m_asm.gs_store(true, base, m_plan.b);
    m_asm.gs_store(true, kernel_gs_base_offset(), m_plan.a);
}

// STAC and CLAC choose the look-aside table that the code behind them uses: that code is a block of the other mode.
void Translator::emit_user_access(Step const& step, bool permitted)
{
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    if (permitted)
        m_asm.gs_arithmetic_imm32(Arithmetic::or_, rflags_offset(), static_cast<u32>(x86::rflags::ac));
    else
        m_asm.gs_arithmetic_imm32(Arithmetic::and_, rflags_offset(), ~static_cast<u32>(x86::rflags::ac));
    TlbIndex const table = permitted ? tlb_supervisor_user_access : tlb_supervisor;
    m_asm.gs_store_imm32(mode_offset(), (m_mode & ~mode::tlb_mask) | static_cast<ModeBits>(table) << mode::tlb_shift);
    emit_edge(rip_behind(step));
    m_ended = true;
}

// Interrupts are let in at the end of a block at the earliest, so the instruction behind STI runs before any.
void Translator::emit_sti()
{
    clobber_flags(x86::arithmetic_flags);
    m_asm.gs_arithmetic_imm32(Arithmetic::or_, rflags_offset(), static_cast<u32>(x86::rflags::interrupt));
    m_asm.gs_compare_imm8(false, events_offset(), 0);
    JumpSite const quiet = m_asm.jump_forward(Condition::equal);
    m_asm.gs_store_imm32(poll_offset(), 1);
    m_asm.bind(quiet);
}

// PUSHFQ: RF and VM are pushed as zeros (SDM vol. 2, PUSHF).
void Translator::emit_push_flags()
{
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    m_asm.gs_load_zero16(m_plan.a, flags_offset()); // LAHF's byte in bits 8 to 15, OF in bit 0 (flags.hpp)
    m_asm.mov32(m_plan.b, m_plan.a);
    m_asm.shr(false, m_plan.b, 8);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, static_cast<i32>(lahf_mask));
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.a, 1);
    m_asm.shl(false, m_plan.a, 11);
    m_asm.arithmetic(Arithmetic::or_, false, m_plan.b, m_plan.a);
    m_asm.gs_load(false, m_plan.a, rflags_offset());
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.a, ~static_cast<i32>(x86::rflags::arithmetic | x86::rflags::rf | x86::rflags::vm));
    m_asm.arithmetic(Arithmetic::or_, false, m_plan.a, m_plan.b);
    m_asm.gs_store(true, scratch_offset(0), m_plan.a);
    emit_access(emit_stack_access(-8, 8, Access::write), [&](HostMemory where) {
        m_asm.gs_load(true, m_plan.a, scratch_offset(0));
        m_asm.store(8, where, m_plan.a);
        emit_stack_adjust(-8);
    });
}

// To a register, which gets 16 bits or, of a larger operand, zeros above them.
void Translator::emit_move_from_segment(x86::Instruction const& insn)
{
    m_asm.gs_load_zero16(m_plan.a, segment_selector_offset(static_cast<x86::Segment>(insn.reg & 7)));
    if (spilled(insn.rm))
        insn.operand_size == 2 ? m_asm.gs_store16(gpr_offset(insn.rm), m_plan.a) : m_asm.gs_store(true, gpr_offset(insn.rm), m_plan.a);
    else
        insn.operand_size == 2 ? m_asm.mov16(insn.rm, m_plan.a) : m_asm.mov32(insn.rm, m_plan.a);
}

// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. What faults does so in the function of ours: without CR4.FSGSBASE, and an address that is not canonical.
void Translator::emit_base_access(Step const& step, Execute execute)
{
    auto const operation = step.insn.info->operation;
    bool const writes = operation == Operation::write_fs_base || operation == Operation::write_gs_base;
    bool const fs = operation == Operation::read_fs_base || operation == Operation::write_fs_base;
    u32 const base = segment_base_offset(fs ? x86::Segment::fs : x86::Segment::gs);
    constexpr i32 enabled = static_cast<i32>(x86::cr4::fsgsbase);
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    m_asm.gs_load(false, m_plan.b, cr4_offset());
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, enabled);
    m_asm.arithmetic_imm(Arithmetic::xor_, false, m_plan.b, enabled);
    if (writes) {
        if (spilled(step.insn.rm))
            m_asm.gs_load(step.insn.operand_size == 8, m_plan.a, gpr_offset(step.insn.rm));
        else
            step.insn.operand_size == 8 ? m_asm.mov(m_plan.a, step.insn.rm) : m_asm.mov32(m_plan.a, step.insn.rm);
        m_asm.gs_store(true, scratch_offset(0), m_plan.a);
        m_asm.shr(true, m_plan.a, 47); // 0 or 1ffff where canonical
        m_asm.arithmetic_imm(Arithmetic::add, false, m_plan.a, 1);
        m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.a, 0x1fffe);
        m_asm.arithmetic(Arithmetic::or_, false, m_plan.b, m_plan.a);
    } else {
        m_asm.arithmetic_imm(Arithmetic::or_, false, m_plan.b, 0);
    }
    JumpSite const good = m_asm.jump_forward(Condition::equal);
    emit_call(step, execute, true);
    m_asm.bind(good);
    m_asm.gs_load(writes || step.insn.operand_size == 8, m_plan.a, writes ? scratch_offset(0) : base);
    if (writes)
        m_asm.gs_store(true, base, m_plan.a);
    else if (spilled(step.insn.rm))
        m_asm.gs_store(true, gpr_offset(step.insn.rm), m_plan.a);
    else
        m_asm.mov(step.insn.rm, m_plan.a);
}

// RDTSC, RDTSCP: the host's counter, the machine clock's offset, the vCPU's own.
void Translator::emit_time_stamp(Step const& step)
{
    clobber_flags(live_before(step));
    if (step.insn.info->operation == Operation::rdtscp)
        m_asm.lfence(); // it waits for earlier instructions, and for their loads
    m_asm.byte(0x0f);
    m_asm.byte(0x31); // RDTSC
    m_asm.shl(true, x86::rdx, 32);
    m_asm.arithmetic(Arithmetic::or_, true, x86::rax, x86::rdx);
    m_asm.gs_arithmetic(Arithmetic::add, true, x86::rax, clock_tsc_offset_offset());
    m_asm.gs_arithmetic(Arithmetic::add, true, x86::rax, tsc_offset_offset());
    m_asm.mov(x86::rdx, x86::rax);
    m_asm.shr(true, x86::rdx, 32);
    m_asm.mov32(x86::rax, x86::rax);
    if (step.insn.info->operation == Operation::rdtscp)
        m_asm.gs_load(false, x86::rcx, tsc_aux_offset());
}

// scratch_a = 0 where CR4.PKE is set and ECX is 0, as RDPKRU and WRPKRU want it.
void Translator::emit_check_key_instruction()
{
    constexpr i32 enabled = static_cast<i32>(x86::cr4::pke);
    m_asm.gs_load(false, m_plan.a, cr4_offset());
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.a, enabled);
    m_asm.arithmetic_imm(Arithmetic::xor_, false, m_plan.a, enabled);
    m_asm.arithmetic(Arithmetic::or_, false, m_plan.a, x86::rcx);
}

void Translator::emit_read_key_rights(Step const& step)
{
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    emit_check_key_instruction();
    JumpSite const good = m_asm.jump_forward(Condition::equal);
    emit_call(step, execute_rdpkru, true);
    m_asm.bind(good);
    m_asm.gs_load(false, x86::rax, pkru_offset());
    m_asm.mov_imm(x86::rdx, 0);
}

// The look-aside tables must be told only when rights go that entries of theirs hang on.
void Translator::emit_write_key_rights(Step const& step)
{
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    emit_check_key_instruction();
    m_asm.gs_load(false, m_plan.b, pkru_offset());
    m_asm.arithmetic_imm(Arithmetic::xor_, false, m_plan.b, -1);
    m_asm.arithmetic(Arithmetic::and_, false, m_plan.b, x86::rax);
    m_asm.gs_arithmetic(Arithmetic::and_, false, m_plan.b, pkru_watched_offset());
    m_asm.arithmetic(Arithmetic::or_, false, m_plan.b, x86::rdx);
    m_asm.arithmetic(Arithmetic::or_, false, m_plan.b, m_plan.a);
    JumpSite const quiet = m_asm.jump_forward(Condition::equal);
    emit_call(step, execute_wrpkru, false);
    m_asm.bind(quiet);
    m_asm.gs_store(false, pkru_offset(), x86::rax);
}

// The host's PAUSE; now and then a look whether the one that this virtual CPU waits for has a host CPU to run on.
void Translator::emit_pause(Step const& step)
{
    clobber_flags(x86::arithmetic_flags);
    m_flags_in = FlagsIn::memory;
    m_asm.pause();
    m_asm.gs_arithmetic_imm32(Arithmetic::sub, pauses_left_offset(), 1);
    JumpSite const go_on = m_asm.jump_forward(Condition::not_sign);
    emit_call(step, execute_pause, true);
    m_asm.bind(go_on);
}

bool Translator::emit_system(Step const& step)
{
    auto const operation = step.insn.info->operation;
    bool const reads_time = operation == Operation::rdtsc || operation == Operation::rdtscp;
    if (reads_time && !(m_mode & (mode::single_step | mode::time_stamp_disabled))) {
        emit_time_stamp(step);
        return true;
    }
    if (operation == Operation::rdpkru && !(m_mode & mode::single_step)) {
        emit_read_key_rights(step);
        return true;
    }
    if (operation == Operation::wrpkru && !(m_mode & mode::single_step)) {
        emit_write_key_rights(step);
        return true;
    }
    if (operation == Operation::leave && is64()) {
        emit_leave(step);
        return true;
    }
    constexpr ModeBits wanted = mode::ring0 | static_cast<ModeBits>(x86::CodeSize::bits64);
    if ((m_mode & (wanted | mode::single_step)) != wanted)
        return false;
    switch (step.insn.info->operation) {
    case Operation::swapgs:
        emit_swapgs();
        return true;
    case Operation::cli:
        clobber_flags(x86::arithmetic_flags);
        m_asm.gs_arithmetic_imm32(Arithmetic::and_, rflags_offset(), ~static_cast<u32>(x86::rflags::interrupt));
        return true;
    case Operation::cld:
        clobber_flags(x86::arithmetic_flags);
        m_asm.gs_arithmetic_imm32(Arithmetic::and_, rflags_offset(), ~static_cast<u32>(x86::rflags::df));
        return true;
    case Operation::push_flags:
        if (step.insn.operand_size != 8)
            return false;
        emit_push_flags();
        return true;
    case Operation::move_from_segment:
        if (step.insn.has_memory || (step.insn.reg & 7) > static_cast<u8>(x86::Segment::gs))
            return false;
        emit_move_from_segment(step.insn);
        return true;
    case Operation::read_fs_base:
    case Operation::read_gs_base:
    case Operation::write_fs_base:
    case Operation::write_gs_base:
        if (m_hot)
            return false;
        emit_base_access(step, execute_function(step.insn.info->operation));
        return true;
    case Operation::sti:
        if (m_current + 1 == m_step_count)
            return false;
        emit_sti();
        return true;
    case Operation::stac:
    case Operation::clac:
        if (!(m_mode & mode::smap))
            return false;
        emit_user_access(step, step.insn.info->operation == Operation::stac);
        return true;
    default:
        return false;
    }
}

} // namespace anyhyve::soft
