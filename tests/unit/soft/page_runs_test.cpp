// Hot code whose accesses find many pages that lie anywhere in RAM: what it reads and writes is what the page tables say, whatever happens to them.
#include <algorithm>

#include "engine/soft/cpu.hpp"
#include "scattered_pages.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

class PageRuns : public ScatteredPages<16> {
protected:
    // With what the programs below want: where the pages are, and how far they reach.
    CpuState scattered()
    {
        auto s = ScatteredPages::scattered();
        s.gpr[rsi] = linear;
        s.gpr[rdx] = 0;
        s.gpr[r8] = pages * page - 1;
        return s;
    }
    u64 pages_mapped() const
    {
        for (auto const& one : m.vcpu->statistics()) {
            if (one.name == "pages mapped beside their neighbours")
                return one.value;
        }
        return 0;
    }
};

TEST_F(PageRuns, ReadPagesThatLieAnywhere)
{
    constexpr u64 steps = 40'000'001;
    auto s = scattered();
    for (u64 i = 0; i < pages; ++i)
        m.put<u64>(frame(i) + 8 * i, linear + (i + 5) % pages * page + 8 * ((i + 5) % pages));
    s.gpr[rbx] = linear;
    s.gpr[rcx] = steps;
    // L: mov rbx,[rbx]; sub rcx,1; jne L
    auto const e = m.run(s, { 0x48, 0x8b, 0x1b, 0x48, 0x83, 0xe9, 1, 0x75, 0xf7 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    u64 const last = steps * 5 % pages;
    EXPECT_EQ(e.gpr[rbx], linear + last * page + 8 * last);
    EXPECT_GE(pages_mapped(), pages);
}

TEST_F(PageRuns, WritePagesThatLieAnywhere)
{
    constexpr u64 steps = 20'000'000, stride = 0xff8;
    auto s = scattered();
    s.gpr[rcx] = steps;
    s.gpr[rdi] = stride;
    // L: lea rax,[rsi+rdx]; add qword [rax],1; add rdx,rdi; and rdx,r8; sub rcx,1; jne L
    m.run(s, { 0x48, 0x8d, 0x04, 0x16, 0x48, 0x83, 0x00, 0x01, 0x48, 0x01, 0xfa, 0x4c, 0x21, 0xc2, 0x48, 0x83, 0xe9, 0x01, 0x75, 0xec });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    std::vector<u64> expected(pages * page / 8);
    for (u64 i = 0, at = 0; i < steps; ++i, at = (at + stride) & (pages * page - 1))
        ++expected[at / 8];
    for (u64 i = 0; i < expected.size(); ++i)
        ASSERT_EQ(m.get<u64>(frame(i * 8 / page) + i * 8 % page), expected[i]) << i;
    EXPECT_GE(pages_mapped(), pages);
}

// Sums over all pages, while one of them is now in this frame, now in that.
TEST_F(PageRuns, FollowAPageThatMoves)
{
    constexpr u64 rounds = 40, sums = 20'000, other = 0x600000;
    auto s = scattered();
    for (u64 i = 0; i < pages; ++i)
        m.put<u64>(frame(i), 1);
    m.put<u64>(other, 1000);
    s.gpr[r12] = sums * pages;
    s.gpr[r9] = table + 3 * 8;
    s.gpr[r10] = other | 7;
    s.gpr[r11] = frame(3) | 7;
    s.gpr[r13] = linear + 3 * page;
    s.gpr[rbp] = rounds;
    // O: mov rcx,r12; L: lea rbx,[rsi+rdx]; add rax,[rbx]; add rdx,0x1000; and rdx,r8; sub rcx,1; jne L; mov [r9],r10; xchg r10,r11; invlpg [r13];
    // sub rbp,1; jne O
    auto const e = m.run(s, { 0x4c, 0x89, 0xe1, 0x48, 0x8d, 0x1c, 0x16, 0x48, 0x03, 0x03, 0x48, 0x81, 0xc2, 0, 0x10, 0, 0, 0x4c, 0x21, 0xc2, 0x48, 0x83, 0xe9, 1, 0x75, 0xe9,
                                0x4d, 0x89, 0x11, 0x4d, 0x87, 0xda, 0x41, 0x0f, 0x01, 0x7d, 0, 0x48, 0x83, 0xed, 1, 0x75, 0xd5 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], rounds * sums * (pages - 1) + rounds / 2 * sums * 1001);
    EXPECT_GE(pages_mapped(), pages);
}

// A function in one of the pages is rewritten by the loop that writes them all, and called between.
TEST_F(PageRuns, RewriteCodeThatLiesInOne)
{
    constexpr u64 rounds = 40, stores = 20'000;
    auto s = scattered();
    for (u64 i = 0; i < pages; ++i)
        m.load(frame(i), { 0xb8, 0, 0, 0, 0, 0xc3 }); // mov eax,imm32; ret
    s.gpr[r12] = stores * pages;
    s.gpr[r14] = linear + 9 * page;
    s.gpr[rbp] = rounds;
    // O: mov rcx,r12; add edi,1; L: lea rbx,[rsi+rdx]; mov [rbx+1],edi; add rdx,0x1000; and rdx,r8; sub rcx,1; jne L; call r14; add r15,rax; sub rbp,1; jne O
    auto const e = m.run(s, { 0x4c, 0x89, 0xe1, 0x83, 0xc7, 1, 0x48, 0x8d, 0x1c, 0x16, 0x89, 0x7b, 1, 0x48, 0x81, 0xc2, 0, 0x10, 0, 0, 0x4c, 0x21, 0xc2, 0x48, 0x83, 0xe9, 1, 0x75, 0xe9,
                                0x41, 0xff, 0xd6, 0x49, 0x01, 0xc7, 0x48, 0x83, 0xed, 1, 0x75, 0xd7 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[r15], rounds * (rounds + 1) / 2);
}

// The guest's own translation tables change under another root: what a window shows belongs to one address space.
TEST_F(PageRuns, KeepAddressSpacesApart)
{
    constexpr u64 rounds = 40, sums = 20'000, roots = 0x30000;
    auto s = scattered();
    // Another root: the same low GiB, and at `linear` the same frames in the opposite order.
    put_entry(roots, roots + 0x1000);
    put_entry(roots + 0x1000, GuestMachine::page_tables + 0x2000);
    put_entry(roots + 0x1000 + 8, roots + 0x2000);
    put_entry(roots + 0x2000, roots + 0x3000);
    for (u64 i = 0; i < pages; ++i) {
        put_entry(roots + 0x3000 + i * 8, frame(pages - 1 - i));
        m.put<u64>(frame(i), u64 { 1 } << i);
    }
    s.gpr[r8] = (pages / 2) * page - 1; // the first half of the pages
    s.gpr[r12] = sums * pages / 2;
    s.gpr[r10] = roots;
    s.gpr[r11] = GuestMachine::page_tables;
    s.gpr[rbp] = rounds;
    // O: mov rcx,r12; L: lea rbx,[rsi+rdx]; add rax,[rbx]; add rdx,0x1000; and rdx,r8; sub rcx,1; jne L; mov cr3,r10; xchg r10,r11; sub rbp,1; jne O
    auto const e = m.run(s, { 0x4c, 0x89, 0xe1, 0x48, 0x8d, 0x1c, 0x16, 0x48, 0x03, 0x03, 0x48, 0x81, 0xc2, 0, 0x10, 0, 0, 0x4c, 0x21, 0xc2, 0x48, 0x83, 0xe9, 1, 0x75, 0xe9,
                                0x41, 0x0f, 0x22, 0xda, 0x4d, 0x87, 0xda, 0x48, 0x83, 0xed, 1, 0x75, 0xd9 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], rounds / 2 * sums * 0xffff);
    EXPECT_GE(pages_mapped(), pages);
}

// A page with a datum that a breakpoint watches belongs to no run, though the page tables know it.
TEST_F(PageRuns, LeaveOutWhatABreakpointWatches)
{
    constexpr u64 steps = 20'000'000, watched_page = 7;
    auto s = scattered();
    s.gpr[r12] = steps;
    s.gpr[rbp] = 2;
    s.idtr = { 0, 0 };
    s.dr[0] = linear + watched_page * page + 8;
    s.dr7 = 0x400 | 1 | 3 << 16 | 3 << 18; // reads and writes of four bytes
    // O: mov rcx,r12; L: lea rbx,[rsi+rdx]; add rax,[rbx]; add rdx,0x1000; and rdx,r8; sub rcx,1; jne L; add rsi,8; sub rbp,1; jne O
    auto const e = m.run(s, { 0x4c, 0x89, 0xe1, 0x48, 0x8d, 0x1c, 0x16, 0x48, 0x03, 0x03, 0x48, 0x81, 0xc2, 0, 0x10, 0, 0, 0x4c, 0x21, 0xc2, 0x48, 0x83, 0xe9, 1, 0x75, 0xe9,
                                0x48, 0x83, 0xc6, 8, 0x48, 0x83, 0xed, 1, 0x75, 0xdc });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault) << "the second time round, at the watched page";
    EXPECT_EQ(e.gpr[rbx], linear + watched_page * page + 8);
    EXPECT_EQ(e.gpr[rbp], 1u);
}

// Two buffers whose pages share the slots of the look-aside table, copied one to the other: each pushes the other's pages out, and finds its own quietly.
TEST_F(PageRuns, CopyBetweenPagesThatShareSlots)
{
    constexpr u64 rounds = 40'000, other_table = 0x22000, words = pages / 2 * page / 8;
    constexpr u64 distance = u64 { tlb_entries } * page;
    auto s = scattered();
    put_entry(directory + distance / (2 * MiB) * 8, other_table);
    for (u64 i = 0; i < pages / 2; ++i)
        put_entry(other_table + i * 8, frame(pages / 2 + i));
    for (u64 i = 0; i < words; ++i)
        m.put<u64>(frame(i * 8 / page) + i * 8 % page, i * 3 + 1);
    s.gpr[rbp] = rounds;
    s.gpr[rdi] = linear + distance;
    // O: mov ecx,words; mov rbx,rsi; mov rdx,rdi; L: mov rax,[rbx]; mov [rdx],rax; add rbx,8; add rdx,8; sub rcx,1; jne L; sub rbp,1; jne O
    m.run(s, { 0xb9, words & 0xff, words >> 8 & 0xff, 0, 0, 0x48, 0x89, 0xf3, 0x48, 0x89, 0xfa, 0x48, 0x8b, 0x03, 0x48, 0x89, 0x02, 0x48, 0x83, 0xc3, 8, 0x48, 0x83, 0xc2, 8,
                 0x48, 0x83, 0xe9, 1, 0x75, 0xec, 0x48, 0x83, 0xed, 1, 0x75, 0xdb });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    for (u64 i = 0; i < words; ++i)
        ASSERT_EQ(m.get<u64>(frame(pages / 2 + i * 8 / page) + i * 8 % page), i * 3 + 1) << i;
}

} // namespace
} // namespace anyhyve::soft
