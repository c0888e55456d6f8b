// SYSCALL, SYSRET, SYSENTER, SYSEXIT.
#include "engine/soft/fast_system_calls.hpp"

#include "engine/soft/vendor.hpp"
#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

class FastSystemCalls : public GateMachine {
protected:
    void set_registers()
    {
        cpu.star = u64 { 0x23 } << 48 | u64 { 0x10 } << 32 | 0x4444;
        cpu.lstar = 0xffffffff81000000;
        cpu.cstar = 0xffffffff82000000;
        cpu.sfmask = rflags::interrupt | rflags::tf | rflags::df;
        cpu.sysenter_cs = 0x10;
        cpu.sysenter_esp = map::stack0;
        cpu.sysenter_eip = map::code + 0x300;
    }
};

TEST_F(FastSystemCalls, SyscallEntersRing0)
{
    start_long(3);
    set_registers();
    cpu.rflags = rflags::fixed | rflags::interrupt | rflags::df | rflags::cf;
    EXPECT_EQ(execute_syscall(cpu, instruction(8)), Outcome::jump);
    EXPECT_EQ(cpu.rip, cpu.lstar);
    EXPECT_EQ(cpu.gpr[x86::rcx], map::code + 2);
    EXPECT_EQ(cpu.gpr[x86::r11], rflags::fixed | rflags::interrupt | rflags::df | rflags::cf);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::cf);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_EQ(segment(Segment::cs).selector, 0x10);
    EXPECT_EQ(segment(Segment::ss).selector, 0x18);
    EXPECT_TRUE(cpu.code64());
}

TEST_F(FastSystemCalls, SysretGoesBackTo64BitCode)
{
    start_long(0);
    set_registers();
    cpu.gpr[x86::rcx] = 0x7fff00001234;
    cpu.gpr[x86::r11] = rflags::fixed | rflags::interrupt | rflags::rf | rflags::vm;
    EXPECT_EQ(execute_sysret(cpu, instruction(8)), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x7fff00001234u);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(segment(Segment::cs).selector, 0x33);
    EXPECT_EQ(segment(Segment::ss).selector, 0x2b);
    EXPECT_EQ(x86::access::dpl(segment(Segment::ss).access), 3);
    EXPECT_EQ(cpu.rflags, rflags::fixed | rflags::interrupt);
    EXPECT_TRUE(cpu.code64());
}

TEST_F(FastSystemCalls, SysretToCompatibilityCode)
{
    start_long(0);
    set_registers();
    cpu.gpr[x86::rcx] = 0xffffffff00001234;
    EXPECT_EQ(execute_sysret(cpu, instruction(4)), Outcome::jump);
    EXPECT_EQ(cpu.rip, 0x1234u);
    EXPECT_EQ(segment(Segment::cs).selector, 0x23);
    EXPECT_FALSE(cpu.code64());
}

TEST_F(FastSystemCalls, Refusals)
{
    start_long(0);
    set_registers();
    cpu.gpr[x86::rcx] = u64 { 1 } << 47;
    expect_fault(execute_sysret(cpu, instruction(8)), vector::general_protection, 0);
    EXPECT_EQ(cpu.cpl, 0);
    cpu.efer &= ~x86::efer::sce;
    EXPECT_EQ(execute_syscall(cpu, instruction(8)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
    start_long(3);
    expect_fault(execute_sysret(cpu, instruction(8)), vector::general_protection, 0);
}

TEST_F(FastSystemCalls, SyscallOutside64BitCodeDependsOnTheVendor)
{
    start_long(3);
    set_registers();
    set_level(3, select::code3, select::data3);
    if (cpu_vendor() == Vendor::amd) {
        EXPECT_EQ(execute_syscall(cpu, instruction(4)), Outcome::jump);
        EXPECT_EQ(cpu.rip, cpu.cstar);
        EXPECT_TRUE(cpu.code64());
    } else {
        EXPECT_EQ(execute_syscall(cpu, instruction(4)), Outcome::fault);
        EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
    }
}

TEST_F(FastSystemCalls, SysenterAndSysexitInProtectedMode)
{
    start_protected(3);
    set_registers();
    cpu.rflags = rflags::fixed | rflags::interrupt;
    EXPECT_EQ(execute_sysenter(cpu, instruction(4)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_EQ(cpu.rip, map::code + 0x300);
    EXPECT_EQ(cpu.gpr[x86::rsp], map::stack0);
    EXPECT_EQ(segment(Segment::cs).selector, 0x10);
    EXPECT_EQ(segment(Segment::ss).selector, 0x18);
    EXPECT_EQ(cpu.rflags, rflags::fixed);
    cpu.gpr[x86::rdx] = 0x1000;
    cpu.gpr[x86::rcx] = 0x2000;
    EXPECT_EQ(execute_sysexit(cpu, instruction(4)), Outcome::jump);
    EXPECT_EQ(cpu.cpl, 3);
    EXPECT_EQ(cpu.rip, 0x1000u);
    EXPECT_EQ(cpu.gpr[x86::rsp], 0x2000u);
    EXPECT_EQ(segment(Segment::cs).selector, 0x23);
    EXPECT_EQ(segment(Segment::ss).selector, 0x2b);
    expect_fault(execute_sysexit(cpu, instruction(4)), vector::general_protection, 0);
    cpu.sysenter_cs = 0;
    expect_fault(execute_sysenter(cpu, instruction(4)), vector::general_protection, 0);
}

} // namespace anyhyve::soft
