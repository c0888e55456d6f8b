// Accesses relative to the stack pointer that share one look at the stack's page: they come to the same end as one by one, wherever the stack lies.
#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

// Linear addresses from `window` on are RAM from `data` on, by pages that can be taken away.
class StackRuns : public ::testing::Test {
protected:
    static constexpr u64 window = 0x4000'0000, page = 0x1000, table = 0x20000, directory = 0x21000;

    CpuState state()
    {
        auto s = m.long_mode();
        m.put<u64>(GuestMachine::page_tables + 0x1000 + 8, directory | 7);
        m.put<u64>(directory, table | 7);
        for (u64 i = 0; i < 16; ++i)
            m.put<u64>(table + i * 8, (GuestMachine::data + i * page) | 7);
        s.gpr[rcx] = rounds;
        s.idtr = { 0, 0 };
        return s;
    }
    void take_away(u64 number) { m.put<u64>(table + number * 8, 0); }
    u64 stored(u64 linear) const { return m.get<u64>(linear - window + GuestMachine::data); }

    static constexpr u64 rounds = 20;
    GuestMachine m;
};

// Wherever the page ends, going down and up.
TEST_F(StackRuns, CrossPages)
{
    for (u64 below = 0; below <= 56; below += 4) {
        auto s = state();
        u64 const top = window + 3 * page + below;
        s.gpr[rsp] = top;
        s.gpr[rbx] = 0x1111, s.gpr[rbp] = 0x2222, s.gpr[r12] = 0x3333, s.gpr[r13] = 0x4444, s.gpr[r14] = 0x5555, s.gpr[r15] = 0x6666;
        // L: push r15; mov rdi,rsp; push r14; push r13; push r12; push rbp; push rbx; sub rsp,16; mov [rsp+8],rcx; mov rsi,[rsp+8];
        // add rsp,16; pop rdx; pop rbp; pop r12; pop r15; pop r14; pop r13; sub rcx,1; jnz L
        auto const e = m.run(s, { 0x41, 0x57, 0x48, 0x89, 0xe7, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54, 0x55, 0x53, 0x48, 0x83, 0xec, 16, 0x48, 0x89, 0x4c, 0x24, 8, 0x48, 0x8b, 0x74, 0x24, 8,
            0x48, 0x83, 0xc4, 16, 0x5a, 0x5d, 0x41, 0x5c, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x48, 0x83, 0xe9, 1, 0x75, 0xd1 });
        EXPECT_EQ(m.last_exit, RunExit::halted);
        EXPECT_EQ(e.gpr[rsp], top);
        EXPECT_EQ(e.gpr[rdi], top - 8);
        EXPECT_EQ(e.gpr[rsi], 1u);
        EXPECT_EQ(e.gpr[rdx], 0x1111u);
        EXPECT_EQ(e.gpr[rbp], 0x2222u);
        EXPECT_EQ(e.gpr[r12], 0x3333u);
        EXPECT_EQ(e.gpr[r13], 0x4444u); // R13 and R15 change places each time
        EXPECT_EQ(e.gpr[r14], 0x5555u);
        EXPECT_EQ(e.gpr[r15], 0x6666u);
        EXPECT_EQ(stored(top - 48), 0x1111u);
        EXPECT_EQ(stored(top - 56), 1u);
    }
}

// No address that is not canonical stands for the page that is not known yet.
TEST_F(StackRuns, FaultWhereNothingIs)
{
    auto s = state();
    s.gpr[rsp] = 0x5a5a'3c3c'0f0f'1800;
    m.run(s, { 0x50, 0x53, 0x58 }); // push rax; push rbx; pop rax
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
}

// What came before the fault is done, and nothing else.
TEST_F(StackRuns, FaultInTheirMiddle)
{
    auto s = state();
    take_away(2);
    s.gpr[rsp] = window + 3 * page + 16;
    s.gpr[rbx] = 0x77;
    // push rbx; push rbx; mov rax,1; push rbx; push rbx
    auto e = m.run(s, { 0x53, 0x53, 0xb8, 1, 0, 0, 0, 0x53, 0x53 });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    EXPECT_EQ(e.rip, GuestMachine::code + 7);
    EXPECT_EQ(e.gpr[rsp], window + 3 * page);
    EXPECT_EQ(e.gpr[rax], 1u);
    EXPECT_EQ(e.cr2, window + 3 * page - 8);
    EXPECT_EQ(stored(window + 3 * page), 0x77u);

    s = state();
    take_away(3);
    s.gpr[rsp] = window + 3 * page - 16;
    m.put<u64>(GuestMachine::data + 3 * page - 16, 0xaa);
    m.put<u64>(GuestMachine::data + 3 * page - 8, 0xbb);
    // pop rbx; pop rdx; pop rsi; pop rdi
    e = m.run(s, { 0x5b, 0x5a, 0x5e, 0x5f });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    EXPECT_EQ(e.rip, GuestMachine::code + 2);
    EXPECT_EQ(e.gpr[rsp], window + 3 * page);
    EXPECT_EQ(e.gpr[rbx], 0xaau);
    EXPECT_EQ(e.gpr[rdx], 0xbbu);
    EXPECT_EQ(e.cr2, window + 3 * page);
}

// Another access faults, when the run has long been looked up.
TEST_F(StackRuns, FaultBetweenThem)
{
    auto s = state();
    take_away(5);
    s.gpr[rsp] = window + 3 * page;
    s.gpr[rbx] = window + 5 * page - (rounds - 4) * 8;
    // L: push rbx; add rsp,-8; mov rax,[rbx]; push rcx; pop rdx; add rsp,8; pop rbx; add rbx,8; loop L
    auto const e = m.run(s, { 0x53, 0x48, 0x83, 0xc4, 0xf8, 0x48, 0x8b, 0x03, 0x51, 0x5a, 0x48, 0x83, 0xc4, 8, 0x5b, 0x48, 0x83, 0xc3, 8, 0xe2, 0xeb });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    EXPECT_EQ(e.rip, GuestMachine::code + 5);
    EXPECT_EQ(e.gpr[rsp], window + 3 * page - 16);
    EXPECT_EQ(e.gpr[rbx], window + 5 * page);
    EXPECT_EQ(e.gpr[rcx], 4u);
}

TEST_F(StackRuns, MoveTheStackPointerItself)
{
    auto s = state();
    s.gpr[rsp] = window + 3 * page;
    s.gpr[rbx] = window;
    // L: push rcx; push rsp; pop rax; push rsp; pop [rsp+8]; pop rdx; lea rsp,[rsp-16]; mov [rsp],rax; mov rsi,[rsp]; pop rdi; pop rdi; push rbx; pop rsp; mov rsp,rax; pop rcx; mov rcx,rdi; loop L
    auto const e = m.run(s, { 0x51, 0x54, 0x58, 0x54, 0x8f, 0x44, 0x24, 8, 0x5a, 0x48, 0x8d, 0x64, 0x24, 0xf0, 0x48, 0x89, 0x04, 0x24, 0x48, 0x8b, 0x34, 0x24, 0x5f, 0x5f,
        0x53, 0x5c, 0x48, 0x89, 0xc4, 0x59, 0x48, 0x89, 0xf9, 0xe2, 0xdd });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rsp], window + 3 * page);
    EXPECT_EQ(e.gpr[rax], window + 3 * page - 8);
    EXPECT_EQ(e.gpr[rsi], window + 3 * page - 8);
    EXPECT_EQ(stored(window + 3 * page), window + 3 * page - 8);
}

// Code lies in the stack's page, and is rewritten by pushes.
TEST_F(StackRuns, SeeCodeTheyRewrite)
{
    auto s = state();
    s.gpr[rsp] = window + 3 * page;
    s.gpr[rdx] = 0x9090'9090'c301'c083; // add eax,1; ret
    s.gpr[rbx] = 0x9090'9090'9090'9090;
    // L: push rbx; push rdx; lea rdi,[rsp]; push rcx; call rdi; pop rcx; pop rbp; pop rbp; add rdx,0x10000; loop L
    auto const e = m.run(s, { 0x53, 0x52, 0x48, 0x8d, 0x3c, 0x24, 0x51, 0xff, 0xd7, 0x59, 0x5d, 0x5d, 0x48, 0x81, 0xc2, 0, 0, 1, 0, 0xe2, 0xeb });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], rounds * (rounds + 1) / 2);
    EXPECT_EQ(e.gpr[rsp], window + 3 * page);
}

class Counter final : public BusDevice {
public:
    u64 read(u64, unsigned) override { return ++reads; }
    void write(u64, unsigned, u64 value) override { writes += value; }
    u64 reads = 0, writes = 0;
};

// Operands on the bus and in two pages, between accesses to the stack: each is done once.
TEST_F(StackRuns, StandBesideDevices)
{
    Counter counter;
    ASSERT_TRUE(m.mmio.add(0x3000'0000, page, counter, "counter").ok());
    auto s = state();
    s.gpr[rsp] = window + 3 * page;
    s.gpr[rbx] = 0x3000'0000;
    s.gpr[rsi] = window + 9 * page - 4;
    // L: push rcx; mov rax,[rbx]; push rax; mov [rbx],ecx; add [rsi],rcx; pop rdx; pop rcx; loop L
    auto const e = m.run(s, { 0x51, 0x48, 0x8b, 0x03, 0x50, 0x89, 0x0b, 0x48, 0x01, 0x0e, 0x5a, 0x59, 0xe2, 0xf2 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(counter.reads, rounds);
    EXPECT_EQ(counter.writes, rounds * (rounds + 1) / 2);
    EXPECT_EQ(stored(window + 9 * page - 4), rounds * (rounds + 1) / 2);
    EXPECT_EQ(e.gpr[rdx], rounds);
    EXPECT_EQ(e.gpr[rsp], window + 3 * page);
}

// Flags that live across a run, whichever way it is gone.
TEST_F(StackRuns, KeepFlags)
{
    for (u64 const top : { window + 3 * page + 64, window + 3 * page + 8 }) {
        auto s = state();
        s.gpr[rsp] = top;
        s.gpr[rdx] = 0;
        // L: cmp rcx,10; push rcx; push rbx; mov [rsp-8],rax; pop rbx; pop rcx; adc rdx,0; loop L
        auto const e = m.run(s, { 0x48, 0x83, 0xf9, 10, 0x51, 0x53, 0x48, 0x89, 0x44, 0x24, 0xf8, 0x5b, 0x59, 0x48, 0x83, 0xd2, 0, 0xe2, 0xed });
        EXPECT_EQ(m.last_exit, RunExit::halted);
        EXPECT_EQ(e.gpr[rdx], 9u);
        EXPECT_EQ(e.gpr[rsp], top);
    }
}

// A page that may be read only is nobody's stack page.
TEST_F(StackRuns, ReadAPageThatMayNotBeWritten)
{
    auto s = state();
    m.put<u64>(table + 3 * 8, (GuestMachine::data + 3 * page) | 5);
    s.gpr[rsp] = window + 3 * page;
    for (u64 i = 0; i < 2 * rounds; ++i)
        m.put<u64>(GuestMachine::data + 3 * page + i * 8, i);
    // L: pop rax; pop rdx; add rbx,rax; add rbx,rdx; loop L; push rax; push rax
    auto const e = m.run(s, { 0x58, 0x5a, 0x48, 0x01, 0xc3, 0x48, 0x01, 0xd3, 0xe2, 0xf6, 0x50, 0x50 });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    EXPECT_EQ(e.rip, GuestMachine::code + 10);
    EXPECT_EQ(e.gpr[rbx], rounds * (2 * rounds - 1));
    EXPECT_EQ(e.gpr[rsp], window + 3 * page + 16 * rounds);
}

} // namespace
} // namespace anyhyve::soft
