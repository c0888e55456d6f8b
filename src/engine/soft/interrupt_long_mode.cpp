// Interrupts and exceptions in long mode: 16-byte gates, interrupt stack table (Intel SDM vol. 3A 6.14; vol. 2 INT n, IA-32e part).
#include "engine/soft/exceptions.hpp"
#include "engine/soft/flag_register.hpp"
#include "engine/soft/inner_stack.hpp"
#include "engine/soft/known_memory.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

namespace {

Outcome fetch_gate(Cpu& cpu, InterruptEvent const& event, Descriptor& gate)
{
    u32 const offset = event.vector * 16u;
    if (offset + 15 > cpu.idtr.limit)
        return raise_gp(cpu, event.gate_code());
    u64 entry[2];
    STEP(read_quadwords<2>(cpu, cpu.idtr.base + offset, entry, Rights::supervisor));
    gate.low = entry[0];
    gate.high = entry[1];
    bool const is_gate = gate.system() && (gate.type() == descriptor_type::interrupt_gate64 || gate.type() == descriptor_type::trap_gate64);
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
    if (!code.code() || code.dpl() > cpu.cpl || !code.code64())
        return raise_selector(cpu, vector::general_protection, selector);
    if (!code.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    return Outcome::next;
}

// Writes SS, RSP, RFLAGS, CS, RIP and the error code below `top`; `bottom` is then the handler's RSP.
Outcome push_frame(Cpu& cpu, InterruptEvent const& event, u64 top, Rights rights, u64& bottom)
{
    u64 const frame[6] = { event.error_code, event.return_rip, cpu.segment(Segment::cs).selector, event.pushed_flags,
                           cpu.gpr[x86::rsp], cpu.segment(Segment::ss).selector };
    top &= ~u64 { 15 };
    bottom = top - (event.has_error_code ? 6 : 5) * 8;
    if (!is_canonical(bottom) || !is_canonical(top - 1))
        return raise_with_code(cpu, vector::stack_fault, 0);
    return event.has_error_code ? write_quadwords<6>(cpu, bottom, frame, rights) : write_quadwords<5>(cpu, bottom, frame + 1, rights);
}

} // namespace

Outcome deliver_in_long_mode(Cpu& cpu, InterruptEvent const& event)
{
    Descriptor gate, code;
    STEP(fetch_gate(cpu, event, gate));
    STEP(fetch_handler_code(cpu, gate.gate_selector(), code));
    u8 const cpl = code.conforming() ? cpu.cpl : code.dpl();
    u64 pointer = cpu.gpr[x86::rsp];
    if (gate.gate_interrupt_stack() != 0)
        STEP(fetch_interrupt_stack64(cpu, gate.gate_interrupt_stack(), pointer));
    else if (cpl != cpu.cpl)
        STEP(fetch_inner_stack64(cpu, cpl, pointer));
    if (!is_canonical(gate.gate_offset64()))
        return raise_gp(cpu);
    STEP(mark_accessed(cpu, code));
    u64 bottom = 0;
    STEP(push_frame(cpu, event, pointer, stack_rights(cpu, cpl), bottom));

    cpu.gpr[x86::rsp] = bottom;
    if (cpl != cpu.cpl)
        cpu.segment(Segment::ss) = null_segment(cpl, cpl);
    cpu.segment(Segment::cs) = code.segment_register();
    cpu.segment(Segment::cs).selector = static_cast<u16>((code.selector & 0xfffc) | cpl);
    cpu.cpl = cpl;
    cpu.rip = gate.gate_offset64();
    u64 const cleared = rflags::tf | rflags::nt | rflags::rf | rflags::vm | (gate.type() == descriptor_type::interrupt_gate64 ? rflags::interrupt : 0);
    cpu.rflags &= ~cleared;
    cpu.interrupt_shadow = false;
    cpu.mmu->update_mode();
    return Outcome::jump;
}

} // namespace anyhyve::soft
