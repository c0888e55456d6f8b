// Page tables whose upper entries change after they were used.
#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

// Pages of 4 KiB at `there`, by a page table of their own; the rest is mapped one to one by large pages.
class PagingStructuresOfGuest : public ::testing::Test {
protected:
    static constexpr u64 there = 0x40000000; // the second GiB
    static constexpr u64 directory = 0x20000, table = 0x21000, other_table = 0x22000, pointers = GuestMachine::page_tables + 0x1000;

    PagingStructuresOfGuest()
    {
        s = m.long_mode();
        m.put<u64>(pointers + 8, directory | 7);
        m.put<u64>(directory, table | 7);
        for (u64 i = 0; i < 8; ++i) {
            m.put<u64>(table + 8 * i, (GuestMachine::data + 0x1000 * i) | 7);
            m.put<u64>(other_table + 8 * i, (GuestMachine::data + 0x10000 + 0x1000 * i) | 7);
            m.put<u64>(GuestMachine::data + 0x1000 * i, 100 + i);
            m.put<u64>(GuestMachine::data + 0x10000 + 0x1000 * i, 200 + i);
        }
        s.gpr[rsi] = there;
        s.gpr[rdi] = directory;
        s.gpr[r8] = other_table | 7;
    }

    GuestMachine m;
    CpuState s;
};

// mov rax,[rsi]; mov [rdi],r8; invlpg [rsi+0x5000]; mov rbx,[rsi+0x1000]
TEST_F(PagingStructuresOfGuest, AreForgottenByInvlpgOfAnyPage)
{
    auto const e = m.run(s, { 0x48, 0x8b, 0x06, 0x4c, 0x89, 0x07, 0x0f, 0x01, 0xbe, 0, 0x50, 0, 0, 0x48, 0x8b, 0x9e, 0, 0x10, 0, 0 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], 100u);
    EXPECT_EQ(e.gpr[rbx], 201u);
}

// mov rax,[rsi]; mov [rdi],r8; mov rcx,cr3; mov cr3,rcx; mov rbx,[rsi+0x1000]; mov rdx,[rsi]
TEST_F(PagingStructuresOfGuest, AreForgottenWithTheRoot)
{
    auto const e = m.run(s, { 0x48, 0x8b, 0x06, 0x4c, 0x89, 0x07, 0x0f, 0x20, 0xd9, 0x0f, 0x22, 0xd9, 0x48, 0x8b, 0x9e, 0, 0x10, 0, 0, 0x48, 0x8b, 0x16 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rbx], 201u);
    EXPECT_EQ(e.gpr[rdx], 200u);
}

// mov rax,[rsi]; mov [rsi+0x1000],rax: the directory's entry takes the right to write from all of its pages, whichever walk finds it.
TEST_F(PagingStructuresOfGuest, TakeRightsFromAllTheirPages)
{
    m.put<u64>(directory, table | 5);
    s.idtr = { 0, 0 };
    auto const e = m.run(s, { 0x48, 0x8b, 0x06, 0x48, 0x89, 0x86, 0, 0x10, 0, 0 });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    EXPECT_EQ(e.gpr[rax], 100u);
    EXPECT_EQ(e.cr2, there + 0x1000);
    EXPECT_EQ(m.get<u64>(GuestMachine::data + 0x1000), 101u);
}

// mov rax,[rsi]; mov rbx,[rsi+0x1000]: the second walk sets the accessed bit of its page, as the first has those above.
TEST_F(PagingStructuresOfGuest, LeaveTheAccessedBitsOfPages)
{
    m.run(s, { 0x48, 0x8b, 0x06, 0x48, 0x8b, 0x9e, 0, 0x10, 0, 0 });
    EXPECT_EQ(m.get<u64>(directory), table | 0x27);
    EXPECT_EQ(m.get<u64>(table), GuestMachine::data | 0x27);
    EXPECT_EQ(m.get<u64>(table + 8), (GuestMachine::data + 0x1000) | 0x27);
    EXPECT_EQ(m.get<u64>(table + 16), (GuestMachine::data + 0x2000) | 7);
}

} // namespace
} // namespace anyhyve::soft
