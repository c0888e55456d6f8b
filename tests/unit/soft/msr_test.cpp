// RDMSR and WRMSR: the table, its checks, and the ties between registers.
#include "engine/soft/model_specific_registers.hpp"
#include "engine/soft/time_stamp.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {

class ModelSpecificRegisters : public ExecuteMachine {
protected:
    Outcome write(u32 index, u64 value)
    {
        set_pair(value);
        cpu.gpr[x86::rcx] = index;
        return execute({ 0x0f, 0x30 });
    }
    Outcome read(u32 index)
    {
        cpu.gpr[x86::rcx] = index;
        return execute({ 0x0f, 0x32 });
    }
    void expect_kept(u32 index, u64 value)
    {
        EXPECT_EQ(write(index, value), Outcome::next) << index;
        set_pair(0);
        EXPECT_EQ(read(index), Outcome::next) << index;
        EXPECT_EQ(pair(), value) << index;
    }
};

TEST_F(ModelSpecificRegisters, AreForRing0)
{
    set_level(3);
    expect_gp(read(x86::msr::tsc));
    expect_gp(write(x86::msr::star, 0));
}

TEST_F(ModelSpecificRegisters, KeepValues)
{
    using namespace x86::msr;
    for (u32 const index : { star, lstar, cstar, fs_base, gs_base, kernel_gs_base, x86::msr::sysenter_cs, x86::msr::sysenter_esp, x86::msr::sysenter_eip })
        expect_kept(index, 0xffff812345678000);
    expect_kept(sfmask, 0x257fd5);
    expect_kept(tsc_aux, 0x1234);
    expect_kept(pat, 0x0007040600070406);
    expect_kept(mtrr_def_type, 0xc06);
    expect_kept(mtrr_phys_base0 + 19, 0xffc0000800);
    expect_kept(mtrr_fix4k + 7, 0x0606050501010000);
    expect_kept(spec_ctrl, 1);
}

TEST_F(ModelSpecificRegisters, RefuseBadValues)
{
    using namespace x86::msr;
    for (u32 const index : { lstar, cstar, fs_base, gs_base, kernel_gs_base, x86::msr::sysenter_esp, x86::msr::sysenter_eip })
        expect_gp(write(index, 0x0000800000000000));
    expect_gp(write(tsc_aux, u64 { 1 } << 32));
    expect_gp(write(pat, 0x0207040600070406));
    expect_gp(write(mtrr_def_type, 2));
    expect_gp(write(mtrr_phys_base0, 0x106));
    expect_gp(write(mtrr_phys_base0 + 20, 0));
    expect_gp(write(mtrr_fix64k, 7));
    expect_gp(write(mtrr_cap, 0));
    expect_gp(write(spec_ctrl, 8));
    expect_gp(write(x86::msr::efer, x86::efer::sce | 1 << 12));
    expect_gp(write(x86::msr::efer, 0)); // LME with paging on
    expect_gp(write(xss, 1));
}

TEST_F(ModelSpecificRegisters, UnknownOnesFollowThePolicy)
{
    expect_gp(read(0x4b564d00));
    expect_gp(write(0x4b564d00, 1));
    cpu.wires.policy.strict_msr = false;
    EXPECT_EQ(read(0x4b564d00), Outcome::next);
    EXPECT_EQ(pair(), 0u);
    EXPECT_EQ(write(0x4b564d00, 1), Outcome::next);
}

// They are part of AMD64: software uses them without asking CPUID.
TEST_F(ModelSpecificRegisters, CountersOfTheK7CountNothing)
{
    if (!cpu.cpuid->amd())
        GTEST_SKIP() << "the host is not AMD's";
    for (u32 index = 0xc0010000; index < 0xc0010008; ++index) {
        EXPECT_EQ(write(index, 0x530076), Outcome::next);
        EXPECT_EQ(read(index), Outcome::next);
        EXPECT_EQ(pair(), 0u);
    }
}

TEST_F(ModelSpecificRegisters, WhatLinuxReadsUncheckedExists)
{
    for (u32 const index : { 0x1bu, 0x8bu, 0xfeu, 0x10au, 0x174u, 0x179u, 0x277u, 0x2ffu, 0xc0000080u })
        EXPECT_EQ(read(index), Outcome::next) << index;
    if (cpuid->amd()) {
        for (u32 const index : { 0xc0010010u, 0xc0010015u, 0xc001001fu, 0xc0010055u, 0xc0011029u, 0xc001001au, 0xc001001du })
            EXPECT_EQ(read(index), Outcome::next) << index;
        EXPECT_EQ(read(0xc0010015), Outcome::next);
        EXPECT_TRUE(pair() & 1 << 24);
    } else {
        for (u32 const index : { 0x17u, 0x3au, 0xceu, 0x140u, 0x1a0u })
            EXPECT_EQ(read(index), Outcome::next) << index;
    }
    EXPECT_EQ(read(x86::msr::arch_capabilities), Outcome::next);
    EXPECT_EQ(pair() & 0x3, 3u); // RDCL_NO, IBRS_ALL
}

TEST_F(ModelSpecificRegisters, MiscellaneousEnablesAreKept)
{
    constexpr u64 fixed = 1 << 11 | 1 << 12;
    EXPECT_EQ(write(x86::msr::misc_enable, 0x4'00c5'0009), Outcome::next);
    EXPECT_EQ(read(x86::msr::misc_enable), Outcome::next);
    EXPECT_EQ(pair() & ~fixed, 0x4'00c5'0009u & ~fixed);
}

TEST_F(ModelSpecificRegisters, TscAndAdjustMoveTogether)
{
    u64 const before = guest_tsc(cpu);
    EXPECT_EQ(write(x86::msr::tsc_adjust, 1'000'000'000'000), Outcome::next);
    EXPECT_GE(guest_tsc(cpu), before + 1'000'000'000'000);
    EXPECT_EQ(write(x86::msr::tsc, 0), Outcome::next);
    EXPECT_LT(guest_tsc(cpu), 1'000'000'000u);
    EXPECT_EQ(read(x86::msr::tsc_adjust), Outcome::next);
    EXPECT_EQ(pair(), cpu.tsc_adjust);
    EXPECT_EQ(cpu.tsc_adjust, cpu.tsc_offset);
}

TEST_F(ModelSpecificRegisters, DeadlineIsTheGuests)
{
    expect_kept(x86::msr::tsc_deadline, 0x123456789a);
    EXPECT_EQ(interrupts.deadline, 0x123456789au);
    EXPECT_EQ(write(x86::msr::tsc_adjust, 0x1000), Outcome::next);
    EXPECT_EQ(interrupts.deadline, 0x123456789au - 0x1000);
    EXPECT_EQ(read(x86::msr::tsc_deadline), Outcome::next);
    EXPECT_EQ(pair(), 0x123456789au);
    EXPECT_EQ(write(x86::msr::tsc_deadline, 0x10), Outcome::next); // long past, but armed
    EXPECT_EQ(interrupts.deadline, 1u);
    EXPECT_EQ(write(x86::msr::tsc_deadline, 0), Outcome::next);
    EXPECT_EQ(interrupts.deadline, 0u);
}

// SDM vol. 3A 10.5.4.1: an unsigned comparison with the counter, whose greatest value is as good as never.
TEST_F(ModelSpecificRegisters, DeadlineOfAFarFutureIsNotDue)
{
    constexpr u64 never = ~u64 { 0 };
    expect_kept(x86::msr::tsc_deadline, never);
    EXPECT_EQ(interrupts.deadline, never);
    EXPECT_EQ(write(x86::msr::tsc_adjust, u64 { 1 } << 40), Outcome::next);
    expect_kept(x86::msr::tsc_deadline, never);
    EXPECT_EQ(interrupts.deadline, never - (u64 { 1 } << 40));
    EXPECT_EQ(write(x86::msr::tsc, 0), Outcome::next); // behind the machine's counter
    EXPECT_EQ(write(x86::msr::tsc_deadline, never), Outcome::next);
    EXPECT_GE(interrupts.deadline, never >> 1);
    EXPECT_EQ(write(x86::msr::tsc_adjust, u64 { 1 } << 63), Outcome::next);
    EXPECT_EQ(write(x86::msr::tsc_deadline, (u64 { 1 } << 63) - 1), Outcome::next); // past
    EXPECT_EQ(interrupts.deadline, 1u);
}

TEST_F(ModelSpecificRegisters, RdtscRdtscpRdpid)
{
    cpu.tsc_aux = 0x42;
    u64 const before = guest_tsc(cpu);
    EXPECT_EQ(execute({ 0x0f, 0x31 }), Outcome::next);
    EXPECT_GE(pair(), before);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xf9 }), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rcx], 0x42u);
    EXPECT_EQ(execute({ 0xf3, 0x0f, 0xc7, 0xf8 }), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rax], 0x42u);
    expect_gp(execute({ 0x0f, 0x33 }));
    set_level(3);
    EXPECT_EQ(execute({ 0x0f, 0x31 }), Outcome::next);
    cpu.cr4 |= x86::cr4::tsd;
    expect_gp(execute({ 0x0f, 0x31 }));
}

} // namespace anyhyve::soft
