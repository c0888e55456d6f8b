// Accesses of hot loops that share a check: what leads to the host's memory must be their own page's, whatever stands between them.
#include "scattered_pages.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

class AccessGroups : public ScatteredPages<64> {};

// An instruction that takes two of the registers that are in memory, and no register is left but the one that leads to the group's page.
TEST_F(AccessGroups, SurviveInstructionsThatTakeAllScratchRegisters)
{
    if (!__builtin_cpu_supports("bmi"))
        GTEST_SKIP() << "the host has no BMI1";
    constexpr u64 many = 30'000'000;
    auto s = m.long_mode();
    m.put<u64>(GuestMachine::data + 8, 0xff);
    m.put<u64>(GuestMachine::data + 16, 3);
    s.gpr[rsi] = GuestMachine::data;
    s.gpr[rcx] = 1;
    s.gpr[rdx] = many;
    s.gpr[r14] = 0x10;
    // L: cld; andn r13,r14,[rsi+rcx*8]; mov rax,[rsi+rcx*8+8]; add rbx,rax; sub rdx,1; jne L
    auto const e = m.run(s, { 0xfc, 0xc4, 0x62, 0x88, 0xf2, 0x2c, 0xce, 0x48, 0x8b, 0x44, 0xce, 8, 0x48, 0x01, 0xc3, 0x48, 0x83, 0xea, 1, 0x75, 0xeb });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[r13], 0xefu);
    EXPECT_EQ(e.gpr[rbx], 3 * many);
}

// The check of a round's accesses stands before the last access of the round before, where no flags count.
TEST_F(AccessGroups, OfLaterRoundsAreCheckedAmidThoseOfEarlierOnes)
{
    constexpr u64 stride = 520, count = pages * page / stride - 1, rounds = 200'000;
    auto s = scattered();
    for (u64 i = 0; i < count; ++i) {
        put<u64>(i * stride, 5);
        put<u64>(i * stride + 8, i + 1 == count ? 1 - count : 1);
    }
    s.gpr[rcx] = rounds;
    s.gpr[r8] = linear;
    // O: mov rsi,r8; xor edx,edx; L: cmovc rbp,rbp; mov rbx,[rsi]; adc rdi,rbx; add rdx,[rsi+8]; lea rsi,[rsi+520]; jne L; sub rcx,1; jne O
    auto const e = m.run(s, { 0x4c, 0x89, 0xc6, 0x31, 0xd2, 0x48, 0x0f, 0x42, 0xed, 0x48, 0x8b, 0x1e, 0x48, 0x11, 0xdf, 0x48, 0x03, 0x56, 8, 0x48, 0x8d, 0xb6, 8, 2, 0, 0, 0x75, 0xe9, 0x48, 0x83, 0xe9, 1, 0x75, 0xde });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rcx], 0u);
    EXPECT_EQ(e.gpr[rdi], 5 * count * rounds);
}

// More groups are open at once than there are slots for runs of pages of their kind: a kernel that may access what is the user's has sixteen.
TEST_F(AccessGroups, AreAsManyAsABlockHasRoomFor)
{
    constexpr u64 many = 3'000'000, first_pages = 40, far = 32 * MiB, far_table = 0x22000;
    auto s = scattered();
    put_entry(directory + far / (2 * MiB) * 8, far_table);
    for (u64 i = 0; i < pages; ++i) {
        put_entry(far_table + i * 8, frame(pages - 1 - i));
        put<u64>(i * page + 8, i + 1);
    }
    s.cr4 |= cr4::smap;
    s.rflags |= rflags::ac;
    s.gpr[rcx] = many;
    s.gpr[rdx] = 0;
    s.gpr[rsi] = s.gpr[r9] = linear;
    s.gpr[r8] = linear + first_pages * page;
    // L: mov rax,[rsi]; add rbx,[rsi+page]; ... add rbx,[rsi+16*page]; add rbx,[rsi+far]; add rdx,[rsi+8]; add rsi,page; cmp rsi,r8; cmove rsi,r9; sub rcx,1; jne L
    std::vector<u8> code { 0x48, 0x8b, 0x06 };
    auto const add = [&code](u64 displacement) {
        code.insert(code.end(), { 0x48, 0x03, 0x9e });
        for (unsigned i = 0; i < 4; ++i)
            code.push_back(static_cast<u8>(displacement >> 8 * i));
    };
    for (u64 i = 1; i < 16; ++i)
        add(i * page);
    add(far);
    code.insert(code.end(), { 0x48, 0x03, 0x56, 8, 0x48, 0x81, 0xc6, 0, 0x10, 0, 0, 0x4c, 0x39, 0xc6, 0x49, 0x0f, 0x44, 0xf1, 0x48, 0x83, 0xe9, 1, 0x0f, 0x85 });
    u64 const back = 0 - (code.size() + 4);
    for (unsigned i = 0; i < 4; ++i)
        code.push_back(static_cast<u8>(back >> 8 * i));
    auto const e = m.run(s, code);
    EXPECT_EQ(m.last_exit, RunExit::halted);
    u64 expected = 0;
    for (u64 i = 0; i < many; ++i)
        expected += i % first_pages + 1;
    EXPECT_EQ(e.gpr[rdx], expected);
    EXPECT_EQ(e.gpr[rbx], 0u);
}

} // namespace
} // namespace anyhyve::soft
