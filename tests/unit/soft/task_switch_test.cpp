// Hardware task switches by every cause, and what goes wrong in the new task.
#include "engine/soft/task_switch.hpp"

#include "engine/soft/far_transfers.hpp"
#include "engine/soft/interrupt_return.hpp"
#include "engine/soft/operations.hpp"
#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

class TaskSwitching : public GateMachine {
protected:
    TaskSwitching()
    {
        start_protected(0);
        for (u64 i = 0; i < 6; i++)
            put<u32>(map::second_tss + 0x48 + i * 4, i == 1 ? select::code0 : select::data0);
        put<u32>(map::second_tss + 0x20, map::code + 0x500);
        put<u32>(map::second_tss + 0x24, rflags::fixed | rflags::zf);
        for (u32 i = 0; i < 8; i++)
            put<u32>(map::second_tss + 0x28 + i * 4, i == 4 ? map::stack1 : 0x1000 + i);
        put<u32>(map::second_tss + 0x60, select::ldt);
        cpu.gpr[x86::rax] = 0xaaaa;
        cpu.rflags = rflags::fixed | rflags::cf;
    }
    static x86::Instruction to(u16 selector)
    {
        auto insn = instruction(4);
        insn.immediate2 = selector;
        return insn;
    }
    u8 access_byte(u16 selector) { return get<u8>(map::gdt + selector + 5); }
};

TEST_F(TaskSwitching, JumpSavesTheOldTaskAndLoadsTheNew)
{
    EXPECT_EQ(execute_jump_far(cpu, to(select::second_tss)), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 0x500);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::zf);
    EXPECT_EQ(cpu.gpr[x86::rax], 0x1000u);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack1);
    EXPECT_EQ(cpu.tr.selector, select::second_tss);
    EXPECT_EQ(cpu.ldtr.selector, select::ldt);
    EXPECT_TRUE(cpu.cr0 & x86::cr0::ts);
    EXPECT_EQ(get<u32>(map::tss + 0x20), map::code + 2);
    EXPECT_EQ(get<u32>(map::tss + 0x24), rflags::fixed | rflags::cf);
    EXPECT_EQ(get<u32>(map::tss + 0x28), 0xaaaau);
    EXPECT_EQ(get<u32>(map::tss + 0x4c), select::code0);
    EXPECT_EQ(access_byte(select::tss), rights::tss32);
    EXPECT_EQ(access_byte(select::second_tss), rights::tss32_busy);
}

TEST_F(TaskSwitching, CallNestsAndIretReturns)
{
    EXPECT_EQ(execute_call_far(cpu, to(select::second_tss)), Outcome::jump);
    EXPECT_TRUE(cpu.rflags & rflags::nt);
    EXPECT_EQ(get<u16>(map::second_tss), select::tss);
    EXPECT_EQ(access_byte(select::tss), rights::tss32_busy);
    cpu.next_rip = map::code + 0x501;
    EXPECT_EQ(execute_interrupt_return(cpu, instruction(4)), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 2);
    EXPECT_EQ(cpu.gpr[x86::rax], 0xaaaau);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::cf);
    EXPECT_EQ(cpu.tr.selector, select::tss);
    EXPECT_EQ(access_byte(select::second_tss), rights::tss32);
    EXPECT_EQ(get<u32>(map::second_tss + 0x20), map::code + 0x501);
    EXPECT_EQ(get<u32>(map::second_tss + 0x24) & rflags::nt, 0u);
}

TEST_F(TaskSwitching, TaskGateOfAnExceptionPushesTheErrorCode)
{
    set_gate(8, make_gate(select::second_tss, 0, rights::task_gate));
    cpu.fault = { .vector = 8, .has_error_code = true, .error_code = 0x77 };
    EXPECT_EQ(deliver_fault(cpu), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 0x500);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack1 - 4);
    EXPECT_EQ(get<u32>(map::stack1 - 4), 0x77u);
    EXPECT_EQ(get<u32>(map::tss + 0x20), map::code); // restarts the instruction
    EXPECT_TRUE(cpu.rflags & rflags::nt);
}

TEST_F(TaskSwitching, TaskGateInTheGdt)
{
    set_gdt(select::spare, make_gate(select::second_tss, 0, rights::task_gate));
    EXPECT_EQ(execute_jump_far(cpu, to(select::spare)), Outcome::jump);
    EXPECT_EQ(cpu.tr.selector, select::second_tss);
}

TEST_F(TaskSwitching, ChecksBeforeTheSwitch)
{
    expect_fault(execute_jump_far(cpu, to(select::tss)), vector::general_protection, select::tss); // busy
    set_gdt(select::second_tss, make_descriptor(map::second_tss, 0x66, rights::tss32));
    expect_fault(execute_jump_far(cpu, to(select::second_tss)), vector::invalid_tss, select::second_tss);
    set_gdt(select::second_tss, make_descriptor(map::second_tss, 0x67, rights::tss32 & 0x7f));
    expect_fault(execute_jump_far(cpu, to(select::second_tss)), vector::segment_not_present, select::second_tss);
    cpu.rflags |= rflags::nt;
    put<u16>(map::tss, select::second_tss);
    expect_fault(execute_interrupt_return(cpu, instruction(4)), vector::invalid_tss, select::second_tss); // not busy
    EXPECT_EQ(cpu.tr.selector, select::tss);
}

TEST_F(TaskSwitching, BadSegmentsFaultInTheNewTask)
{
    put<u32>(map::second_tss + 0x54, select::absent); // DS
    expect_fault(execute_jump_far(cpu, to(select::second_tss)), vector::segment_not_present, select::absent);
    EXPECT_EQ(cpu.tr.selector, select::second_tss);
    EXPECT_EQ(cpu.rip, map::code + 0x500);
}

TEST_F(TaskSwitching, BadStackOrLdtIsAnInvalidTss)
{
    put<u32>(map::second_tss + 0x50, select::data3);
    expect_fault(execute_jump_far(cpu, to(select::second_tss)), vector::invalid_tss, select::data3 & ~3u);
    start_protected(0);
    set_gdt(select::second_tss, make_descriptor(map::second_tss, 0x67, rights::tss32));
    put<u32>(map::second_tss + 0x60, select::data0);
    expect_fault(execute_jump_far(cpu, to(select::second_tss)), vector::invalid_tss, select::data0);
}

TEST_F(TaskSwitching, TrapBitRaisesADebugExceptionInTheNewTask)
{
    put<u16>(map::second_tss + 0x64, 1);
    EXPECT_EQ(execute_jump_far(cpu, to(select::second_tss)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::debug);
    EXPECT_EQ(cpu.fault.dr6, 0x8000u);
    EXPECT_EQ(cpu.rip, map::code + 0x500);
}

TEST_F(TaskSwitching, SmallTaskStateSegment)
{
    set_gdt(select::second_tss, make_descriptor(map::second_tss, 0x2b, rights::tss16));
    put<u16>(map::second_tss + 0x0e, 0x500);
    put<u16>(map::second_tss + 0x10, rflags::fixed);
    for (u64 i = 0; i < 8; i++)
        put<u16>(map::second_tss + 0x12 + i * 2, static_cast<u16>(0x2000 + i));
    put<u16>(map::second_tss + 0x22, select::data0);
    put<u16>(map::second_tss + 0x24, select::code16);
    put<u16>(map::second_tss + 0x26, select::stack16);
    put<u16>(map::second_tss + 0x28, select::data0);
    put<u16>(map::second_tss + 0x2a, 0);
    EXPECT_EQ(execute_call_far(cpu, to(select::second_tss)), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x500u);
    EXPECT_EQ(cpu.gpr[x86::rcx] & 0xffff, 0x2001u);
    EXPECT_EQ(segment(Segment::cs).base, map::code);
    EXPECT_TRUE(segment(Segment::fs).access & x86::access::unusable);
    cpu.next_rip = 0x501;
    EXPECT_EQ(execute_interrupt_return(cpu, instruction(2)), Outcome::jump);
    EXPECT_EQ(get<u16>(map::second_tss + 0x0e), 0x501);
    EXPECT_EQ(cpu.rip, map::code + 2);
}

TEST_F(TaskSwitching, IntoAVirtual8086Task)
{
    put<u32>(map::second_tss + 0x24, rflags::fixed | rflags::vm);
    put<u32>(map::second_tss + 0x20, 0x100);
    put<u32>(map::second_tss + 0x4c, 0x1234);
    EXPECT_EQ(execute_jump_far(cpu, to(select::second_tss)), Outcome::jump);
    EXPECT_TRUE(cpu.virtual_8086());
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(segment(Segment::cs).base, 0x12340u);
}

TEST_F(TaskSwitching, PageTablesChangeWithTheTask)
{
    constexpr u32 directory = 0x60000, other = 0x61000;
    for (u32 d : { directory, other })
        put<u32>(d, 0x87);
    cpu.cr4 = x86::cr4::pse;
    cpu.cr3 = directory;
    cpu.cr0 |= x86::cr0::pg;
    mmu->flush_all();
    mmu->update_mode();
    put<u32>(map::second_tss + 0x1c, other);
    EXPECT_EQ(execute_jump_far(cpu, to(select::second_tss)), Outcome::jump);
    EXPECT_EQ(cpu.cr3, other);
}

} // namespace anyhyve::soft
