// PUSHF, POPF, PUSHA, POPA, ENTER, LEAVE, segment pushes, and the instructions on single flags.
#include "engine/soft/stack_operations.hpp"

#include "engine/soft/flag_operations.hpp"
#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

class StackOperations : public GateMachine {
protected:
    static x86::Instruction opcode(u8 byte, u8 operand_size)
    {
        auto insn = instruction(operand_size);
        insn.opcode = byte;
        return insn;
    }
    void push_value(u64 value, unsigned size)
    {
        cpu.gpr[x86::rsp] -= size;
        ASSERT_TRUE(memory->write(Gpa(cpu.gpr[x86::rsp] + segment(Segment::ss).base), &value, size));
    }
};

TEST_F(StackOperations, PushFlagsHidesRfAndVm)
{
    start_protected(0);
    cpu.rflags = rflags::fixed | rflags::rf | rflags::interrupt;
    EXPECT_EQ(execute_push_flags(cpu, instruction(4)), Outcome::next);
    EXPECT_EQ(get<u32>(map::stack0 - 4), rflags::fixed | rflags::interrupt);
    start_long(0);
    EXPECT_EQ(execute_push_flags(cpu, instruction(8)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 8);
}

TEST_F(StackOperations, PopFlagsByLevel)
{
    start_protected(0);
    push_value(0xffffffff, 4);
    EXPECT_EQ(execute_pop_flags(cpu, instruction(4)), Outcome::next);
    EXPECT_EQ(cpu.rflags, 0x247fd7u);
    start_protected(3);
    cpu.rflags = rflags::fixed | rflags::interrupt;
    push_value(rflags::iopl | rflags::cf, 4);
    EXPECT_EQ(execute_pop_flags(cpu, instruction(4)), Outcome::next);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt | rflags::cf);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3);
}

TEST_F(StackOperations, PopFlagsThatOpensInterruptsPollsWaitingEvents)
{
    start_protected(0);
    cpu.events = Cpu::event_interrupt;
    push_value(rflags::interrupt, 4);
    EXPECT_EQ(execute_pop_flags(cpu, instruction(4)), Outcome::next);
    EXPECT_NE(cpu.poll.load(), 0u);
}

TEST_F(StackOperations, Virtual8086FlagsBelowIopl3)
{
    start_virtual_8086(0);
    expect_fault(execute_push_flags(cpu, instruction(2)), vector::general_protection, 0);
    expect_fault(execute_pop_flags(cpu, instruction(2)), vector::general_protection, 0);
    cpu.cr4 = x86::cr4::vme;
    cpu.rflags &= ~rflags::interrupt;
    cpu.rflags |= rflags::vif;
    EXPECT_EQ(execute_push_flags(cpu, instruction(2)), Outcome::next);
    EXPECT_EQ(get<u16>(0x30ffe), 0x3202);
    put<u16>(0x30ffe, 0x0003);
    EXPECT_EQ(execute_pop_flags(cpu, instruction(2)), Outcome::next);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::vm | rflags::cf);
    expect_fault(execute_push_flags(cpu, instruction(4)), vector::general_protection, 0);
}

TEST_F(StackOperations, PushAllAndPopAll)
{
    for (unsigned i = 0; i < 8; i++)
        cpu.gpr[i] = 0x1110 * i;
    cpu.gpr[x86::rsp] = 0x8000;
    EXPECT_EQ(execute_push_all(cpu, instruction(2)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x7ff0u);
    EXPECT_EQ(get<u16>(0x7ff6), 0x8000);
    EXPECT_EQ(get<u16>(0x7ffe), 0);
    for (unsigned i = 0; i < 8; i++) {
        if (i != x86::rsp)
            cpu.gpr[i] = 0xabcd;
    }
    EXPECT_EQ(execute_pop_all(cpu, instruction(2)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rdi], 0x7770u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x8000u);
}

TEST_F(StackOperations, PushAllIsAllOrNothing)
{
    start_protected(0);
    set_gdt(select::spare, make_descriptor(map::data, 0xfff, rights::data0, 4));
    set_segment(Segment::ss, select::spare);
    cpu.gpr[x86::rsp] = 0x10;
    mmu->update_mode();
    put<u32>(map::data + 0xc, 0x55555555);
    cpu.gpr[x86::rax] = 1;
    expect_fault(execute_push_all(cpu, instruction(4)), vector::stack_fault, 0);
    EXPECT_EQ(get<u32>(map::data + 0xc), 0x55555555u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x10u);
}

TEST_F(StackOperations, EnterAndLeave)
{
    start_protected(0);
    cpu.gpr[x86::rbp] = 0x12345678;
    auto enter = instruction(4);
    enter.immediate = 0x20;
    enter.immediate2 = 0;
    EXPECT_EQ(execute_enter(cpu, enter), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rbp], map::stack0 - 4);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 0x24);
    EXPECT_EQ(get<u32>(map::stack0 - 4), 0x12345678u);
    EXPECT_EQ(execute_leave(cpu, instruction(4)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0);
    EXPECT_EQ(cpu.gpr[x86::rbp], 0x12345678u);
}

TEST_F(StackOperations, EnterCopiesOuterFramePointers)
{
    start_protected(0);
    cpu.gpr[x86::rbp] = map::data + 0x100;
    put<u32>(map::data + 0xfc, 0xaaaa);
    put<u32>(map::data + 0xf8, 0xbbbb);
    auto enter = instruction(4);
    enter.immediate2 = 3;
    EXPECT_EQ(execute_enter(cpu, enter), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 16);
    EXPECT_EQ(get<u32>(map::stack0 - 4), map::data + 0x100);
    EXPECT_EQ(get<u32>(map::stack0 - 8), 0xaaaau);
    EXPECT_EQ(get<u32>(map::stack0 - 12), 0xbbbbu);
    EXPECT_EQ(get<u32>(map::stack0 - 16), map::stack0 - 4);
    EXPECT_EQ(cpu.gpr[x86::rbp], map::stack0 - 4);
}

TEST_F(StackOperations, SegmentPushesAndPops)
{
    start_protected(0);
    EXPECT_EQ(execute_push_segment(cpu, opcode(0x0e, 4)), Outcome::next);
    EXPECT_EQ(get<u32>(map::stack0 - 4), select::code0);
    put<u32>(map::stack0 - 4, 0xffff0000u | select::data3);
    EXPECT_EQ(execute_pop_segment(cpu, opcode(0xa1, 4)), Outcome::next);
    EXPECT_EQ(segment(Segment::fs).selector, select::data3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0);
    push_value(select::absent, 4);
    expect_fault(execute_pop_segment(cpu, opcode(0x1f, 4)), vector::segment_not_present, select::absent);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 4);
    push_value(select::stack16, 4);
    EXPECT_EQ(execute_pop_segment(cpu, opcode(0x17, 4)), Outcome::next);
    EXPECT_TRUE(cpu.interrupt_shadow);
}

TEST_F(StackOperations, InterruptFlagByPrivilege)
{
    start_protected(3);
    cpu.rflags = rflags::fixed | rflags::interrupt;
    expect_fault(execute_cli(cpu, instruction(4)), vector::general_protection, 0);
    cpu.cr4 = x86::cr4::pvi;
    EXPECT_EQ(execute_sti(cpu, instruction(4)), Outcome::next);
    EXPECT_TRUE(cpu.rflags & rflags::vif);
    EXPECT_EQ(execute_cli(cpu, instruction(4)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & rflags::vif);
    cpu.rflags |= rflags::vip;
    expect_fault(execute_sti(cpu, instruction(4)), vector::general_protection, 0);
    start_protected(0);
    cpu.rflags = rflags::fixed;
    EXPECT_EQ(execute_sti(cpu, instruction(4)), Outcome::next);
    EXPECT_TRUE(cpu.interrupt_shadow);
    cpu.interrupt_shadow = false;
    EXPECT_EQ(execute_sti(cpu, instruction(4)), Outcome::next);
    EXPECT_FALSE(cpu.interrupt_shadow); // was on already
    EXPECT_EQ(execute_cli(cpu, instruction(4)), Outcome::next);
    EXPECT_EQ(cpu.rflags, rflags::fixed);
}

TEST_F(StackOperations, AccessCheckFlagIsForRing0)
{
    start_protected(0);
    EXPECT_EQ(execute_stac(cpu, instruction(4)), Outcome::next);
    EXPECT_TRUE(cpu.rflags & rflags::ac);
    EXPECT_EQ(execute_clac(cpu, instruction(4)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & rflags::ac);
    start_protected(3);
    EXPECT_EQ(execute_stac(cpu, instruction(4)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
}

} // namespace anyhyve::soft
