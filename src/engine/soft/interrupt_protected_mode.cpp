// Interrupts and exceptions in protected and virtual-8086 mode: interrupt, trap and task gates (Intel SDM vol. 3A 6.10-6.13; vol. 2 INT n).
#include "engine/soft/exceptions.hpp"
#include "engine/soft/flag_register.hpp"
#include "engine/soft/inner_stack.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/task_switch.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

namespace {

constexpr bool is_interrupt_type(u8 type)
{
    return type == descriptor_type::interrupt_gate16 || type == descriptor_type::interrupt_gate32;
}

constexpr bool is_trap_type(u8 type)
{
    return type == descriptor_type::trap_gate16 || type == descriptor_type::trap_gate32;
}

Outcome fetch_gate(Cpu& cpu, InterruptEvent const& event, Descriptor& gate)
{
    u32 const offset = event.vector * 8u;
    if (offset + 7 > cpu.idtr.limit)
        return raise_gp(cpu, event.gate_code());
    STEP(cpu.mmu->read_value(wrap_linear(cpu, cpu.idtr.base + offset), gate.low, Rights::supervisor));
    u8 const type = gate.type();
    bool const is_gate = gate.system() && (type == descriptor_type::task_gate || is_interrupt_type(type) || is_trap_type(type));
    if (!is_gate || (event.checks_gate_privilege() && gate.dpl() < cpu.cpl))
        return raise_gp(cpu, event.gate_code());
    if (!gate.present())
        return raise_with_code(cpu, vector::segment_not_present, event.gate_code());
    return Outcome::next;
}

Outcome fetch_handler_code(Cpu& cpu, u16 selector, Descriptor& code)
{
    if (is_null(selector))
        return raise_gp(cpu);
    STEP(fetch_descriptor(cpu, selector, vector::general_protection, code));
    // From virtual-8086 mode only ring 0 can be entered, and not through conforming code.
    bool const allowed = cpu.virtual_8086() ? !code.conforming() && code.dpl() == 0 : code.dpl() <= cpu.cpl;
    if (!code.code() || !allowed)
        return raise_selector(cpu, vector::general_protection, selector);
    if (!code.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    return Outcome::next;
}

void push_handler_frame(Cpu const& cpu, InterruptEvent const& event, bool with_stack, StackFrame& frame)
{
    if (cpu.virtual_8086()) {
        for (auto const segment : { Segment::gs, Segment::fs, Segment::ds, Segment::es })
            frame.push(cpu.segment(segment).selector);
    }
    if (with_stack) {
        frame.push(cpu.segment(Segment::ss).selector);
        frame.push(cpu.gpr[x86::rsp]);
    }
    frame.push(event.pushed_flags);
    frame.push(cpu.segment(Segment::cs).selector);
    frame.push(event.return_rip);
    if (event.has_error_code)
        frame.push(event.error_code);
}

Outcome enter_handler(Cpu& cpu, InterruptEvent const& event, Descriptor const& gate)
{
    Descriptor code;
    STEP(fetch_handler_code(cpu, gate.gate_selector(), code));
    bool const wide = (gate.type() & descriptor_type::wide_bit) != 0;
    u8 const cpl = code.conforming() ? cpu.cpl : code.dpl();
    bool const inner = cpl != cpu.cpl;
    StackTarget stack = current_stack(cpu);
    if (inner)
        STEP(fetch_inner_stack(cpu, cpl, stack));
    u64 const entry = wide ? gate.gate_offset32() : gate.gate_offset32() & 0xffff;
    if (entry > code.limit())
        return raise_gp(cpu);
    StackFrame frame(wide ? 4 : 2);
    push_handler_frame(cpu, event, inner, frame);
    STEP(mark_accessed(cpu, code));
    u64 pointer = 0;
    STEP(frame.write(cpu, stack, pointer));

    if (cpu.virtual_8086()) {
        for (auto const segment : { Segment::gs, Segment::fs, Segment::ds, Segment::es })
            cpu.segment(segment) = null_segment(0);
    }
    if (inner)
        cpu.segment(Segment::ss) = stack.segment;
    cpu.segment(Segment::cs) = code.segment_register();
    cpu.segment(Segment::cs).selector = static_cast<u16>((code.selector & 0xfffc) | cpl);
    set_stack_pointer(cpu, pointer);
    cpu.cpl = cpl;
    cpu.rip = entry;
    cpu.rflags &= ~(rflags::tf | rflags::nt | rflags::rf | rflags::vm | (is_interrupt_type(gate.type()) ? rflags::interrupt : 0));
    cpu.interrupt_shadow = false;
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome enter_task(Cpu& cpu, InterruptEvent const& event, u16 selector)
{
    Descriptor task;
    STEP(fetch_task(cpu, selector, TaskSwitchCause::interrupt, task));
    cpu.interrupt_shadow = false;
    return switch_task(cpu, task,
                       { .cause = TaskSwitchCause::interrupt,
                         .saved_rip = event.return_rip,
                         .saved_flags = event.pushed_flags,
                         .has_error_code = event.has_error_code,
                         .error_code = event.error_code });
}

} // namespace

Outcome deliver_in_protected_mode(Cpu& cpu, InterruptEvent const& event)
{
    if (cpu.virtual_8086() && event.kind == EventKind::software_interrupt) {
        bool redirected = false;
        Outcome const outcome = deliver_in_virtual_8086(cpu, event, redirected);
        if (redirected || outcome != Outcome::next)
            return outcome;
        if (io_privilege(cpu.rflags) < 3)
            return raise_gp(cpu);
    }
    Descriptor gate;
    STEP(fetch_gate(cpu, event, gate));
    if (gate.type() == descriptor_type::task_gate)
        return enter_task(cpu, event, gate.gate_selector());
    return enter_handler(cpu, event, gate);
}

} // namespace anyhyve::soft
