// IRET in every mode (Intel SDM vol. 2A IRET/IRETD/IRETQ).
#include "engine/soft/interrupt_return.hpp"

#include "engine/soft/flag_register.hpp"
#include "engine/soft/known_memory.hpp"
#include "engine/soft/return_checks.hpp"
#include "engine/soft/stack_frame.hpp"
#include "engine/soft/task_switch.hpp"

namespace anyhyve::soft {

using x86::Instruction;
using x86::Segment;
namespace rflags = x86::rflags;

namespace {

constexpr u64 always_restored = rflags::arithmetic | rflags::tf | rflags::df | rflags::nt;
constexpr u64 upper_restored = rflags::ac | rflags::id;

// RFLAGS after popping `popped`, of which `mask` may be changed; a 16-bit image leaves the upper half alone. The old RF never survives.
u64 merge_flags(Cpu const& cpu, u64 popped, u64 mask, unsigned size)
{
    if (size == 2)
        mask &= 0xffff;
    return (cpu.rflags & ~mask & ~rflags::rf) | (popped & mask) | rflags::fixed;
}

// RF matters to instruction breakpoints only. Without any it is dropped: nothing clears it behind each instruction then.
u64 resume_flag(Cpu const& cpu)
{
    constexpr u64 dr7_enables = 0xff;
    return cpu.dr7 & dr7_enables ? rflags::rf : 0;
}

// What a protected-mode program of this level may restore.
u64 restorable_flags(Cpu const& cpu)
{
    u64 mask = always_restored | upper_restored | resume_flag(cpu);
    if (cpu.cpl <= io_privilege(cpu.rflags))
        mask |= rflags::interrupt;
    if (cpu.cpl == 0)
        mask |= rflags::iopl | rflags::vif | rflags::vip;
    return mask;
}

enum Item : u8 { item_ip, item_cs, item_flags, item_sp, item_ss, item_es, item_ds, item_fs, item_gs };

Outcome return_real_mode(Cpu& cpu, unsigned size)
{
    u64 frame[3];
    STEP(read_frame(cpu, 0, size, 3, frame));
    if (frame[item_ip] > cpu.segment(Segment::cs).limit)
        return raise_gp(cpu);
    set_stack_pointer(cpu, stack_pointer(cpu) + 3 * size);
    u16 const selector = static_cast<u16>(frame[item_cs]);
    cpu.segment(Segment::cs) = real_mode_segment(Segment::cs, cpu.segment(Segment::cs), selector);
    cpu.rip = frame[item_ip];
    set_flags(cpu, merge_flags(cpu, frame[item_flags], always_restored | upper_restored | resume_flag(cpu) | rflags::interrupt | rflags::iopl, size));
    cpu.mmu->update_mode();
    return Outcome::jump;
}

// Within a virtual-8086 task. Below IOPL 3 CR4.VME gives the program a virtual interrupt flag (SDM vol. 3A 20.3.3.4).
Outcome return_in_virtual_8086(Cpu& cpu, unsigned size)
{
    bool const privileged = io_privilege(cpu.rflags) == 3;
    if (!privileged && (!(cpu.cr4 & x86::cr4::vme) || size != 2))
        return raise_gp(cpu);
    u64 frame[3];
    STEP(read_frame(cpu, 0, size, 3, frame));
    u64 const popped = frame[item_flags];
    u64 flags = 0;
    if (privileged)
        flags = merge_flags(cpu, popped, always_restored | upper_restored | resume_flag(cpu) | rflags::interrupt, size);
    else {
        bool const wants_interrupts = (popped & rflags::interrupt) != 0;
        if ((popped & rflags::tf) || (wants_interrupts && (cpu.rflags & rflags::vip)))
            return raise_gp(cpu);
        flags = merge_flags(cpu, popped, always_restored, size);
        flags = wants_interrupts ? flags | rflags::vif : flags & ~rflags::vif;
    }
    if (frame[item_ip] > 0xffff)
        return raise_gp(cpu);
    set_stack_pointer(cpu, stack_pointer(cpu) + 3 * size);
    cpu.segment(Segment::cs) = virtual_8086_segment(static_cast<u16>(frame[item_cs]));
    cpu.rip = frame[item_ip];
    set_flags(cpu, flags);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome return_to_virtual_8086(Cpu& cpu)
{
    u64 frame[9];
    STEP(read_frame(cpu, 0, 4, 9, frame));
    if (frame[item_ip] > 0xffff)
        return raise_gp(cpu);
    constexpr struct {
        Segment segment;
        Item item;
    } order[] = { { Segment::cs, item_cs }, { Segment::ss, item_ss }, { Segment::es, item_es },
                  { Segment::ds, item_ds }, { Segment::fs, item_fs }, { Segment::gs, item_gs } };
    for (auto const& [segment, item] : order)
        cpu.segment(segment) = virtual_8086_segment(static_cast<u16>(frame[item]));
    cpu.gpr[x86::rsp] = frame[item_sp];
    cpu.rip = frame[item_ip];
    set_flags(cpu, merge_flags(cpu, frame[item_flags], restorable_flags(cpu) | rflags::vm, 4));
    cpu.cpl = 3;
    cpu.mmu->update_mode();
    return Outcome::jump;
}

// NT set: back to the task that the current TSS's link names.
Outcome return_to_linked_task(Cpu& cpu)
{
    if (cpu.long_mode())
        return raise_gp(cpu);
    u16 link = 0;
    STEP(cpu.mmu->read_value(wrap_linear(cpu, cpu.tr.base), link, Rights::supervisor));
    Descriptor task;
    STEP(fetch_task(cpu, link, TaskSwitchCause::interrupt_return, task));
    return switch_task(cpu, task, { .cause = TaskSwitchCause::interrupt_return, .saved_rip = cpu.next_rip, .saved_flags = cpu.rflags });
}

// Same or outer level, from a frame of three items or five.
Outcome return_to_code(Cpu& cpu, u64 const* frame, unsigned size, bool pops_stack)
{
    Descriptor code;
    x86::SegmentRegister stack;
    STEP(check_return_code(cpu, static_cast<u16>(frame[item_cs]), frame[item_ip], code));
    if (pops_stack)
        STEP(check_return_stack(cpu, static_cast<u16>(frame[item_ss]), code, stack));
    u64 const flags = merge_flags(cpu, frame[item_flags], restorable_flags(cpu), size);
    if (!pops_stack)
        set_stack_pointer(cpu, stack_pointer(cpu) + 3 * size);
    enter_return_code(cpu, code, frame[item_ip]);
    if (pops_stack) {
        cpu.segment(Segment::ss) = stack;
        set_stack_pointer(cpu, frame[item_sp]);
    }
    set_flags(cpu, flags);
    cpu.mmu->update_mode();
    return Outcome::jump;
}

Outcome return_in_protected_mode(Cpu& cpu, unsigned size)
{
    u64 frame[5];
    // 64-bit code always returns with a stack.
    if (cpu.code64()) {
        u64 const top = cpu.gpr[x86::rsp];
        bool const simple = size == 8 && is_canonical(top) && is_canonical(top + sizeof frame - 1) && !(cpu.mode & mode::alignment_check);
        STEP(simple ? read_quadwords<5>(cpu, top, frame, Rights::current) : read_frame(cpu, 0, size, 5, frame));
        return return_to_code(cpu, frame, size, true);
    }
    STEP(read_frame(cpu, 0, size, 3, frame));
    if (size == 4 && cpu.cpl == 0 && !cpu.long_mode() && (frame[item_flags] & rflags::vm))
        return return_to_virtual_8086(cpu);
    bool const outer = (frame[item_cs] & 3) > cpu.cpl;
    if (outer)
        STEP(read_frame(cpu, 3 * size, size, 2, frame + 3));
    return return_to_code(cpu, frame, size, outer);
}

} // namespace

Outcome execute_interrupt_return(Cpu& cpu, Instruction const& insn)
{
    // SDM vol. 3A 6.7.1: the next IRET unblocks NMIs, whether it faults or not. While they are blocked one is remembered, and no more.
    if (cpu.nmi_blocked) {
        cpu.nmi_blocked = false;
        cpu.events.fetch_and(~u32 { Cpu::event_second_nmi });
    }
    if (cpu.real_mode())
        return return_real_mode(cpu, insn.operand_size);
    if (cpu.virtual_8086())
        return return_in_virtual_8086(cpu, insn.operand_size);
    if (cpu.rflags & rflags::nt)
        return return_to_linked_task(cpu);
    return return_in_protected_mode(cpu, insn.operand_size);
}

} // namespace anyhyve::soft
