// Debug exceptions: instruction and data breakpoints, single steps, and what STI and MOV SS hold back.
#include <algorithm>

#include "guest_machine.hpp"

#include "engine/soft/vendor.hpp"

namespace anyhyve::soft {

class Breakpoints : public ::testing::Test {
protected:
    static constexpr u64 idt = 0x9000, handler = 0x110000, records = 0x210000, watched = GuestMachine::data + 0x100;
    static constexpr u64 trap_flag = 0x100, quiet = 0xffff0ff0;

    struct Record {
        u64 dr6, rip;
    };

    Breakpoints()
    {
        machine.put<u64>(GuestMachine::gdt + 8, 0x00af9b000000ffff);
        machine.put<u64>(GuestMachine::gdt + 0x10, 0x00cf93000000ffff);
        for (u64 const vector : { 1, 0x40 }) {
            machine.put<u64>(idt + vector * 16, (handler & 0xffff) | 0x08 << 16 | u64 { 0x8e00 } << 32 | (handler >> 16) << 48);
            machine.put<u64>(idt + vector * 16 + 8, 0);
        }
        // Writes DR6 and the return address to where R15 points, clears DR6 and the saved TF, sets the saved RF.
        machine.load(handler, { 0x0f, 0x21, 0xf0, 0x49, 0x89, 0x07, 0x48, 0x8b, 0x04, 0x24, 0x49, 0x89, 0x47, 0x08, 0x49, 0x83, 0xc7, 0x10, 0x31, 0xc0,
                                   0x0f, 0x23, 0xf0, 0x81, 0x64, 0x24, 0x10, 0xff, 0xfe, 0xff, 0xff, 0x81, 0x4c, 0x24, 0x10, 0x00, 0x00, 0x01, 0x00, 0x48, 0xcf });
        start = machine.long_mode();
        start.gdtr = { GuestMachine::gdt, 0x17 };
        start.idtr = { idt, 0xfff };
        start.dr6 = quiet;
        start.gpr[14] = watched;
        start.gpr[15] = records;
    }

    std::vector<Record> run(std::vector<u8> const& bytes)
    {
        end = machine.run(start, bytes);
        EXPECT_EQ(machine.last_exit, RunExit::halted);
        std::vector<Record> list;
        for (u64 at = records; at < end.gpr[15]; at += 16)
            list.push_back({ machine.get<u64>(at), machine.get<u64>(at + 8) - GuestMachine::code });
        return list;
    }
    void watch(u64 address, unsigned condition, unsigned length)
    {
        start.dr[1] = address;
        start.dr7 = 0x400 | 1 << 3 | condition << 20 | length << 22;
    }

    u64 stepped() const
    {
        auto const list = machine.vcpu->statistics();
        auto const found = std::find_if(list.begin(), list.end(), [](Statistic const& one) { return one.name == "instructions stepped"; });
        return found == list.end() ? ~u64 { 0 } : found->value;
    }

    GuestMachine machine;
    CpuState start, end;
};

TEST_F(Breakpoints, AnInstructionIsReportedBeforeItRuns)
{
    start.dr[0] = GuestMachine::code + 1;
    start.dr7 = 0x402;
    auto const list = run({ 0x90, 0xff, 0xc3, 0x90 }); // NOP, INC EBX
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 1u);
    EXPECT_EQ(list[0].dr6, quiet | 1);
    EXPECT_EQ(end.gpr[x86::rbx], start.gpr[x86::rbx] + 1);
}

TEST_F(Breakpoints, AWriteIsReportedBehindItsInstruction)
{
    watch(watched, 1, 3);
    start.gpr[14] = watched + 2;
    start.dr6 |= 1 << 14; // software's: stays
    auto const list = run({ 0x41, 0x8b, 0x06, 0x41, 0x89, 0x1e, 0x41, 0x89, 0x5e, 0x02, 0x41, 0x89, 0x5e, 0xf8 }); // a read, a write, two beside it
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 6u);
    EXPECT_EQ(list[0].dr6, quiet | 1 << 14 | 2);
}

TEST_F(Breakpoints, AReadIsReportedToo)
{
    watch(watched, 3, 0);
    auto const list = run({ 0x41, 0x8b, 0x46, 0xfd, 0x41, 0x8b, 0x46, 0xfc, 0x41, 0xff, 0x36, 0x58 }); // of its byte, of none, PUSH [R14], POP
    ASSERT_EQ(list.size(), 2u);
    EXPECT_EQ(list[0].rip, 4u);
    EXPECT_EQ(list[1].rip, 11u);
}

TEST_F(Breakpoints, ARepeatedStoreStopsAtItsElement)
{
    watch(watched + 3, 1, 0);
    start.gpr[x86::rcx] = 8;
    start.gpr[x86::rdi] = watched;
    machine.put<u64>(watched, ~u64 { 0 });
    auto const list = run({ 0x31, 0xc0, 0xf3, 0xaa });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 2u);
    EXPECT_EQ(end.gpr[x86::rcx], 0u);
    EXPECT_EQ(machine.get<u64>(watched), 0u);
}

TEST_F(Breakpoints, LoadingSsHoldsThemBackForAnInstruction)
{
    watch(watched, 3, 0);
    machine.put<u16>(watched, 0x10);
    auto const list = run({ 0x41, 0x8e, 0x16, 0x90, 0x90 });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 4u);
    // An INT1 takes the report along.
    auto const with_int1 = run({ 0x41, 0x8e, 0x16, 0xf1, 0x90 });
    ASSERT_EQ(with_int1.size(), 1u);
    EXPECT_EQ(with_int1[0].rip, 4u);
    EXPECT_EQ(with_int1[0].dr6, quiet | 2);
}

TEST_F(Breakpoints, LoadingSsHidesInstructionsOnIntel)
{
    start.dr[0] = GuestMachine::code + 3;
    start.dr7 = 0x402;
    machine.put<u16>(watched, 0x10);
    EXPECT_EQ(run({ 0x41, 0x8e, 0x16, 0x90, 0x90 }).size(), cpu_vendor() == Vendor::amd ? 1u : 0u);
}

TEST_F(Breakpoints, ASingleStepIsNotHeldBackBySti)
{
    start.rflags |= trap_flag;
    auto const list = run({ 0xfb, 0x90, 0xfa });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 1u);
    EXPECT_EQ(list[0].dr6, quiet | 1 << 14);
}

TEST_F(Breakpoints, ASingleStepEndsAHalt)
{
    start.rflags |= trap_flag;
    auto const list = run({ 0xf4, 0x90 });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 1u);
    EXPECT_EQ(end.rip, GuestMachine::code + 3);
}

TEST_F(Breakpoints, InterruptsComeBetweenStiWithItsSuccessorAndCli)
{
    machine.interrupts.vector = 0x40;
    auto const list = run({ 0xfb, 0x90, 0xfa, 0x90 });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 2u);
}

// A loop walks over four pages, in one of which a datum is watched, often enough to be found hot.
TEST_F(Breakpoints, CodeRunsFreelyAroundAWatchedDatum)
{
    constexpr u64 rounds = 3000;
    watch(GuestMachine::data + 0x2804, 1, 3);
    start.gpr[x86::rbp] = rounds;
    // O: mov rbx,r14 - 100h; L: inc dword [rbx]; add rbx,8; cmp rbx,rdi; jb L; dec ebp; jnz O
    start.gpr[x86::rsi] = GuestMachine::data;
    start.gpr[x86::rdi] = GuestMachine::data + 0x4000;
    auto const list = run({ 0x48, 0x89, 0xf3, 0xff, 0x03, 0x48, 0x83, 0xc3, 8, 0x48, 0x39, 0xfb, 0x72, 0xf5, 0xff, 0xcd, 0x75, 0xee });
    EXPECT_EQ(list.size(), 0u); // 2800, 2808: beside it
    EXPECT_EQ(machine.get<u32>(GuestMachine::data + 0x2800), rounds);
    EXPECT_EQ(machine.get<u32>(GuestMachine::data + 0x3ff8), rounds);
    EXPECT_LT(stepped(), 10u);
    watch(GuestMachine::data + 0x2808, 1, 3);
    start.gpr[x86::rbp] = 20;
    auto const hits = run({ 0x48, 0x89, 0xf3, 0xff, 0x03, 0x48, 0x83, 0xc3, 8, 0x48, 0x39, 0xfb, 0x72, 0xf5, 0xff, 0xcd, 0x75, 0xee });
    ASSERT_EQ(hits.size(), 20u);
    for (auto const& hit : hits) {
        EXPECT_EQ(hit.rip, 5u);
        EXPECT_EQ(hit.dr6, quiet | 2);
    }
    EXPECT_EQ(machine.get<u32>(GuestMachine::data + 0x2808), rounds + 20);
    EXPECT_EQ(machine.get<u32>(GuestMachine::data + 0x2810), rounds + 20);
}

// Flags that the block needs behind the access, and a call that pushes onto what is watched.
TEST_F(Breakpoints, AnAccessInTheMiddleOfABlockIsReportedThere)
{
    watch(watched, 1, 2);
    // STC; MOV [R14], RBX; SETC AL; MOVZX R8, AL; LEA RSP, [R14+8]; CALL +0; ADD RSP, 300H
    auto const list = run({ 0xf9, 0x49, 0x89, 0x1e, 0x0f, 0x92, 0xc1, 0x44, 0x0f, 0xb6, 0xc1, 0x49, 0x8d, 0x66, 0x08, 0xe8, 0, 0, 0, 0, 0x48, 0x81, 0xc4, 0, 3, 0, 0 });
    ASSERT_EQ(list.size(), 2u);
    EXPECT_EQ(list[0].rip, 4u);
    EXPECT_EQ(list[1].rip, 20u);
    EXPECT_EQ(end.gpr[8], 1u);
}

// A function in another page, called in a loop that is linked to it before and after.
TEST_F(Breakpoints, AnInstructionInAnotherPageIsReportedEachTime)
{
    constexpr u64 function = GuestMachine::code + 0x3000;
    machine.load(function, { 0xff, 0xc3, 0xff, 0xc3, 0xc3 }); // INC EBX; INC EBX; RET
    start.gpr[x86::rbx] = 0;
    start.gpr[x86::rbp] = 1000;
    // L: CALL function; DEC EBP; JNZ L
    std::vector<u8> const loop { 0xe8, 0xfb, 0x2f, 0, 0, 0xff, 0xcd, 0x75, 0xf7 };
    EXPECT_EQ(run(loop).size(), 0u);
    start.dr[0] = function + 2;
    start.dr7 = 0x402;
    start.gpr[x86::rbp] = 10;
    auto const list = run(loop);
    ASSERT_EQ(list.size(), 10u);
    EXPECT_EQ(list[9].rip, 0x3002u);
    EXPECT_EQ(end.gpr[x86::rbx], 20u);
    start.dr7 = 0x400;
    EXPECT_EQ(run(loop).size(), 0u);
    // Armed by the guest itself, in the middle: MOV RAX, R12; MOV DR7, RAX before the loop.
    start.gpr[12] = 0x402;
    std::vector<u8> arming { 0x4c, 0x89, 0xe0, 0x0f, 0x23, 0xf8, 0xe8, 0xf5, 0x2f, 0, 0, 0xff, 0xcd, 0x75, 0xf7 };
    EXPECT_EQ(run(arming).size(), 10u);
}

// The loop's own page is another: it is not stepped.
TEST_F(Breakpoints, CodeRunsFreelyAroundAWatchedInstruction)
{
    start.dr[0] = GuestMachine::code + 0x3000;
    start.dr7 = 0x402;
    start.gpr[x86::rbp] = 100000;
    EXPECT_EQ(run({ 0xff, 0xcd, 0x75, 0xfc }).size(), 0u);
    EXPECT_LT(stepped(), 10u);
}

// An instruction that ends in the page of the breakpoint, and one that begins it.
TEST_F(Breakpoints, AcrossThePageOfAnInstruction)
{
    start.rip = GuestMachine::code + 0xffd;
    start.dr[0] = GuestMachine::code + 0x1002;
    start.dr7 = 0x402;
    auto const list = run({ 0xb8, 1, 0, 0, 0, 0x90, 0x90 }); // MOV EAX, 1 over the page's end; NOP at 1002
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 0x1002u);
}

TEST_F(Breakpoints, ACopyAroundAWatchedDatum)
{
    watch(GuestMachine::data + 0x5800, 1, 0);
    start.gpr[x86::rsi] = GuestMachine::data;
    start.gpr[x86::rdi] = GuestMachine::data + 0x4000;
    start.gpr[x86::rcx] = 0x3000;
    machine.put<u64>(GuestMachine::data + 0x2ff8, 0x1234567887654321);
    auto const list = run({ 0xf3, 0xa4, 0x90 }); // REP MOVSB
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 0u);
    EXPECT_EQ(machine.get<u64>(GuestMachine::data + 0x6ff8), 0x1234567887654321u);
    EXPECT_LT(stepped(), 10u);
}

} // namespace anyhyve::soft
