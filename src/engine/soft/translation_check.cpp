// What a translated instruction's host code must leave alone, checked by reading that code again. Tests ask for it (CodeCache::set_checks_translations):
// a mistake here would let a guest choose what its accesses lead to.
#include "engine/soft/mode.hpp"
#include "engine/soft/thunks.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Instruction;

static bool is_move(Instruction const& insn, u8 opcode)
{
    return insn.encoding == x86::Encoding::legacy && insn.map == x86::OpcodeMap::primary && insn.opcode == opcode && insn.operand_size == 8;
}

// The field of the Cpu that the instruction names by its offset alone.
static bool names_field(Instruction const& insn, u32 offset)
{
    return insn.has_memory && insn.segment == x86::Segment::gs && insn.base == 0xff && insn.index == 0xff && static_cast<u32>(insn.displacement) == offset;
}

// `slot`: whose addend r15 held at `begin`. Is it m_addend_slot's here?
bool Translator::addend_is_right(u8 const* begin, u16 slot) const
{
    if (m_addend_slot == no_slot)
        return true;
    Instruction insn;
    for (u8 const* at = begin; at < m_asm.position(); at += insn.length) {
        if (x86::decode(at, 15, x86::CodeSize::bits64, insn) != x86::DecodeStatus::ok)
            return false;
        bool const ours = names_field(insn, addend_offset(m_addend_slot)) && insn.reg == m_plan.b;
        if (ours && (is_move(insn, 0x8b) || is_move(insn, 0x89)))
            slot = m_addend_slot;
        else if (x86::general_registers(insn).written >> m_plan.b & 1)
            slot = no_slot;
    }
    return slot == m_addend_slot;
}

// Registers of the guest that hot code keeps in the host's of the same names change only where the instruction changes them.
bool Translator::keeps_registers(Step const& step, u8 const* begin) const
{
    u16 const kept = static_cast<u16>(RegisterPlan {}.in_memory & ~m_plan.in_memory & ~x86::general_registers(step.insn).written);
    Instruction insn;
    for (u8 const* at = begin; at < m_asm.position(); at += insn.length) {
        if (x86::decode(at, 15, x86::CodeSize::bits64, insn) != x86::DecodeStatus::ok || (x86::general_registers(insn).written & kept) != 0)
            return false;
    }
    return true;
}

void Translator::check_translation(Step const& step, u8 const* begin, u16 addend_slot, RegisterPlan const& plan) const
{
    if (m_plan.in_memory != plan.in_memory)
        return; // it has left the block
    ASSERT(addend_is_right(begin, addend_slot), "what leads to a group's page stands in its register");
    ASSERT(keeps_registers(step, begin), "a register of the guest's stays as it is");
}

} // namespace anyhyve::soft
