// IRET of every kind.
#include "engine/soft/interrupt_return.hpp"

#include "engine/soft/operations.hpp"
#include "engine/soft/segmentation.hpp"
#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

class InterruptReturn : public GateMachine {
protected:
    template<typename T>
    void push_frame(std::initializer_list<u64> from_the_top)
    {
        cpu.gpr[x86::rsp] -= from_the_top.size() * sizeof(T);
        u64 address = cpu.gpr[x86::rsp] + segment(Segment::ss).base;
        for (u64 value : from_the_top) {
            put<T>(address, static_cast<T>(value));
            address += sizeof(T);
        }
    }
    Outcome run(u8 operand_size) { return execute_interrupt_return(cpu, instruction(operand_size)); }
};

TEST_F(InterruptReturn, RealModeRestoresIpCsAndFlags)
{
    cpu.nmi_blocked = true;
    push_frame<u16>({ 0x1234, 0x5000, rflags::interrupt | rflags::zf });
    EXPECT_EQ(run(2), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x1234u);
    EXPECT_EQ(segment(Segment::cs).base, 0x50000u);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt | rflags::zf);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x8000u);
    EXPECT_FALSE(cpu.nmi_blocked);
}

TEST_F(InterruptReturn, ProtectedSameLevel)
{
    start_protected(0);
    cpu.dr7 |= 2; // instruction breakpoints make RF matter
    push_frame<u32>({ map::code + 0x44, select::code0, rflags::interrupt | rflags::rf | rflags::cf });
    EXPECT_EQ(run(4), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 0x44);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt | rflags::rf | rflags::cf);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0);
}

TEST_F(InterruptReturn, OuterLevelTakesTheStackAndDropsInnerSegments)
{
    start_protected(0);
    set_segment(Segment::es, select::data3);
    set_segment(Segment::fs, select::conforming);
    push_frame<u32>({ map::code, select::code3, rflags::interrupt, map::stack3, select::data3 });
    EXPECT_EQ(run(4), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3);
    EXPECT_EQ(segment(Segment::ss).selector, select::data3);
    EXPECT_EQ(segment(Segment::es).selector, select::data3);
    EXPECT_EQ(segment(Segment::fs).selector, select::conforming);
    EXPECT_EQ(segment(Segment::ds).selector, 0);
    EXPECT_TRUE(segment(Segment::ds).access & x86::access::unusable);
}

// SDM vol. 2A IRET: a null selector becomes 0 on the way to an outer level, and only there.
TEST_F(InterruptReturn, OuterLevelFindsNullSelectorsWithoutRpl)
{
    start_long(0);
    segment(Segment::gs) = null_segment(3);
    segment(Segment::gs).base = 0x7f0012345678;
    push_frame<u64>({ map::code, select::code64, rflags::fixed, map::stack1, 0 });
    EXPECT_EQ(run(8), Outcome::jump);
    EXPECT_EQ(segment(Segment::gs).selector, 3);
    push_frame<u64>({ map::code, select::user64, rflags::interrupt, map::stack3, select::data3 });
    EXPECT_EQ(run(8), Outcome::jump);
    EXPECT_EQ(segment(Segment::gs).selector, 0);
    EXPECT_EQ(segment(Segment::gs).base, 0x7f0012345678u);
}

TEST_F(InterruptReturn, UserCannotChangePrivilegedFlags)
{
    start_protected(3);
    cpu.rflags = rflags::fixed | rflags::interrupt;
    push_frame<u32>({ map::code, select::code3, rflags::iopl | rflags::vm | rflags::vif | rflags::id });
    EXPECT_EQ(run(4), Outcome::jump);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt | rflags::id);
}

TEST_F(InterruptReturn, RefusedCodeAndStackSegments)
{
    start_protected(0);
    struct {
        u16 code, stack;
        u8 vector;
        u32 error_code;
    } const cases[] = {
        { 0, 0, vector::general_protection, 0 },
        { select::data0, 0, vector::general_protection, select::data0 },
        { select::code0 | 3, 0, vector::general_protection, select::code0 },
        { select::code3, 0, vector::general_protection, 0 },
        { select::code3, select::data0, vector::general_protection, select::data0 },
        { select::code3, select::data0 | 3, vector::general_protection, select::data0 },
        { 0x1000, 0, vector::general_protection, 0x1000 },
    };
    for (auto const& c : cases) {
        cpu.gpr[x86::rsp] = map::stack0;
        push_frame<u32>({ map::code, c.code, rflags::fixed, map::stack3, c.stack });
        expect_fault(run(4), c.vector, c.error_code);
        EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 20);
        EXPECT_EQ(cpu.cpl, 0);
    }
    start_protected(3);
    push_frame<u32>({ map::code, select::code0, rflags::fixed });
    expect_fault(run(4), vector::general_protection, select::code0);
}

TEST_F(InterruptReturn, AbsentSegmentsAndLimits)
{
    start_protected(0);
    set_gdt(select::spare, make_descriptor(0, 0xfff, rights::code0 & 0x7f, 4));
    push_frame<u32>({ 0, select::spare, rflags::fixed });
    expect_fault(run(4), vector::segment_not_present, select::spare);
    set_gdt(select::spare, make_descriptor(0, 0xfff, rights::code0, 4));
    push_frame<u32>({ 0x1000, select::spare, rflags::fixed });
    expect_fault(run(4), vector::general_protection, 0);
    set_gdt(select::spare, make_descriptor(0, 0xfffff, rights::data3 & 0x7f, rights::flat32));
    push_frame<u32>({ 0, select::code3, rflags::fixed, map::stack3, select::spare | 3 });
    expect_fault(run(4), vector::stack_fault, select::spare);
}

TEST_F(InterruptReturn, SmallOuterStackKeepsTheUpperHalfOfEsp)
{
    start_protected(0);
    cpu.gpr[x86::rsp] = 0x31000;
    push_frame<u32>({ map::code, select::code3, rflags::fixed, 0x12345678, select::user16_stack });
    EXPECT_EQ(run(4), Outcome::jump);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x35678u);
}

TEST_F(InterruptReturn, ToVirtual8086Mode)
{
    start_protected(0);
    push_frame<u32>({ 0x10, 0x2000, rflags::vm | rflags::interrupt | rflags::fixed, 0x1000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000 });
    EXPECT_EQ(run(4), Outcome::jump);
    EXPECT_TRUE(cpu.virtual_8086());
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.rip, 0x10u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x1000u);
    EXPECT_EQ(segment(Segment::cs).base, 0x20000u);
    EXPECT_EQ(segment(Segment::ss).base, 0x30000u);
    EXPECT_EQ(segment(Segment::es).base, 0x40000u);
    EXPECT_EQ(segment(Segment::ds).base, 0x50000u);
    EXPECT_EQ(segment(Segment::fs).base, 0x60000u);
    EXPECT_EQ(segment(Segment::gs).base, 0x70000u);
}

TEST_F(InterruptReturn, WithinVirtual8086ModeKeepsIopl)
{
    start_virtual_8086(3);
    push_frame<u16>({ 0x99, 0x2100, rflags::cf });
    EXPECT_EQ(run(2), Outcome::jump);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::vm | rflags::iopl | rflags::cf);
    EXPECT_EQ(segment(Segment::cs).base, 0x21000u);
}

TEST_F(InterruptReturn, Virtual8086BelowIopl3HasAVirtualFlagOrFaults)
{
    start_virtual_8086(0);
    push_frame<u16>({ 0x99, 0x2100, rflags::interrupt });
    expect_fault(run(2), vector::general_protection, 0);
    cpu.cr4 = x86::cr4::vme;
    EXPECT_EQ(run(2), Outcome::jump);
    EXPECT_TRUE(cpu.rflags & rflags::vif);
    push_frame<u16>({ 0x99, 0x2100, rflags::interrupt });
    cpu.rflags |= rflags::vip;
    expect_fault(run(2), vector::general_protection, 0);
}

TEST_F(InterruptReturn, LongModeToUser)
{
    start_long(0);
    segment(Segment::fs).base = 0x7f0012345678;
    push_frame<u64>({ 0x7fff00001000, select::user64, rflags::interrupt, 0x7fff00002000, select::data3 });
    EXPECT_EQ(run(8), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.rip, 0x7fff00001000u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x7fff00002000u);
    EXPECT_EQ(segment(Segment::cs).selector, select::user64);
    EXPECT_EQ(segment(Segment::ss).selector, select::data3);
    EXPECT_EQ(segment(Segment::fs).selector, 0);
    EXPECT_EQ(segment(Segment::fs).base, 0x7f0012345678u);
}

TEST_F(InterruptReturn, LongModeSameLevelPopsTheStackToo)
{
    start_long(0);
    push_frame<u64>({ map::code, select::code64, rflags::fixed, map::stack1, 0 });
    EXPECT_EQ(run(8), Outcome::jump);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack1);
    EXPECT_EQ(segment(Segment::ss).selector, 0);
    EXPECT_TRUE(segment(Segment::ss).access & x86::access::unusable);
}

TEST_F(InterruptReturn, LongModeToCompatibilityCode)
{
    start_long(0);
    push_frame<u64>({ 0x1000, select::code3, rflags::fixed, 0xdead00008000, select::data3 });
    EXPECT_EQ(run(8), Outcome::jump);
    EXPECT_FALSE(cpu.code64());
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x8000u);
}

TEST_F(InterruptReturn, LongModeRefusals)
{
    start_long(0);
    push_frame<u64>({ u64 { 1 } << 47, select::user64, rflags::fixed, 0, select::data3 });
    expect_fault(run(8), vector::general_protection, 0);
    push_frame<u64>({ map::code, select::user64, rflags::fixed, 0, 3 });
    expect_fault(run(8), vector::general_protection, 0);
    cpu.rflags |= rflags::nt;
    expect_fault(run(8), vector::general_protection, 0);
    cpu.rflags &= ~rflags::nt;
    cpu.gpr[x86::rsp] = u64 { 1 } << 47;
    expect_fault(run(8), vector::stack_fault, 0);
}

TEST_F(InterruptReturn, UndoesAnInterruptFromUserMode)
{
    start_long(3);
    cpu.rflags = rflags::fixed | rflags::interrupt;
    put(map::idt + 0x20 * 16u, make_gate(select::code64, map::code, rights::interrupt32));
    put<u64>(map::idt + 0x20 * 16u + 8, 0);
    cpu.rip = 0x123456;
    ASSERT_EQ(deliver_interrupt(cpu, 0x20, false), Outcome::jump);
    ASSERT_EQ(run(8), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x123456u);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3);
    EXPECT_EQ(segment(Segment::ss).selector, select::data3);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt);
}

} // namespace anyhyve::soft
