// Instructions that load, store or examine segment registers and descriptors (Intel SDM vol. 2).
#include "engine/soft/segment_instructions.hpp"

#include <utility>

#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

using x86::Instruction;
using x86::Segment;
using x86::SegmentRegister;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

namespace {

// LAR, LSL, VERR, VERW, ARPL, LLDT, LTR, SLDT, STR exist in protected mode only.
bool has_selectors(Cpu const& cpu)
{
    return cpu.protected_mode() && !cpu.virtual_8086();
}

void set_zero_flag(Cpu& cpu, bool set)
{
    cpu.rflags = set ? cpu.rflags | rflags::zf : cpu.rflags & ~rflags::zf;
}

// A selector to the rm operand: memory takes 16 bits whatever the operand size, a register the whole operand.
Outcome store_selector(Cpu& cpu, Instruction const& insn, u16 selector)
{
    return cpu.mmu->write_rm(insn, insn.has_memory ? 2 : insn.operand_size, selector);
}

// What LAR, LSL, VERR and VERW look at: a descriptor that exists and that CPL and RPL may see. `visible` tells; faults are page faults.
Outcome examine(Cpu& cpu, u16 selector, Descriptor& descriptor, bool& visible)
{
    visible = false;
    if (is_null(selector))
        return Outcome::next;
    auto outcome = fetch_descriptor(cpu, selector, vector::general_protection, descriptor);
    if (outcome == Outcome::fault && cpu.fault.vector == vector::general_protection)
        return Outcome::next; // beyond the table: ZF tells, not an exception
    STEP(outcome);
    if (descriptor.system() && cpu.long_mode()) {
        outcome = fetch_system_half(cpu, vector::general_protection, descriptor);
        if (outcome == Outcome::fault && cpu.fault.vector == vector::general_protection)
            return Outcome::next;
        STEP(outcome);
    }
    visible = descriptor.conforming() || (descriptor.dpl() >= cpu.cpl && descriptor.dpl() >= descriptor.rpl());
    return Outcome::next;
}

using TypeSet = u16; // bit n: system descriptor type n

constexpr TypeSet types(std::initializer_list<u8> list)
{
    unsigned set = 0;
    for (u8 type : list)
        set |= 1u << type;
    return static_cast<TypeSet>(set);
}

bool is_one_of(Cpu const& cpu, Descriptor const& descriptor, TypeSet legacy, TypeSet long_mode)
{
    return !descriptor.system() || (((cpu.long_mode() ? long_mode : legacy) >> descriptor.type()) & 1);
}

Outcome verify(Cpu& cpu, Instruction const& insn, bool (Descriptor::*allowed)() const)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    u64 selector = 0;
    STEP(cpu.mmu->read_rm(insn, 2, selector));
    Descriptor descriptor;
    bool visible = false;
    STEP(examine(cpu, static_cast<u16>(selector), descriptor, visible));
    set_zero_flag(cpu, visible && (descriptor.*allowed)());
    return Outcome::next;
}

Outcome check_base_access(Cpu& cpu)
{
    return cpu.code64() && (cpu.cr4 & x86::cr4::fsgsbase) ? Outcome::next : raise_ud(cpu);
}

Outcome read_base(Cpu& cpu, Instruction const& insn, Segment segment)
{
    STEP(check_base_access(cpu));
    cpu.set_reg(insn.rm, insn.operand_size, cpu.segment(segment).base);
    return Outcome::next;
}

Outcome write_base(Cpu& cpu, Instruction const& insn, Segment segment)
{
    STEP(check_base_access(cpu));
    u64 const base = cpu.reg(insn.rm, insn.operand_size);
    if (!is_canonical(base))
        return raise_gp(cpu);
    cpu.segment(segment).base = base;
    return Outcome::next;
}

Segment far_pointer_segment(Instruction const& insn)
{
    switch (insn.opcode) {
    case 0xc4:
        return Segment::es;
    case 0xc5:
        return Segment::ds;
    case 0xb2:
        return Segment::ss;
    case 0xb4:
        return Segment::fs;
    default: // B5
        return Segment::gs;
    }
}

} // namespace

Outcome execute_move_to_segment(Cpu& cpu, Instruction const& insn)
{
    unsigned const number = insn.reg & 7;
    if (number == static_cast<unsigned>(Segment::cs) || number > static_cast<unsigned>(Segment::gs))
        return raise_ud(cpu);
    u64 selector = 0;
    STEP(cpu.mmu->read_rm(insn, 2, selector));
    STEP(load_segment(cpu, static_cast<Segment>(number), static_cast<u16>(selector)));
    if (static_cast<Segment>(number) == Segment::ss)
        cpu.interrupt_shadow = cpu.debug_shadow = true;
    return Outcome::next;
}

Outcome execute_move_from_segment(Cpu& cpu, Instruction const& insn)
{
    unsigned const number = insn.reg & 7;
    if (number > static_cast<unsigned>(Segment::gs))
        return raise_ud(cpu);
    return store_selector(cpu, insn, cpu.segments[number].selector);
}

Outcome execute_load_far_pointer(Cpu& cpu, Instruction const& insn)
{
    if (!insn.has_memory)
        return raise_ud(cpu);
    u8 pointer[10] {};
    u64 linear = 0;
    STEP(cpu.mmu->operand_address(insn, insn.operand_size + 2u, Access::read, linear));
    STEP(cpu.mmu->read(linear, pointer, insn.operand_size + 2u));
    u64 offset = 0;
    for (unsigned i = insn.operand_size; i-- > 0;)
        offset = offset << 8 | pointer[i];
    u16 const selector = static_cast<u16>(pointer[insn.operand_size] | pointer[insn.operand_size + 1] << 8);
    STEP(load_segment(cpu, far_pointer_segment(insn), selector));
    cpu.set_reg(insn.reg, insn.operand_size, offset);
    return Outcome::next;
}

Outcome execute_load_access_rights(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    namespace type = descriptor_type;
    constexpr TypeSet legacy = types({ type::tss16_available, type::ldt, type::tss16_busy, type::call_gate16, type::task_gate,
                                       type::tss32_available, type::tss32_busy, type::call_gate32 });
    constexpr TypeSet long_mode = types({ type::ldt, type::tss64_available, type::tss64_busy, type::call_gate64 });
    u64 selector = 0;
    STEP(cpu.mmu->read_rm(insn, 2, selector));
    Descriptor descriptor;
    bool visible = false;
    STEP(examine(cpu, static_cast<u16>(selector), descriptor, visible));
    visible = visible && is_one_of(cpu, descriptor, legacy, long_mode);
    set_zero_flag(cpu, visible);
    if (visible)
        cpu.set_reg(insn.reg, insn.operand_size, (descriptor.low >> 32) & (insn.operand_size == 2 ? 0xff00 : 0xf0ff00));
    return Outcome::next;
}

Outcome execute_load_segment_limit(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    namespace type = descriptor_type;
    constexpr TypeSet legacy = types({ type::tss16_available, type::ldt, type::tss16_busy, type::tss32_available, type::tss32_busy });
    constexpr TypeSet long_mode = types({ type::ldt, type::tss64_available, type::tss64_busy });
    u64 selector = 0;
    STEP(cpu.mmu->read_rm(insn, 2, selector));
    Descriptor descriptor;
    bool visible = false;
    STEP(examine(cpu, static_cast<u16>(selector), descriptor, visible));
    visible = visible && is_one_of(cpu, descriptor, legacy, long_mode);
    set_zero_flag(cpu, visible);
    if (visible)
        cpu.set_reg(insn.reg, insn.operand_size, descriptor.limit());
    return Outcome::next;
}

Outcome execute_verify_read(Cpu& cpu, Instruction const& insn)
{
    return verify(cpu, insn, &Descriptor::readable);
}

Outcome execute_verify_write(Cpu& cpu, Instruction const& insn)
{
    return verify(cpu, insn, &Descriptor::writable_data);
}

Outcome execute_adjust_rpl(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu) || cpu.code64())
        return raise_ud(cpu);
    u64 selector = 0;
    STEP(cpu.mmu->read_rm(insn, 2, selector));
    u64 const rpl = cpu.reg(insn.reg, 2) & 3;
    bool const adjust = (selector & 3) < rpl;
    if (adjust)
        STEP(cpu.mmu->write_rm(insn, 2, (selector & 0xfffc) | rpl));
    set_zero_flag(cpu, adjust);
    return Outcome::next;
}

Outcome execute_lldt(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    u64 selector = 0;
    STEP(cpu.mmu->read_rm(insn, 2, selector));
    SegmentRegister loaded;
    STEP(check_ldt(cpu, static_cast<u16>(selector), vector::general_protection, loaded));
    cpu.ldtr = loaded;
    return Outcome::next;
}

Outcome execute_ltr(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    u64 operand = 0;
    STEP(cpu.mmu->read_rm(insn, 2, operand));
    u16 const selector = static_cast<u16>(operand);
    if (is_null(selector))
        return raise_gp(cpu);
    if (in_ldt(selector))
        return raise_selector(cpu, vector::general_protection, selector);
    Descriptor descriptor;
    STEP(fetch_descriptor(cpu, selector, vector::general_protection, descriptor));
    bool const available = descriptor.type() == descriptor_type::tss32_available
                           || (!cpu.long_mode() && descriptor.type() == descriptor_type::tss16_available);
    if (!descriptor.system() || !available)
        return raise_selector(cpu, vector::general_protection, selector);
    if (!descriptor.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    STEP(fetch_system_half(cpu, vector::general_protection, descriptor));
    if (!is_canonical(descriptor.base()))
        return raise_selector(cpu, vector::general_protection, selector);
    STEP(mark_busy(cpu, descriptor, Busy::yes));
    cpu.tr = descriptor.segment_register();
    return Outcome::next;
}

Outcome execute_sldt(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    if ((cpu.cr4 & x86::cr4::umip) && cpu.cpl != 0)
        return raise_gp(cpu);
    return store_selector(cpu, insn, cpu.ldtr.selector);
}

Outcome execute_str(Cpu& cpu, Instruction const& insn)
{
    if (!has_selectors(cpu))
        return raise_ud(cpu);
    if ((cpu.cr4 & x86::cr4::umip) && cpu.cpl != 0)
        return raise_gp(cpu);
    return store_selector(cpu, insn, cpu.tr.selector);
}

// Bases of FS and GS are read from the CPU structure at each access, so the memory unit need not be told.
Outcome execute_swapgs(Cpu& cpu, Instruction const&)
{
    if (!cpu.code64())
        return raise_ud(cpu);
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    std::swap(cpu.segment(Segment::gs).base, cpu.kernel_gs_base);
    return Outcome::next;
}

Outcome execute_read_fs_base(Cpu& cpu, Instruction const& insn)
{
    return read_base(cpu, insn, Segment::fs);
}

Outcome execute_read_gs_base(Cpu& cpu, Instruction const& insn)
{
    return read_base(cpu, insn, Segment::gs);
}

Outcome execute_write_fs_base(Cpu& cpu, Instruction const& insn)
{
    return write_base(cpu, insn, Segment::fs);
}

Outcome execute_write_gs_base(Cpu& cpu, Instruction const& insn)
{
    return write_base(cpu, insn, Segment::gs);
}

} // namespace anyhyve::soft
