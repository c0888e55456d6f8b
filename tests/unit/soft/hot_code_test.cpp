// Loops that run long enough to be found hot: they must come to the same end as they would have.
#include <algorithm>

#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

u64 statistic(Vcpu const& vcpu, std::string const& name)
{
    auto const list = vcpu.statistics();
    auto const found = std::find_if(list.begin(), list.end(), [&](Statistic const& one) { return one.name == name; });
    return found == list.end() ? 0 : found->value;
}

class HotCode : public ::testing::Test {
protected:
    void expect_hot() { EXPECT_TRUE(!samples_come || statistic(*m.vcpu, "blocks found hot") != 0); }

    GuestMachine m;
    static constexpr u64 many = 60'000'000;
};

TEST_F(HotCode, ReadsAcrossPages)
{
    constexpr u64 size = 64 * KiB, rounds = 1200;
    u64 expected = 0;
    for (u64 i = 0; i < size + 8; ++i)
        m.put<u8>(GuestMachine::data + i, static_cast<u8>(i * 7 + (i >> 8)));
    for (u64 i = 0; i < size; i += 6)
        expected += m.get<u32>(GuestMachine::data + i) + u64 { m.get<u32>(GuestMachine::data + i + 4) };
    auto s = m.long_mode();
    s.gpr[rsi] = GuestMachine::data;
    s.gpr[rdi] = GuestMachine::data + (size + 5) / 6 * 6;
    s.gpr[rdx] = rounds;
    // O: mov rbx,rsi; L: mov ecx,[rbx]; add rax,rcx; mov ecx,[rbx+4]; add rax,rcx; add rbx,6; cmp rbx,rdi; jne L; sub rdx,1; jne O
    auto const e = m.run(s, { 0x48, 0x89, 0xf3, 0x8b, 0x0b, 0x48, 0x01, 0xc8, 0x8b, 0x4b, 4, 0x48, 0x01, 0xc8, 0x48, 0x83, 0xc3, 6, 0x48, 0x39, 0xfb, 0x75, 0xec, 0x48, 0x83, 0xea, 1, 0x75, 0xe3 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], expected * rounds);
    expect_hot();
}

// The block keeps R13-R15 in the host's registers then.
TEST_F(HotCode, ComputesInR13ToR15)
{
    auto s = m.long_mode();
    s.gpr[rcx] = many;
    s.gpr[r13] = 5;
    // L: inc r13; lea r14,[r13+r13]; add r15,r14; sub rcx,1; jne L
    auto const e = m.run(s, { 0x49, 0xff, 0xc5, 0x4f, 0x8d, 0x74, 0x2d, 0, 0x4d, 0x01, 0xf7, 0x48, 0x83, 0xe9, 1, 0x75, 0xef });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[r13], many + 5);
    EXPECT_EQ(e.gpr[r14], 2 * (many + 5));
    EXPECT_EQ(e.gpr[r15], many * (many + 1) + 10 * many);
    expect_hot();
}

// An exception in the middle finds all registers where they belong.
TEST_F(HotCode, FaultsWithItsRegistersInPlace)
{
    constexpr u64 divisors = 10'000'000, dividend = 1'000'000'007;
    u64 expected = 0;
    for (u64 i = divisors; i != 0; --i)
        expected += dividend / i;
    auto s = m.long_mode();
    s.gpr[rsi] = 1;
    s.gpr[r13] = divisors;
    s.gpr[r14] = dividend;
    s.idtr = { 0, 0 };
    // L: mov rax,r14; xor edx,edx; div r13; add r15,rax; sub r13,1; test rsi,rsi; jne L
    auto const e = m.run(s, { 0x4c, 0x89, 0xf0, 0x31, 0xd2, 0x49, 0xf7, 0xf5, 0x49, 0x01, 0xc7, 0x49, 0x83, 0xed, 1, 0x48, 0x85, 0xf6, 0x75, 0xec });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    EXPECT_EQ(e.gpr[r13], 0u);
    EXPECT_EQ(e.gpr[r14], dividend);
    EXPECT_EQ(e.gpr[r15], expected);
    EXPECT_EQ(e.gpr[rax], dividend);
    expect_hot();
}

TEST_F(HotCode, PushesAndPops)
{
    auto s = m.long_mode();
    s.gpr[rcx] = many;
    s.gpr[rsi] = 77;
    // L: push rsi; push rdi; add rdi,1; pop rax; pop rdx; sub rcx,1; jne L
    auto const e = m.run(s, { 0x56, 0x57, 0x48, 0x83, 0xc7, 1, 0x58, 0x5a, 0x48, 0x83, 0xe9, 1, 0x75, 0xf2 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rsp], GuestMachine::stack_top);
    EXPECT_EQ(e.gpr[rdi], many);
    EXPECT_EQ(e.gpr[rax], many - 1);
    EXPECT_EQ(e.gpr[rdx], 77u);
    expect_hot();
}

// What a round reads may be in two pages. The carry goes from round to round.
TEST_F(HotCode, CarriesFlagsFromRoundToRound)
{
    constexpr u64 size = 64 * KiB, rounds = 4000, stride = 20;
    u64 expected = 0;
    for (u64 i = 0; i < size + 16; i += 8)
        m.put<u64>(GuestMachine::data + i, (i + 1) * 0x9e37'79b9'7f4a'7c15);
    for (u64 round = 0; round < rounds; ++round) {
        bool carry = false;
        for (u64 i = 0; i + stride <= size; i += stride) {
            u64 const value = m.get<u64>(GuestMachine::data + i);
            bool const first = __builtin_add_overflow(expected, value, &expected);
            carry = __builtin_add_overflow(expected, u64 { carry }, &expected) || first;
        }
    }
    auto s = m.long_mode();
    s.gpr[rdx] = rounds;
    // O: mov esi,data; mov ecx,count; clc; L: mov rbx,[rsi]; adc rax,rbx; lea rsi,[rsi+20]; dec rcx; jne L; sub rdx,1; jne O
    u64 const from = GuestMachine::data, count = size / stride;
    auto const byte = [](u64 value, unsigned n) { return static_cast<u8>(value >> 8 * n); };
    auto const e = m.run(s, { 0xbe, byte(from, 0), byte(from, 1), byte(from, 2), byte(from, 3), 0xb9, byte(count, 0), byte(count, 1), byte(count, 2), byte(count, 3), 0xf8, 0x48, 0x8b, 0x1e, 0x48, 0x11, 0xd8, 0x48, 0x8d, 0x76, stride, 0x48, 0xff, 0xc9, 0x75, 0xf1, 0x48, 0x83, 0xea, 1, 0x75, 0xe0 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], expected);
    expect_hot();
}

// Its exit is in the middle of a round: before it flags count, behind it they do not.
TEST_F(HotCode, LeavesALoopInTheMiddleOfARound)
{
    constexpr u64 size = 64 * KiB, rounds = 4000, stride = 20;
    u64 expected = 0;
    for (u64 i = 0; i < size + 16; i += 8)
        m.put<u64>(GuestMachine::data + i, (i + 1) * 0x9e37'79b9'7f4a'7c15);
    for (u64 i = 0; i < size; i += stride)
        expected += m.get<u64>(GuestMachine::data + i);
    auto s = m.long_mode();
    s.gpr[rdx] = rounds;
    s.gpr[rsi] = GuestMachine::data;
    s.gpr[rdi] = size;
    // O: mov rcx,rdi; mov rbx,rsi; L: sub rcx,20; jc X; mov rbp,[rbx]; add rax,rbp; lea rbx,[rbx+20]; jmp L; X: add rax,[rbx]; sub rdx,1; jne O
    auto const e = m.run(s, { 0x48, 0x89, 0xf9, 0x48, 0x89, 0xf3, 0x48, 0x83, 0xe9, stride, 0x72, 0x0c, 0x48, 0x8b, 0x2b, 0x48, 0x01, 0xe8, 0x48, 0x8d, 0x5b, stride, 0xeb, 0xee, 0x48, 0x03, 0x03, 0x48, 0x83, 0xea, 1, 0x75, 0xdf });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], expected * rounds);
    expect_hot();
}

// A store into the loop, when it has long been hot, takes effect at once.
TEST_F(HotCode, SeesItsCodeRewritten)
{
    auto s = m.long_mode();
    s.gpr[rcx] = many;
    s.gpr[rbx] = GuestMachine::code + 2; // the immediate of the first instruction
    s.gpr[rsi] = many / 2;
    // L: add eax,1; cmp rcx,rsi; jne N; mov byte [rbx],3; N: sub rcx,1; jne L
    auto const e = m.run(s, { 0x83, 0xc0, 1, 0x48, 0x39, 0xf1, 0x75, 3, 0xc6, 0x03, 3, 0x48, 0x83, 0xe9, 1, 0x75, 0xef });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], many / 2 + 1 + 3 * (many / 2 - 1));
    expect_hot();
}

// Jumps forwards and backwards, taken or not, with flags that are used where they lead.
TEST_F(HotCode, GoesOnBehindJumps)
{
    auto s = m.long_mode();
    s.gpr[rcx] = many;
    s.gpr[rdx] = 0;
    s.gpr[rdi] = many / 2;
    // jmp L; B: adc rdx,0; sub rcx,1; jne L; hlt; ud2; L: add r13,1; test r13b,7; jne A; add r14,3; A: cmp r13,rdi; jmp B
    auto const e = m.run(s, { 0xeb, 0x0d, 0x48, 0x83, 0xd2, 0, 0x48, 0x83, 0xe9, 1, 0x75, 3, 0xf4, 0x0f, 0x0b, 0x49, 0x83, 0xc5, 1, 0x41, 0xf6, 0xc5, 7, 0x75, 4, 0x49, 0x83, 0xc6, 3,
        0x49, 0x39, 0xfd, 0xeb, 0xe0 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[r13], many);
    EXPECT_EQ(e.gpr[r14], 3 * (many / 8));
    EXPECT_EQ(e.gpr[rdx], many / 2 - 1);
    expect_hot();
}

// What lies behind a jump, and was translated together with what lies before, is rewritten.
TEST_F(HotCode, SeesCodeBehindItsJumpsRewritten)
{
    auto s = m.long_mode();
    s.gpr[rcx] = many;
    s.gpr[rdx] = 0;
    s.gpr[rbx] = GuestMachine::code + 5; // ADC's immediate
    s.gpr[rsi] = many / 2;
    // jmp L; B: adc rdx,0; sub rcx,1; jne L; hlt; ud2; L: cmp rcx,rsi; jne N; mov byte [rbx],5; N: xor eax,eax; jmp B
    auto const e = m.run(s, { 0xeb, 0x0d, 0x48, 0x83, 0xd2, 0, 0x48, 0x83, 0xe9, 1, 0x75, 3, 0xf4, 0x0f, 0x0b, 0x48, 0x39, 0xf1, 0x75, 3, 0xc6, 0x03, 5, 0x31, 0xc0, 0xeb, 0xe7 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rdx], 5 * (many / 2));
    expect_hot();
}

} // namespace
} // namespace anyhyve::soft
