// System instructions that kernels execute all the time, without a call: SWAPGS, CLI, CLD, STAC, CLAC.
// Only where nothing can go wrong: 64-bit code of ring 0. Everything else takes the general way.
#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;

void Translator::emit_swapgs()
{
    u32 const base = segment_base_offset(x86::Segment::gs);
    m_asm.gs_load(true, scratch_a, base);
    m_asm.gs_load(true, scratch_b, kernel_gs_base_offset());
    m_asm.gs_store(true, base, scratch_b);
    m_asm.gs_store(true, kernel_gs_base_offset(), scratch_a);
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
    emit_edge(rip_behind(step), false);
    m_ended = true;
}

bool Translator::emit_system(Step const& step)
{
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
