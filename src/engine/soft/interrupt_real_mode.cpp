// Interrupts through the real-mode vector table: real mode, and virtual-8086 programs with CR4.VME.
// Source: Intel SDM vol. 3A 20.1.4 (real mode), 20.3.3 (redirection), vol. 2 INT n.
#include "engine/soft/exceptions.hpp"
#include "engine/soft/flag_register.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/stack_frame.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;

namespace {

// Pushes FLAGS, CS and IP, and goes to the vector at `entry` (linear). The flags in force afterwards are the caller's to set.
Outcome enter_vector(Cpu& cpu, u64 entry, u64 pushed_flags, u64 return_rip)
{
    u32 handler = 0;
    STEP(cpu.mmu->read_value(entry, handler, Rights::supervisor));
    StackFrame frame(2);
    frame.push(pushed_flags);
    frame.push(cpu.segment(Segment::cs).selector);
    frame.push(return_rip);
    u64 pointer = 0;
    STEP(frame.write(cpu, current_stack(cpu), pointer));
    set_stack_pointer(cpu, pointer);
    u16 const selector = static_cast<u16>(handler >> 16);
    cpu.segment(Segment::cs) = cpu.virtual_8086() ? virtual_8086_segment(selector) : real_mode_segment(Segment::cs, cpu.segment(Segment::cs), selector);
    cpu.rip = handler & 0xffff;
    cpu.interrupt_shadow = false;
    return Outcome::next;
}

// The bit of the TSS's interrupt redirection map: 32 bytes below the I/O map (SDM vol. 3A figure 20-5).
Outcome read_redirection_bit(Cpu& cpu, u8 vector, bool& set)
{
    constexpr u32 io_map_field = 0x66;
    if (cpu.tr.limit < io_map_field + 1)
        return raise_gp(cpu);
    u16 io_map = 0;
    STEP(cpu.mmu->read_value(wrap_linear(cpu, cpu.tr.base + io_map_field), io_map, Rights::supervisor));
    if (io_map < 32 || io_map - 32u + vector / 8u > cpu.tr.limit)
        return raise_gp(cpu);
    u8 byte = 0;
    STEP(cpu.mmu->read_value(wrap_linear(cpu, cpu.tr.base + io_map - 32 + vector / 8u), byte, Rights::supervisor));
    set = (byte >> (vector % 8)) & 1;
    return Outcome::next;
}

} // namespace

Outcome deliver_in_real_mode(Cpu& cpu, InterruptEvent const& event)
{
    if (event.vector * 4u + 3 > cpu.idtr.limit)
        return raise_gp(cpu);
    STEP(enter_vector(cpu, wrap_linear(cpu, cpu.idtr.base + event.vector * 4u), event.pushed_flags, event.return_rip));
    set_flags(cpu, cpu.rflags & ~(rflags::interrupt | rflags::tf | rflags::ac | rflags::rf));
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome deliver_in_virtual_8086(Cpu& cpu, InterruptEvent const& event, bool& redirected)
{
    bool protected_handler = true;
    redirected = false;
    if (cpu.cr4 & x86::cr4::vme)
        STEP(read_redirection_bit(cpu, event.vector, protected_handler));
    if (protected_handler)
        return Outcome::next;
    // SDM vol. 3A 20.3.3.4: below IOPL 3 the program sees its virtual interrupt flag, and IOPL 3.
    u64 pushed = event.pushed_flags;
    u64 cleared = rflags::tf | rflags::rf;
    if (io_privilege(cpu.rflags) == 3)
        cleared |= rflags::interrupt;
    else {
        pushed = (pushed & ~(rflags::nt | rflags::interrupt)) | rflags::iopl | (pushed & rflags::vif ? rflags::interrupt : 0);
        cleared |= rflags::vif;
    }
    STEP(enter_vector(cpu, event.vector * 4u, pushed, event.return_rip));
    set_flags(cpu, cpu.rflags & ~cleared);
    cpu.mmu->update_mode();
    redirected = true;
    return Outcome::jump;
}

} // namespace anyhyve::soft
