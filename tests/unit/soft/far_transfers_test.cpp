// Far jumps, calls and returns: code segments and call gates.
#include "engine/soft/far_transfers.hpp"

#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace vector = x86::vector;

class FarTransfers : public GateMachine {
protected:
    static x86::Instruction direct(u8 operand_size, u16 selector, u64 offset)
    {
        auto insn = instruction(operand_size);
        insn.immediate = offset;
        insn.immediate2 = selector;
        insn.immediate_size = static_cast<u8>(operand_size + 2);
        return insn;
    }
    static x86::Instruction returning(u8 operand_size, u16 released = 0)
    {
        auto insn = instruction(operand_size);
        insn.immediate = released;
        insn.immediate_size = released != 0 ? 2 : 0;
        return insn;
    }
};

TEST_F(FarTransfers, RealModeJumpCallAndReturn)
{
    EXPECT_EQ(execute_jump_far(cpu, direct(2, 0xf000, 0xfff0)), Outcome::jump);
    EXPECT_EQ(segment(Segment::cs).base, 0xf0000u);
    EXPECT_EQ(cpu.rip, 0xfff0u);
    cpu.next_rip = 0xfff5;
    EXPECT_EQ(execute_call_far(cpu, direct(2, 0x1000, 0x10)), Outcome::jump);
    EXPECT_EQ(get<u16>(0x7ffc), 0xfff5);
    EXPECT_EQ(get<u16>(0x7ffe), 0xf000);
    EXPECT_EQ(execute_return_far(cpu, returning(2, 4)), Outcome::jump);
    EXPECT_EQ(segment(Segment::cs).selector, 0xf000);
    EXPECT_EQ(cpu.rip, 0xfff5u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x8004u);
}

TEST_F(FarTransfers, RealModeOffsetBeyondTheLimit)
{
    expect_fault(execute_jump_far(cpu, direct(4, 0, 0x10000)), vector::general_protection, 0);
}

TEST_F(FarTransfers, EnteringProtectedMode)
{
    cpu.cr0 = x86::cr0::pe;
    cpu.gdtr = { .base = map::gdt, .limit = select::gdt_limit };
    mmu->update_mode();
    EXPECT_EQ(execute_jump_far(cpu, direct(4, select::code0, map::code)), Outcome::jump);
    EXPECT_EQ(segment(Segment::cs).selector, select::code0);
    EXPECT_TRUE(segment(Segment::cs).access & x86::access::big);
    EXPECT_EQ(get<u8>(map::gdt + select::code0 + 5), rights::code0 | 1);
}

TEST_F(FarTransfers, CompatibilityTo64BitCodeAndBack)
{
    start_long(0);
    set_segment(Segment::cs, select::code0);
    mmu->update_mode();
    EXPECT_EQ(execute_jump_far(cpu, direct(4, select::code64, map::code)), Outcome::jump);
    EXPECT_TRUE(cpu.code64());
    put<u32>(map::data, static_cast<u32>(map::code));
    put<u16>(map::data + 4, select::code0);
    auto indirect = memory_instruction(4, map::data);
    indirect.address_size = 8;
    EXPECT_EQ(execute_jump_far(cpu, indirect), Outcome::jump);
    EXPECT_FALSE(cpu.code64());
}

TEST_F(FarTransfers, DirectCodeChecks)
{
    start_protected(3);
    expect_fault(execute_jump_far(cpu, direct(4, 0, 0)), vector::general_protection, 0);
    expect_fault(execute_jump_far(cpu, direct(4, select::data3, 0)), vector::general_protection, select::data3 & ~3u);
    expect_fault(execute_jump_far(cpu, direct(4, select::code0, 0)), vector::general_protection, select::code0);
    EXPECT_EQ(execute_jump_far(cpu, direct(4, select::conforming, map::code)), Outcome::jump);
    EXPECT_EQ(segment(Segment::cs).selector, select::conforming | 3);
    EXPECT_EQ(cpu.cpl, 3);
    set_gdt(select::spare, make_descriptor(0, 0xfff, rights::code3 & 0x7f, 4));
    expect_fault(execute_jump_far(cpu, direct(4, select::spare | 3, 0)), vector::segment_not_present, select::spare);
    set_gdt(select::spare, make_descriptor(0, 0xfff, rights::code3, 4));
    expect_fault(execute_jump_far(cpu, direct(4, select::spare | 3, 0x1000)), vector::general_protection, 0);
}

TEST_F(FarTransfers, CallPushesByOperandSize)
{
    start_protected(0);
    EXPECT_EQ(execute_call_far(cpu, direct(4, select::code0, map::code + 0x80)), Outcome::jump);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 8);
    EXPECT_EQ(get<u32>(map::stack0 - 8), map::code + 2);
    EXPECT_EQ(get<u32>(map::stack0 - 4), select::code0);
    EXPECT_EQ(execute_return_far(cpu, returning(4)), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 2);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0);
}

TEST_F(FarTransfers, CallGateToInnerLevelCopiesParameters)
{
    start_protected(3);
    set_gdt(select::spare, make_gate(select::code0, map::code + 0x200, rights::call32 | rights::user, 2));
    cpu.gpr[x86::rsp] = map::stack3 - 8;
    put<u32>(map::stack3 - 8, 0x11111111);
    put<u32>(map::stack3 - 4, 0x22222222);
    EXPECT_EQ(execute_call_far(cpu, direct(4, select::spare | 3, 0xffffffff)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_EQ(cpu.rip, map::code + 0x200);
    EXPECT_EQ(segment(Segment::cs).selector, select::code0);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 24);
    EXPECT_EQ(get<u32>(map::stack0 - 24), map::code + 2);
    EXPECT_EQ(get<u32>(map::stack0 - 20), select::code3);
    EXPECT_EQ(get<u32>(map::stack0 - 16), 0x11111111u);
    EXPECT_EQ(get<u32>(map::stack0 - 12), 0x22222222u);
    EXPECT_EQ(get<u32>(map::stack0 - 8), map::stack3 - 8);
    EXPECT_EQ(get<u32>(map::stack0 - 4), select::data3);
    EXPECT_EQ(execute_return_far(cpu, returning(4, 8)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3);
    EXPECT_EQ(cpu.rip, map::code + 2);
    EXPECT_EQ(segment(Segment::ss).selector, select::data3);
}

TEST_F(FarTransfers, CallGate16AtTheSameLevel)
{
    start_protected(0);
    set_gdt(select::spare, make_gate(select::code0, 0xffff0123, rights::call16));
    EXPECT_EQ(execute_call_far(cpu, direct(4, select::spare, 0)), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x123u);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 4);
    EXPECT_EQ(get<u16>(map::stack0 - 4), (map::code + 2) & 0xffff);
}

TEST_F(FarTransfers, CallGateChecks)
{
    start_protected(3);
    set_gdt(select::spare, make_gate(select::code0, 0, rights::call32));
    expect_fault(execute_call_far(cpu, direct(4, select::spare | 3, 0)), vector::general_protection, select::spare);
    set_gdt(select::spare, make_gate(select::code0, 0, (rights::call32 | rights::user) & 0x7f));
    expect_fault(execute_call_far(cpu, direct(4, select::spare | 3, 0)), vector::segment_not_present, select::spare);
    set_gdt(select::spare, make_gate(0, 0, rights::call32 | rights::user));
    expect_fault(execute_call_far(cpu, direct(4, select::spare | 3, 0)), vector::general_protection, 0);
    set_gdt(select::spare, make_gate(select::data0, 0, rights::call32 | rights::user));
    expect_fault(execute_call_far(cpu, direct(4, select::spare | 3, 0)), vector::general_protection, select::data0);
    set_gdt(select::spare, make_gate(select::code0, 0, rights::call32 | rights::user));
    expect_fault(execute_jump_far(cpu, direct(4, select::spare | 3, 0)), vector::general_protection, select::code0);
}

TEST_F(FarTransfers, LongModeCallGatePushesQuadwords)
{
    start_long(3);
    set_gdt(select::spare, make_gate(select::code64, 0x1000, rights::call32 | rights::user));
    put<u64>(map::gdt + select::spare + 8, 0xffff8000);
    put<u64>(map::data, 0);
    put<u16>(map::data + 4, select::spare | 3);
    auto call = memory_instruction(4, map::data);
    call.address_size = 8;
    EXPECT_EQ(execute_call_far(cpu, call), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0xffff800000001000u);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 32);
    EXPECT_EQ(get<u64>(map::stack0 - 32), map::code + 2);
    EXPECT_EQ(get<u64>(map::stack0 - 24), select::user64);
    EXPECT_EQ(get<u64>(map::stack0 - 16), map::stack3);
    EXPECT_EQ(get<u64>(map::stack0 - 8), select::data3);
    EXPECT_EQ(segment(Segment::ss).selector, 0);
    EXPECT_EQ(execute_return_far(cpu, returning(8)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3);
}

TEST_F(FarTransfers, LongModeKnowsNoTasks)
{
    start_long(0);
    put<u32>(map::data, 0);
    put<u16>(map::data + 4, select::second_tss);
    auto jump = memory_instruction(4, map::data);
    jump.address_size = 8;
    expect_fault(execute_jump_far(cpu, jump), vector::general_protection, select::second_tss);
}

TEST_F(FarTransfers, ReturnToInnerLevelIsRefused)
{
    start_protected(3);
    put<u32>(map::stack3 - 8, 0);
    put<u32>(map::stack3 - 4, select::code0);
    cpu.gpr[x86::rsp] = map::stack3 - 8;
    expect_fault(execute_return_far(cpu, returning(4)), vector::general_protection, select::code0);
}

} // namespace anyhyve::soft
