// Stack instructions with code of their own: PUSH/POP of segments, flags and all registers, ENTER, LEAVE (Intel SDM vol. 2).
#include "engine/soft/stack_operations.hpp"

#include "engine/soft/flag_register.hpp"
#include "engine/soft/known_memory.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/stack_frame.hpp"

namespace anyhyve::soft {

using x86::Instruction;
using x86::Segment;
namespace rflags = x86::rflags;

namespace {

// 64-bit code pushes 8 bytes, or 2 with the prefix; never 4.
unsigned operand_size(Cpu const& cpu, Instruction const& insn)
{
    return cpu.code64() && insn.operand_size == 4 ? 8 : insn.operand_size;
}

Outcome push(Cpu& cpu, unsigned size, u64 value)
{
    u64 const below = cpu.gpr[x86::rsp] - 8;
    if (size == 8 && is_canonical(below) && is_canonical(below + 7)) { // 64-bit code
        STEP(write_quadwords<1>(cpu, below, &value, Rights::current));
        cpu.gpr[x86::rsp] = below;
        return Outcome::next;
    }
    u64 const pointer = (cpu.gpr[x86::rsp] - size) & width_mask(stack_width(cpu));
    STEP(cpu.mmu->write_segment(Segment::ss, pointer, &value, size));
    set_stack_pointer(cpu, pointer);
    return Outcome::next;
}

// The segment that PUSH and POP name in their opcode: 06, 0E, 16, 1E, 0F A0, 0F A8 and the odd neighbours.
Segment named_segment(Instruction const& insn)
{
    return static_cast<Segment>((insn.opcode >> 3) & 7);
}

constexpr u64 lower_flags = rflags::arithmetic | rflags::tf | rflags::df | rflags::nt;

// POPF below IOPL 3 in virtual-8086 mode with CR4.VME: IF stands for VIF (SDM vol. 3A 20.3.3.4).
Outcome pop_virtual_flags(Cpu& cpu, u64 popped)
{
    bool const wants_interrupts = (popped & rflags::interrupt) != 0;
    if ((popped & rflags::tf) || (wants_interrupts && (cpu.rflags & rflags::vip)))
        return raise_gp(cpu);
    u64 const flags = (cpu.rflags & ~(lower_flags | rflags::rf | rflags::vif)) | (popped & lower_flags);
    set_flags(cpu, wants_interrupts ? flags | rflags::vif : flags);
    return Outcome::next;
}

void pop_flag_image(Cpu& cpu, u64 popped, unsigned size)
{
    u64 mask = lower_flags;
    if (size != 2)
        mask |= rflags::ac | rflags::id;
    if (cpu.cpl == 0)
        mask |= rflags::iopl;
    if (cpu.cpl <= io_privilege(cpu.rflags))
        mask |= rflags::interrupt;
    u64 const before = cpu.rflags;
    set_flags(cpu, (before & ~(mask | rflags::rf)) | (popped & mask));
    if ((before ^ cpu.rflags) & (rflags::ac | rflags::tf))
        cpu.mmu->update_mode();
}

} // namespace

Outcome execute_push_segment(Cpu& cpu, Instruction const& insn)
{
    return push(cpu, operand_size(cpu, insn), cpu.segment(named_segment(insn)).selector);
}

Outcome execute_pop_segment(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = operand_size(cpu, insn);
    u64 const pointer = stack_pointer(cpu) + size;
    u64 value = 0;
    STEP(read_frame(cpu, 0, size, 1, &value));
    Segment const segment = named_segment(insn);
    x86::SegmentRegister loaded;
    STEP(check_segment(cpu, segment, static_cast<u16>(value), loaded));
    set_stack_pointer(cpu, pointer); // by the width of the stack it was popped from
    cpu.segment(segment) = loaded;
    cpu.mmu->update_mode();
    if (segment == Segment::ss)
        cpu.interrupt_shadow = cpu.debug_shadow = true;
    return Outcome::next;
}

Outcome execute_push_flags(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = operand_size(cpu, insn);
    u64 image = cpu.rflags & ~(rflags::vm | rflags::rf);
    if (cpu.virtual_8086() && io_privilege(cpu.rflags) < 3) {
        if (!(cpu.cr4 & x86::cr4::vme) || size != 2)
            return raise_gp(cpu);
        image = (image & ~rflags::interrupt) | rflags::iopl | (cpu.rflags & rflags::vif ? rflags::interrupt : 0);
    }
    return push(cpu, size, image);
}

Outcome execute_pop_flags(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = operand_size(cpu, insn);
    bool const is_virtual = cpu.virtual_8086() && io_privilege(cpu.rflags) < 3;
    if (is_virtual && (!(cpu.cr4 & x86::cr4::vme) || size != 2))
        return raise_gp(cpu);
    u64 popped = 0;
    bool const simple = size == 8 && is_canonical(cpu.gpr[x86::rsp]) && is_canonical(cpu.gpr[x86::rsp] + 7); // 64-bit code
    STEP(simple ? read_quadwords<1>(cpu, cpu.gpr[x86::rsp], &popped, Rights::current) : read_frame(cpu, 0, size, 1, &popped));
    if (is_virtual)
        STEP(pop_virtual_flags(cpu, popped));
    else
        pop_flag_image(cpu, popped, size);
    set_stack_pointer(cpu, stack_pointer(cpu) + size);
    return Outcome::next;
}

Outcome execute_push_all(Cpu& cpu, Instruction const& insn)
{
    StackFrame frame(insn.operand_size);
    for (unsigned i = 0; i < 8; i++)
        frame.push(cpu.gpr[i]);
    u64 pointer = 0;
    STEP(frame.write(cpu, current_stack(cpu), pointer));
    set_stack_pointer(cpu, pointer);
    return Outcome::next;
}

Outcome execute_pop_all(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = insn.operand_size;
    u64 values[8];
    STEP(read_frame(cpu, 0, size, 8, values));
    u64 const pointer = stack_pointer(cpu) + 8 * size;
    for (unsigned i = 0; i < 8; i++) {
        if (i != x86::rsp) // the image of RSP is skipped
            cpu.set_reg(i, size, values[7 - i]);
    }
    set_stack_pointer(cpu, pointer);
    return Outcome::next;
}

// Memory at `address` was read before the pushes were written: the bytes of it that some of them have changed. Bytes below `top` were pushed.
static u64 with_pushed(u64 value, u64 address, u64 top, u64 mask, u64 const* pushed, unsigned count, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        u64 const below = (top - 1 - address - i) & mask;
        if (below >= u64 { count } * size)
            continue;
        unsigned const from = (size - 1 - static_cast<unsigned>(below % size)) * 8;
        u64 const byte = pushed[below / size] >> from & 0xff;
        value = (value & ~(u64 { 0xff } << i * 8)) | byte << i * 8;
    }
    return value;
}

Outcome execute_enter(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = operand_size(cpu, insn), width = stack_width(cpu), level = insn.immediate2 & 31;
    u64 const mask = width_mask(width);
    u64 pointer = 0, linear = 0;
    // Faults come in the order of the pushes and reads.
    auto const probe_push = [&](unsigned number) {
        STEP(cpu.mmu->linear_address(Segment::ss, (cpu.gpr[x86::rsp] - (number + 1) * size) & mask, size, Access::write, linear));
        return cpu.mmu->probe(linear, size, Access::write);
    };
    StackFrame frame(size);
    u64 pushed_values[32];
    STEP(probe_push(0));
    frame.push(pushed_values[0] = cpu.gpr[x86::rbp]);
    u64 const new_frame = (cpu.gpr[x86::rsp] - size) & mask;
    for (unsigned i = 1; i < level; i++) {
        u64 const from = (cpu.gpr[x86::rbp] - i * size) & mask;
        u64 outer = 0;
        STEP(cpu.mmu->read_segment(Segment::ss, from, &outer, size));
        STEP(probe_push(i));
        outer = with_pushed(outer, from, cpu.gpr[x86::rsp], mask, pushed_values, i, size);
        frame.push(pushed_values[i] = outer);
    }
    if (level > 0)
        frame.push(new_frame);
    StackTarget const stack = current_stack(cpu);
    // The last byte of the new frame must be writable, or nothing happens (SDM vol. 2A ENTER).
    u64 const pushed = (level + 1) * size;
    u64 const end = (stack.pointer - pushed - (insn.immediate & 0xffff)) & mask;
    STEP(cpu.mmu->linear_address(Segment::ss, end, size, Access::write, linear));
    STEP(cpu.mmu->probe(linear, size, Access::write));
    STEP(frame.write(cpu, stack, pointer));
    set_stack_pointer(cpu, end);
    cpu.set_reg(x86::rbp, size, new_frame);
    return Outcome::next;
}

Outcome execute_leave(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = operand_size(cpu, insn);
    u64 const frame = cpu.reg(x86::rbp, stack_width(cpu));
    u64 value = 0;
    STEP(cpu.mmu->read_segment(Segment::ss, frame, &value, size));
    set_stack_pointer(cpu, frame + size);
    cpu.set_reg(x86::rbp, size, value);
    return Outcome::next;
}

} // namespace anyhyve::soft
