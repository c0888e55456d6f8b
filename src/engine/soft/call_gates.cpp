// Call gates: checks, stack switch, copied parameters (Intel SDM vol. 3A 5.8.3 to 5.8.5; vol. 2 CALL and JMP).
#include "engine/soft/call_gates.hpp"

#include "engine/soft/inner_stack.hpp"
#include "engine/soft/mmu.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace vector = x86::vector;

namespace {

enum class Transfer : u8 { jump, call };

bool is_wide(Descriptor const& gate)
{
    return (gate.type() & descriptor_type::wide_bit) != 0;
}

// Bytes of what the gate pushes.
unsigned item_size(Cpu const& cpu, Descriptor const& gate)
{
    return cpu.long_mode() ? 8 : is_wide(gate) ? 4 : 2;
}

u64 entry_point(Cpu const& cpu, Descriptor const& gate)
{
    return cpu.long_mode() ? gate.gate_offset64() : is_wide(gate) ? gate.gate_offset32() : gate.gate_offset32() & 0xffff;
}

Outcome check_gate(Cpu& cpu, Descriptor& gate)
{
    if (gate.dpl() < cpu.cpl || gate.rpl() > gate.dpl())
        return raise_selector(cpu, vector::general_protection, gate.selector);
    STEP(fetch_system_half(cpu, vector::general_protection, gate));
    if (!gate.present())
        return raise_selector(cpu, vector::segment_not_present, gate.selector);
    return Outcome::next;
}

Outcome fetch_target(Cpu& cpu, Descriptor const& gate, Transfer transfer, Descriptor& code)
{
    u16 const selector = gate.gate_selector();
    if (is_null(selector))
        return raise_gp(cpu);
    STEP(fetch_descriptor(cpu, selector, vector::general_protection, code));
    // A jump through a gate cannot change the level; a call may go inwards.
    bool const level_fits = transfer == Transfer::call || code.conforming() ? code.dpl() <= cpu.cpl : code.dpl() == cpu.cpl;
    bool const size_fits = !cpu.long_mode() || code.code64();
    if (!code.code() || !level_fits || !size_fits)
        return raise_selector(cpu, vector::general_protection, selector);
    if (!code.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    return Outcome::next;
}

Outcome check_entry_point(Cpu& cpu, Descriptor const& code, u64 rip)
{
    bool const fits = cpu.long_mode() ? is_canonical(rip) : rip <= code.limit();
    return fits ? Outcome::next : raise_gp(cpu);
}

// The caller's parameters, topmost last as they were pushed.
Outcome copy_parameters(Cpu& cpu, Descriptor const& gate, StackFrame& frame)
{
    unsigned const size = item_size(cpu, gate);
    for (unsigned i = gate.gate_parameter_count(); i-- > 0;) {
        u64 value = 0;
        STEP(read_frame(cpu, u64 { i } * size, size, 1, &value));
        frame.push(value);
    }
    return Outcome::next;
}

Outcome call_inner(Cpu& cpu, Descriptor const& gate, Descriptor& code, u64 rip)
{
    u8 const cpl = code.dpl();
    StackTarget stack { .segment = null_segment(cpl, cpl), .rights = stack_rights(cpu, cpl) };
    if (cpu.long_mode())
        STEP(fetch_inner_stack64(cpu, cpl, stack.pointer));
    else
        STEP(fetch_inner_stack(cpu, cpl, stack));
    StackFrame frame(item_size(cpu, gate));
    frame.push(cpu.segment(Segment::ss).selector);
    frame.push(cpu.gpr[x86::rsp]);
    if (!cpu.long_mode())
        STEP(copy_parameters(cpu, gate, frame));
    frame.push(cpu.segment(Segment::cs).selector);
    frame.push(cpu.next_rip);
    STEP(check_entry_point(cpu, code, rip));
    STEP(mark_accessed(cpu, code));
    u64 pointer = 0;
    STEP(frame.write(cpu, stack, pointer));
    cpu.segment(Segment::ss) = stack.segment;
    enter_code(cpu, code, cpl, rip);
    set_stack_pointer(cpu, pointer);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome call_same_level(Cpu& cpu, Descriptor const& gate, Descriptor& code, u64 rip)
{
    StackFrame frame(item_size(cpu, gate));
    frame.push(cpu.segment(Segment::cs).selector);
    frame.push(cpu.next_rip);
    StackTarget stack = current_stack(cpu);
    if (cpu.long_mode()) {
        // The gate leads to 64-bit code, whose pushes these are.
        stack.width = 8;
        stack.pointer = cpu.gpr[x86::rsp];
    }
    STEP(check_entry_point(cpu, code, rip));
    STEP(mark_accessed(cpu, code));
    u64 pointer = 0;
    STEP(frame.write(cpu, stack, pointer));
    enter_code(cpu, code, cpu.cpl, rip);
    set_stack_pointer(cpu, pointer);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

} // namespace

void enter_code(Cpu& cpu, Descriptor const& code, u8 cpl, u64 rip)
{
    cpu.segment(Segment::cs) = code.segment_register();
    cpu.segment(Segment::cs).selector = static_cast<u16>((code.selector & 0xfffc) | cpl);
    cpu.cpl = cpl;
    cpu.rip = rip;
}

Outcome jump_through_gate(Cpu& cpu, Descriptor& gate)
{
    Descriptor code;
    STEP(check_gate(cpu, gate));
    STEP(fetch_target(cpu, gate, Transfer::jump, code));
    u64 const rip = entry_point(cpu, gate);
    STEP(check_entry_point(cpu, code, rip));
    STEP(mark_accessed(cpu, code));
    enter_code(cpu, code, cpu.cpl, rip);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome call_through_gate(Cpu& cpu, Descriptor& gate)
{
    Descriptor code;
    STEP(check_gate(cpu, gate));
    STEP(fetch_target(cpu, gate, Transfer::call, code));
    u64 const rip = entry_point(cpu, gate);
    bool const inner = !code.conforming() && code.dpl() < cpu.cpl;
    return inner ? call_inner(cpu, gate, code, rip) : call_same_level(cpu, gate, code, rip);
}

} // namespace anyhyve::soft
