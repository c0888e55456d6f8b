// Far JMP, CALL and RET in every mode (Intel SDM vol. 2 JMP, CALL, RET; vol. 3A 5.8).
#include "engine/soft/far_transfers.hpp"

#include "engine/soft/call_gates.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/return_checks.hpp"
#include "engine/soft/stack_frame.hpp"
#include "engine/soft/task_switch.hpp"

namespace anyhyve::soft {

using x86::Instruction;
using x86::Segment;
namespace vector = x86::vector;

namespace {

enum class Transfer : u8 { jump, call };

struct FarPointer {
    u64 offset = 0;
    u16 selector = 0;
};

Outcome read_far_pointer(Cpu& cpu, Instruction const& insn, FarPointer& pointer)
{
    unsigned const size = insn.operand_size;
    if (!insn.has_modrm) {
        pointer = { .offset = insn.immediate & width_mask(size), .selector = insn.immediate2 };
        return Outcome::next;
    }
    if (!insn.has_memory)
        return raise_ud(cpu);
    u8 bytes[10];
    u64 linear = 0;
    STEP(cpu.mmu->operand_address(insn, size + 2, Access::read, linear));
    STEP(cpu.mmu->read(linear, bytes, size + 2));
    pointer.offset = 0;
    for (unsigned i = size; i-- > 0;)
        pointer.offset = pointer.offset << 8 | bytes[i];
    pointer.selector = static_cast<u16>(bytes[size] | bytes[size + 1] << 8);
    return Outcome::next;
}

// Writes CS and the return address on the current stack. RSP is the caller's to change: to `pointer`.
Outcome push_return_address(Cpu& cpu, unsigned size, u64& pointer)
{
    StackFrame frame(size);
    frame.push(cpu.segment(Segment::cs).selector);
    frame.push(cpu.next_rip);
    return frame.write(cpu, current_stack(cpu), pointer);
}

// Real and virtual-8086 mode.
Outcome transfer_unprotected(Cpu& cpu, FarPointer target, Transfer transfer, unsigned size)
{
    if (target.offset > cpu.segment(Segment::cs).limit)
        return raise_gp(cpu);
    if (transfer == Transfer::call) {
        u64 pointer = 0;
        STEP(push_return_address(cpu, size, pointer));
        set_stack_pointer(cpu, pointer);
    }
    cpu.segment(Segment::cs) = cpu.virtual_8086() ? virtual_8086_segment(target.selector)
                                                  : real_mode_segment(Segment::cs, cpu.segment(Segment::cs), target.selector);
    cpu.rip = target.offset;
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome check_code(Cpu& cpu, Descriptor& code, u64 offset)
{
    bool const level_fits = code.conforming() ? code.dpl() <= cpu.cpl : code.rpl() <= cpu.cpl && code.dpl() == cpu.cpl;
    bool const both_sizes = cpu.long_mode() && code.is(x86::access::long_mode | x86::access::big);
    if (!level_fits || both_sizes)
        return raise_selector(cpu, vector::general_protection, code.selector);
    if (!code.present())
        return raise_selector(cpu, vector::segment_not_present, code.selector);
    bool const to_64 = cpu.long_mode() && code.is(x86::access::long_mode);
    if (to_64 ? !is_canonical(offset) : offset > code.limit())
        return raise_gp(cpu);
    return mark_accessed(cpu, code);
}

Outcome transfer_to_code(Cpu& cpu, Descriptor& code, u64 offset, Transfer transfer, unsigned size)
{
    STEP(check_code(cpu, code, offset));
    u64 pointer = 0;
    if (transfer == Transfer::call) {
        STEP(push_return_address(cpu, size, pointer));
        set_stack_pointer(cpu, pointer);
    }
    enter_code(cpu, code, cpu.cpl, offset);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome transfer_to_task(Cpu& cpu, u16 selector, Transfer transfer)
{
    auto const cause = transfer == Transfer::call ? TaskSwitchCause::call : TaskSwitchCause::jump;
    Descriptor task;
    STEP(fetch_task(cpu, selector, cause, task));
    return switch_task(cpu, task, { .cause = cause, .saved_rip = cpu.next_rip, .saved_flags = cpu.rflags });
}

// What is not a code segment: gates and task state segments.
Outcome transfer_to_system(Cpu& cpu, Descriptor& target, Transfer transfer)
{
    namespace type = descriptor_type;
    bool const legacy = !cpu.long_mode();
    bool const visible = target.dpl() >= cpu.cpl && target.dpl() >= target.rpl();
    u8 const kind = target.type();
    if (kind == type::call_gate32 || (legacy && kind == type::call_gate16))
        return transfer == Transfer::call ? call_through_gate(cpu, target) : jump_through_gate(cpu, target);
    bool const is_task = kind == type::tss16_available || kind == type::tss32_available;
    if (!legacy || !visible || (kind != type::task_gate && !is_task))
        return raise_selector(cpu, vector::general_protection, target.selector);
    if (!target.present())
        return raise_selector(cpu, vector::segment_not_present, target.selector);
    return transfer_to_task(cpu, is_task ? target.selector : target.gate_selector(), transfer);
}

Outcome transfer(Cpu& cpu, Instruction const& insn, Transfer kind)
{
    FarPointer target;
    STEP(read_far_pointer(cpu, insn, target));
    if (cpu.real_mode() || cpu.virtual_8086())
        return transfer_unprotected(cpu, target, kind, insn.operand_size);
    if (is_null(target.selector))
        return raise_gp(cpu);
    Descriptor descriptor;
    STEP(fetch_descriptor(cpu, target.selector, vector::general_protection, descriptor));
    if (descriptor.code())
        return transfer_to_code(cpu, descriptor, target.offset, kind, insn.operand_size);
    if (descriptor.system())
        return transfer_to_system(cpu, descriptor, kind);
    return raise_selector(cpu, vector::general_protection, target.selector);
}

Outcome return_unprotected(Cpu& cpu, u64 const* frame, u64 released)
{
    if (frame[0] > cpu.segment(Segment::cs).limit)
        return raise_gp(cpu);
    u16 const selector = static_cast<u16>(frame[1]);
    set_stack_pointer(cpu, stack_pointer(cpu) + released);
    cpu.segment(Segment::cs) = cpu.virtual_8086() ? virtual_8086_segment(selector)
                                                  : real_mode_segment(Segment::cs, cpu.segment(Segment::cs), selector);
    cpu.rip = frame[0];
    cpu.mmu->update_mode();
    return Outcome::jump;
}

} // namespace

Outcome execute_jump_far(Cpu& cpu, Instruction const& insn)
{
    return transfer(cpu, insn, Transfer::jump);
}

Outcome execute_call_far(Cpu& cpu, Instruction const& insn)
{
    return transfer(cpu, insn, Transfer::call);
}

Outcome execute_return_far(Cpu& cpu, Instruction const& insn)
{
    unsigned const size = insn.operand_size;
    u64 const parameters = insn.immediate_size != 0 ? insn.immediate & 0xffff : 0;
    u64 frame[2], outer_frame[2];
    STEP(read_frame(cpu, 0, size, 2, frame));
    if (cpu.real_mode() || cpu.virtual_8086())
        return return_unprotected(cpu, frame, 2 * size + parameters);
    Descriptor code;
    STEP(check_return_code(cpu, static_cast<u16>(frame[1]), frame[0], code));
    if (code.rpl() == cpu.cpl) {
        set_stack_pointer(cpu, stack_pointer(cpu) + 2 * size + parameters);
        enter_return_code(cpu, code, frame[0]);
        cpu.mmu->update_mode();
        return Outcome::jump;
    }
    // To an outer level: its stack lies above the parameters, and is released of them too.
    x86::SegmentRegister stack;
    STEP(read_frame(cpu, 2 * size + parameters, size, 2, outer_frame));
    STEP(check_return_stack(cpu, static_cast<u16>(outer_frame[1]), code, stack));
    enter_return_code(cpu, code, frame[0]);
    cpu.segment(Segment::ss) = stack;
    set_stack_pointer(cpu, outer_frame[0]);
    if (parameters != 0)
        set_stack_pointer(cpu, stack_pointer(cpu) + parameters);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

} // namespace anyhyve::soft
