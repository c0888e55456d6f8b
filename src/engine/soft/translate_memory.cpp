// Guest addresses in generated code: effective address, segment, look-aside probe, and the records for the slow way.
#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Segment;

// r14 = base + index * scale + displacement, truncated to the address size. Flags stay; r15 may be used.
void Translator::emit_effective_address(x86::Instruction const& insn, i64 extra_displacement)
{
    i64 displacement = insn.displacement + extra_displacement;
    bool const wide = insn.address_size == 8;
    if (insn.rip_relative)
        displacement += static_cast<i64>(m_rip + m_steps[m_current].offset + insn.length);
    if (insn.base == 0xff && insn.index == 0xff) {
        u64 address = static_cast<u64>(displacement);
        if (insn.address_size == 4)
            address &= 0xffffffff;
        else if (insn.address_size == 2)
            address &= 0xffff;
        return m_asm.mov_imm(m_plan.address, address);
    }
    u8 base = insn.base == 0xff ? Assembler::no_register : insn.base;
    u8 index = insn.index == 0xff ? Assembler::no_register : insn.index;
    if (base != Assembler::no_register && spilled(base)) {
        m_asm.gs_load(true, m_plan.address, gpr_offset(base));
        base = m_plan.address;
    }
    if (index != Assembler::no_register && spilled(index)) {
        m_asm.gs_load(true, m_plan.b, gpr_offset(index));
        index = m_plan.b;
        m_addend_slot = no_slot;
    }
    bool const trivial = index == Assembler::no_register && displacement == 0;
    if (trivial && wide) {
        if (base != m_plan.address)
            m_asm.mov(m_plan.address, base);
    } else if (trivial && insn.address_size == 4)
        m_asm.mov32(m_plan.address, base);
    else
        m_asm.lea(wide, m_plan.address, base, index, insn.scale, static_cast<i32>(displacement));
    if (insn.address_size == 2)
        m_asm.movzx16(m_plan.address, m_plan.address);
}

void Translator::emit_stack_address(i32 displacement)
{
    if (is64()) {
        displacement ? m_asm.lea(true, m_plan.address, x86::rsp, Assembler::no_register, 1, displacement) : m_asm.mov(m_plan.address, x86::rsp);
        return;
    }
    m_asm.lea(false, m_plan.address, x86::rsp, Assembler::no_register, 1, displacement);
    if (!(m_mode & mode::stack32))
        m_asm.movzx16(m_plan.address, m_plan.address);
}

// r14 = linear address of `size` bytes. Afterwards r13 is their page, r15 the slot of the look-aside table, and "not equal" says that it does not know.
void Translator::emit_probe(u16 size, Access access)
{
    emit_page_of(size);
    m_asm.mov32(m_plan.b, m_plan.address);
    m_asm.shr(false, m_plan.b, 7);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, (tlb_entries - 1) << 5);
    m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.a, access == Access::write ? tlb_write_tag_offset(m_tlb) : tlb_read_tag_offset(m_tlb), m_plan.b);
}

// r13 = the page, or large page, of the last of `size` bytes at r14.
void Translator::emit_page_of(u16 size, u64 mask)
{
    if (size == 1)
        m_asm.mov(m_plan.a, m_plan.address);
    else
        m_asm.lea(true, m_plan.a, m_plan.address, Assembler::no_register, 1, size - 1);
    m_asm.arithmetic_imm(Arithmetic::and_, true, m_plan.a, static_cast<i32>(mask));
}

// 9 instructions in the common case. The page of the operand's last byte is compared, so one that crosses a page misses.
void Translator::probe_look_aside(MemoryOperand const& operand, AccessSite* site)
{
    if (m_mode & mode::alignment_check) {
        m_late[m_late_count++] = { .kind = Late::Kind::access, .from = m_asm.jump_forward(), .site = site };
        return;
    }
    count(Counter::look_up);
    emit_probe(operand.size, operand.access);
    m_late[m_late_count++] = { .kind = Late::Kind::access, .from = m_asm.jump_forward(Condition::not_equal), .site = site };
    m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, tlb_addend_offset(m_tlb), m_plan.b);
}

// 5 instructions, and the host address does not depend on a load that depends on the address.
void Translator::probe_stack_page(MemoryOperand const& operand, AccessSite* site)
{
    count(Counter::stack_look_up);
    m_asm.mov(m_plan.a, m_plan.address);
    m_asm.gs_arithmetic(Arithmetic::sub, true, m_plan.a, stack_page_offset(m_tlb));
    m_asm.arithmetic_imm(Arithmetic::cmp, true, m_plan.a, 0x1000 - operand.size);
    m_late[m_late_count++] = { .kind = Late::Kind::stack, .from = m_asm.jump_forward(Condition::above), .site = site, .operand = operand };
    m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, stack_addend_offset(m_tlb));
}

// Behind the block: the ordinary look-up. Only a page that was found writable becomes the stack's, and none while a run of accesses relies on the
// one there is.
void Translator::emit_stack_miss(MemoryOperand const& operand, AccessSite* site)
{
    probe_look_aside(operand, site);
    if (operand.stack_top && !site->in_stack_run) {
        m_asm.gs_store(true, stack_page_offset(m_tlb), m_plan.a);
        m_asm.gs_load(true, m_plan.b, tlb_addend_offset(m_tlb), m_plan.b);
        m_asm.gs_store(true, stack_addend_offset(m_tlb), m_plan.b);
    }
    m_asm.jump(m_cache.writable(site->resume));
}

Translator::Reference Translator::emit_operand(Step const& step, MemoryOperand const& operand)
{
    if (shares_check(step)) {
        auto const& insn = step.insn;
        bool const constant = insn.base == 0xff;
        i64 const displacement = constant && insn.rip_relative ? insn.displacement + static_cast<i64>(rip_behind(step)) : insn.displacement;
        return emit_group_member(step, m_groups[step.group], { .base = insn.base, .index = insn.index, .scale = insn.scale, .displacement = displacement, .size = operand.size, .writes = operand.access == Access::write });
    }
    emit_effective_address(step.insn);
    clobber_flags(live_before(step));
    return emit_translate(operand);
}

Translator::Reference Translator::emit_translate(MemoryOperand const& operand)
{
    Step const& step = m_steps[m_current];
    bool const plain_segment = is64() || ((m_mode & mode::flat) && operand.segment != Segment::fs && operand.segment != Segment::gs && operand.segment != Segment::cs);
    if (m_hot && plain_segment) {
        if (operand.segment == Segment::fs || operand.segment == Segment::gs)
            m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, segment_base_offset(operand.segment));
        emit_site_check(operand);
        return { nullptr, m_plan.address };
    }
    m_addend_slot = no_slot;
    auto* const site = m_cache.make<AccessSite>();
    ASSERT(site, "the cache had room for a block");
    site->rip = rip_of(step);
    site->length = step.insn.length;
    site->block = m_block;
    site->size = operand.size;
    site->access = operand.access;
    site->reads = operand.reads;
    site->flags_in_memory = m_flags_in == FlagsIn::memory;
    site->segment = operand.segment;
    site->alignment = operand.alignment;
    site->ends_instruction = operand.ends_instruction;
    site->in_stack_run = static_cast<int>(m_current) <= m_run_end;
    if (is64()) {
        if (operand.segment == Segment::fs || operand.segment == Segment::gs)
            m_asm.gs_arithmetic(Arithmetic::add, true, m_plan.address, segment_base_offset(operand.segment));
    } else if (!(m_mode & mode::flat) || operand.segment == Segment::fs || operand.segment == Segment::gs || operand.segment == Segment::cs) {
        m_asm.lea(true, m_plan.b, m_plan.address, Assembler::no_register, 1, operand.size);
        m_asm.gs_arithmetic(Arithmetic::cmp, true, m_plan.b, segment_end_offset(operand.segment, operand.access));
        m_late[m_late_count++] = { .kind = Late::Kind::access, .from = m_asm.jump_forward(Condition::above), .site = site, .segmented = true };
        m_asm.gs_arithmetic(Arithmetic::add, false, m_plan.address, segment_base_offset(operand.segment));
    }
    if (operand.stack && is64() && !(m_mode & mode::alignment_check))
        probe_stack_page(operand, site);
    else
        probe_look_aside(operand, site);
    site->resume = here();
    return { site, m_plan.address };
}

} // namespace anyhyve::soft
