// Delivery of exceptions and interrupts: gates of each kind, stack switches, error codes, double and triple faults.
#include "engine/soft/exceptions.hpp"

#include "engine/soft/interrupt_instructions.hpp"
#include "engine/soft/operations.hpp"
#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

class Exceptions : public GateMachine {
protected:
    x86::Instruction software_interrupt(u8 number)
    {
        auto insn = instruction(4);
        insn.immediate = number;
        return insn;
    }
    Outcome deliver(PendingFault const& fault)
    {
        cpu.fault = fault;
        return deliver_fault(cpu);
    }
    void expect_frame32(std::initializer_list<u32> from_the_top)
    {
        u64 address = cpu.gpr[x86::rsp] + segment(Segment::ss).base;
        for (u32 value : from_the_top) {
            EXPECT_EQ(get<u32>(address), value) << "at " << address;
            address += 4;
        }
    }
    void expect_frame64(std::initializer_list<u64> from_the_top)
    {
        u64 address = cpu.gpr[x86::rsp];
        for (u64 value : from_the_top) {
            EXPECT_EQ(get<u64>(address), value) << "at " << address;
            address += 8;
        }
    }
};

TEST_F(Exceptions, RealModePushes16BitValuesAndNoErrorCode)
{
    put<u32>(13 * 4, 0xf0001234);
    cpu.rflags = rflags::fixed | rflags::interrupt | rflags::tf | rflags::cf;
    EXPECT_EQ(deliver({ .vector = 13, .has_error_code = true, .error_code = 0x55 }), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x1234u);
    EXPECT_EQ(segment(Segment::cs).base, 0xf0000u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x7ffau);
    EXPECT_EQ(get<u16>(0x7ffa), 0x100);
    EXPECT_EQ(get<u16>(0x7ffc), 0);
    EXPECT_EQ(get<u16>(0x7ffe), rflags::fixed | rflags::interrupt | rflags::tf | rflags::cf);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::cf);
}

TEST_F(Exceptions, RealModeStackWraps)
{
    put<u32>(0x21 * 4, 0x12340010);
    cpu.gpr[x86::rsp] = 2;
    EXPECT_EQ(execute_interrupt(cpu, software_interrupt(0x21)), Outcome::jump);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0xfffcu);
    EXPECT_EQ(get<u16>(0xfffc), 0x102);
    EXPECT_EQ(get<u16>(0), rflags::fixed);
}

TEST_F(Exceptions, RealModeWithoutATableShutsDown)
{
    cpu.idtr.limit = 3;
    EXPECT_EQ(deliver({ .vector = 6 }), Outcome::leave);
    EXPECT_EQ(cpu.exit_reason, RunExit::triple_fault);
}

TEST_F(Exceptions, SameLevelGatePushesThreeValuesAndAnErrorCode)
{
    start_protected(0);
    set_gate(13, make_gate(select::code0, 0x12345678, rights::trap32));
    cpu.rflags = rflags::fixed | rflags::interrupt;
    EXPECT_EQ(deliver({ .vector = 13, .has_error_code = true, .error_code = 0x18 }), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x12345678u);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 16);
    expect_frame32({ 0x18, map::code, select::code0, rflags::fixed | rflags::interrupt | rflags::rf });
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt); // trap gate
}

TEST_F(Exceptions, InnerLevelGateSwitchesStacks)
{
    start_protected(3);
    set_gate(0x80, make_gate(select::code0, map::code + 0x100, rights::interrupt32 | rights::user));
    cpu.rflags = rflags::fixed | rflags::interrupt | rflags::tf | rflags::nt;
    EXPECT_EQ(execute_interrupt(cpu, software_interrupt(0x80)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_EQ(segment(Segment::ss).selector, select::data0);
    EXPECT_EQ(segment(Segment::cs).selector, select::code0);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 20);
    expect_frame32({ map::code + 2, select::code3, rflags::fixed | rflags::interrupt | rflags::tf | rflags::nt, map::stack3, select::data3 });
    EXPECT_EQ(cpu.rflags, rflags::fixed);
    EXPECT_EQ(segment(Segment::ds).selector, select::data3);
}

TEST_F(Exceptions, Gate16PushesWordsAndCutsTheEntryPoint)
{
    start_protected(3);
    set_gate(0x30, make_gate(select::code0, 0xabcd1234, rights::interrupt16 | rights::user));
    EXPECT_EQ(execute_interrupt(cpu, software_interrupt(0x30)), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x1234u);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 10);
    EXPECT_EQ(get<u16>(map::stack0 - 10), (map::code + 2) & 0xffff);
    EXPECT_EQ(get<u16>(map::stack0 - 2), select::data3);
}

TEST_F(Exceptions, ConformingHandlerStaysAtTheLevel)
{
    start_protected(3);
    set_gate(0x31, make_gate(select::conforming, map::code, rights::interrupt32 | rights::user));
    EXPECT_EQ(execute_interrupt(cpu, software_interrupt(0x31)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(segment(Segment::cs).selector, select::conforming | 3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3 - 12);
}

TEST_F(Exceptions, SoftwareInterruptsCheckTheGatePrivilege)
{
    start_protected(3);
    set_gate(0x80, make_gate(select::code0, map::code, rights::interrupt32));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x80)), vector::general_protection, 0x80 * 8 + 2);
    set_gate(3, make_gate(select::code0, map::code, rights::interrupt32));
    expect_fault(execute_interrupt3(cpu, instruction(4)), vector::general_protection, 3 * 8 + 2);
    set_gate(1, make_gate(select::code0, map::code, rights::interrupt32));
    EXPECT_EQ(execute_interrupt1(cpu, instruction(4)), Outcome::jump);
}

TEST_F(Exceptions, IntoLooksAtTheOverflowFlag)
{
    start_protected(0);
    set_gate(4, make_gate(select::code0, map::code + 8, rights::trap32));
    EXPECT_EQ(execute_interrupt_overflow(cpu, instruction(4)), Outcome::next);
    cpu.rflags |= rflags::of;
    EXPECT_EQ(execute_interrupt_overflow(cpu, instruction(4)), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 8);
}

TEST_F(Exceptions, GateErrorsCarryIndexIdtAndExt)
{
    start_protected(0);
    set_gate(0x40, make_gate(select::code0, 0, 0x0e)); // absent
    set_gate(0x41, make_gate(select::code0, 0, 0x92)); // no gate
    set_gate(0x42, make_gate(0, 0, rights::interrupt32));
    set_gate(0x43, make_gate(select::data0, 0, rights::interrupt32));
    set_gate(0x44, make_gate(0x1000, 0, rights::interrupt32));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x40)), vector::segment_not_present, 0x40 * 8 + 2);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x41)), vector::general_protection, 0x41 * 8 + 2);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x42)), vector::general_protection, 0);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x43)), vector::general_protection, select::data0);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x44)), vector::general_protection, 0x1000);
    InterruptEvent const external { .kind = EventKind::hardware_interrupt, .vector = 0x40, .return_rip = cpu.rip, .pushed_flags = cpu.rflags };
    expect_fault(deliver_event(cpu, external), vector::segment_not_present, 0x40 * 8 + 3);
    cpu.idtr.limit = 0x100;
    expect_fault(deliver_event(cpu, external), vector::general_protection, 0x40 * 8 + 3);
}

TEST_F(Exceptions, BadInnerStacksRaiseInvalidTss)
{
    start_protected(3);
    set_gate(0x80, make_gate(select::code0, map::code, rights::interrupt32 | rights::user));
    put<u16>(map::tss + 8, select::data3);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x80)), vector::invalid_tss, select::data3 & ~3u);
    put<u16>(map::tss + 8, 0);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x80)), vector::invalid_tss, 0);
    put<u16>(map::tss + 8, select::absent);
    set_gdt(select::absent, make_descriptor(0, 0xfffff, 0x12, rights::flat32));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x80)), vector::stack_fault, select::absent);
    cpu.tr.limit = 8;
    expect_fault(execute_interrupt(cpu, software_interrupt(0x80)), vector::invalid_tss, select::tss);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack3);
}

TEST_F(Exceptions, InnerStackTooSmallNamesIt)
{
    start_protected(3);
    set_gate(0x80, make_gate(select::code0, map::code, rights::interrupt32 | rights::user));
    set_gdt(select::spare, make_descriptor(map::data, 0xff, rights::data0, 4));
    put<u16>(map::tss + 8, select::spare);
    put<u32>(map::tss + 4, 0x10);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x80)), vector::stack_fault, select::spare);
}

TEST_F(Exceptions, PageFaultSetsCr2AndGeneralDetectClears)
{
    start_protected(0);
    set_gate(14, make_gate(select::code0, map::code, rights::interrupt32));
    set_gate(1, make_gate(select::code0, map::code, rights::interrupt32));
    EXPECT_EQ(deliver({ .vector = 14, .has_error_code = true, .error_code = 2, .address = 0xdeadb000 }), Outcome::jump);
    EXPECT_EQ(cpu.cr2, 0xdeadb000u);
    cpu.dr6 |= 3;
    cpu.dr7 |= 1 << 13;
    EXPECT_EQ(deliver({ .vector = 1, .dr6 = 0x4000 }), Outcome::jump);
    EXPECT_EQ(cpu.dr6, 0xffff4ff0u);
    EXPECT_EQ(cpu.dr7 & (1 << 13), 0u);
    EXPECT_EQ(get<u32>(cpu.gpr[x86::rsp] + 8) & rflags::rf, 0u);
}

TEST_F(Exceptions, ContributoryPairMakesADoubleFault)
{
    start_protected(0);
    set_gate(13, make_gate(select::absent, map::code, rights::interrupt32));
    set_gate(8, make_gate(select::code0, map::code + 0x80, rights::interrupt32));
    EXPECT_EQ(deliver({ .vector = 13, .has_error_code = true }), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 0x80);
    expect_frame32({ 0, map::code, select::code0 });
}

TEST_F(Exceptions, BenignThenContributoryIsDeliveredAlone)
{
    start_protected(0);
    set_gate(6, make_gate(0x1000, map::code, rights::interrupt32));
    set_gate(13, make_gate(select::code0, map::code + 0x40, rights::interrupt32));
    EXPECT_EQ(deliver({ .vector = 6 }), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 0x40);
    expect_frame32({ 0x1000 | 1, map::code, select::code0 });
}

TEST_F(Exceptions, LostInterruptOfAContributoryVectorIsBenign)
{
    start_protected(0);
    set_gate(13, make_gate(select::code0, map::code + 0x40, rights::interrupt32));
    EXPECT_EQ(deliver_interrupt(cpu, 12, false), Outcome::jump); // empty gate
    EXPECT_EQ(cpu.rip, map::code + 0x40);
    expect_frame32({ 12 * 8 + 3, map::code, select::code0 });
}

TEST_F(Exceptions, FaultDuringDoubleFaultShutsDown)
{
    start_protected(0);
    EXPECT_EQ(deliver({ .vector = 13, .has_error_code = true }), Outcome::leave);
    EXPECT_EQ(cpu.exit_reason, RunExit::triple_fault);
}

TEST_F(Exceptions, NmiBlocksFurtherOnes)
{
    start_protected(0);
    set_gate(2, make_gate(select::code0, map::code, rights::interrupt32));
    EXPECT_EQ(deliver_interrupt(cpu, 2, true), Outcome::jump);
    EXPECT_TRUE(cpu.nmi_blocked);
}

TEST_F(Exceptions, Virtual8086ProgramIsLeftWithNineValues)
{
    start_virtual_8086(3);
    set_gate(13, make_gate(select::code0, map::code, rights::interrupt32));
    EXPECT_EQ(deliver({ .vector = 13, .has_error_code = true, .error_code = 0 }), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_FALSE(cpu.virtual_8086());
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 40);
    expect_frame32({ 0, 0x10, 0x2000, 0x30000u | rflags::vm | 0x3202, 0x1000, 0x3000, 0x2000, 0x2000, 0x2000, 0x2000 });
    EXPECT_EQ(segment(Segment::ds).selector, 0);
    EXPECT_TRUE(segment(Segment::gs).access & x86::access::unusable);
}

TEST_F(Exceptions, Virtual8086SoftwareInterruptsNeedIopl3)
{
    start_virtual_8086(0);
    set_gate(0x21, make_gate(select::code0, map::code, rights::interrupt32 | rights::user));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x21)), vector::general_protection, 0);
    set_gate(3, make_gate(select::code0, map::code, rights::interrupt32 | rights::user));
    EXPECT_EQ(execute_interrupt3(cpu, instruction(2)), Outcome::jump); // INT3 does not look at it
}

TEST_F(Exceptions, Virtual8086HandlerMustBeRing0Code)
{
    start_virtual_8086(3);
    set_gate(0x21, make_gate(select::conforming, map::code, rights::interrupt32 | rights::user));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x21)), vector::general_protection, select::conforming);
    set_gate(0x21, make_gate(select::code1, map::code, rights::interrupt32 | rights::user));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x21)), vector::general_protection, select::code1 & ~3u);
}

TEST_F(Exceptions, RedirectionMapSendsInterruptsToTheProgram)
{
    start_virtual_8086(0);
    cpu.cr4 = x86::cr4::vme;
    cpu.rflags |= rflags::vif;
    cpu.rflags &= ~rflags::interrupt;
    put<u16>(map::tss + 0x66, 0x88);
    put<u32>(0x21 * 4, 0x50000040);
    EXPECT_EQ(execute_interrupt(cpu, software_interrupt(0x21)), Outcome::jump);
    EXPECT_EQ(segment(Segment::cs).selector, 0x5000);
    EXPECT_EQ(cpu.rip, 0x40u);
    EXPECT_TRUE(cpu.virtual_8086());
    EXPECT_EQ(get<u16>(0x30ffe), 0x3202); // IOPL 3, IF from VIF
    EXPECT_FALSE(cpu.rflags & rflags::vif);
    put<u8>(map::tss + 0x68 + 0x21 / 8, 1 << (0x21 % 8));
    expect_fault(execute_interrupt(cpu, software_interrupt(0x21)), vector::general_protection, 0);
}

TEST_F(Exceptions, LongModeSameLevelAlignsTheStack)
{
    start_long(0);
    set_gate64(14, 0xffffffff81000000, rights::interrupt32);
    cpu.gpr[x86::rsp] = map::stack0 - 8;
    cpu.rflags = rflags::fixed | rflags::interrupt;
    EXPECT_EQ(deliver({ .vector = 14, .has_error_code = true, .error_code = 2, .address = 0x1234 }), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0xffffffff81000000u);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 16 - 48);
    expect_frame64({ 2, map::code, select::code64, rflags::fixed | rflags::interrupt | rflags::rf, map::stack0 - 8, select::data0 });
    EXPECT_EQ(segment(Segment::ss).selector, select::data0);
    EXPECT_EQ(cpu.rflags, rflags::fixed);
}

TEST_F(Exceptions, LongModeFromUserTakesRsp0AndANullSs)
{
    start_long(3);
    set_gate64(0x20, map::code, rights::interrupt32);
    EXPECT_EQ(deliver_interrupt(cpu, 0x20, false), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0 - 40);
    expect_frame64({ map::code, select::user64, rflags::fixed, map::stack3, select::data3 });
    EXPECT_EQ(segment(Segment::ss).selector, 0);
    EXPECT_EQ(segment(Segment::cs).selector, select::code64);
}

TEST_F(Exceptions, LongModeInterruptStackIsTakenAtEveryLevel)
{
    start_long(0);
    set_gate64(8, map::code, rights::interrupt32, 1);
    EXPECT_EQ(deliver({ .vector = 8, .has_error_code = true }), Outcome::jump);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::interrupt_stack - 48);
}

TEST_F(Exceptions, LongModeRefuses32BitHandlersAndNoncanonicalOnes)
{
    start_long(0);
    put(map::idt + 0x30 * 16u, make_gate(select::code0, 0, rights::interrupt32));
    put<u64>(map::idt + 0x30 * 16u + 8, 0);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x30)), vector::general_protection, select::code0);
    set_gate64(0x31, u64 { 1 } << 47, rights::interrupt32);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x31)), vector::general_protection, 0);
    set_gate64(0x32, map::code, rights::task_gate);
    expect_fault(execute_interrupt(cpu, software_interrupt(0x32)), vector::general_protection, 0x32 * 8 + 2);
    set_gate64(0x33, map::code, rights::interrupt32);
    cpu.gpr[x86::rsp] = (u64 { 1 } << 47) + 0x100;
    expect_fault(execute_interrupt(cpu, software_interrupt(0x33)), vector::stack_fault, 0);
}

TEST_F(Exceptions, UnmappedKernelStackMakesADoubleFault)
{
    start_long(3);
    put<u64>(map::tss + 4, 0x40000000);
    set_gate64(14, map::code, rights::interrupt32);
    set_gate64(8, map::code + 0x10, rights::interrupt32, 1);
    EXPECT_EQ(deliver({ .vector = 14, .has_error_code = true, .error_code = 4, .address = 0x5000 }), Outcome::jump);
    EXPECT_EQ(cpu.rip, map::code + 0x10);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::interrupt_stack - 48);
    EXPECT_EQ(cpu.cr2, 0x40000000u - 48);
}

} // namespace anyhyve::soft
