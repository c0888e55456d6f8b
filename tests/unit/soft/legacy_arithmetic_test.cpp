// BCD adjustment and the other instructions that 64-bit mode lacks, for every input, against the manual's pseudo-code.
#include "execute_machine.hpp"

namespace anyhyve::soft {

using namespace x86;

class LegacyArithmetic : public ExecuteMachine {
protected:
    LegacyArithmetic() { start_protected(); }

    // Calls `check(ax, cf, af)` for every AX, CF and AF after the instruction has run on it, and hashes what it left.
    template<typename Check>
    u32 for_every_input(std::vector<u8> bytes, Check check)
    {
        auto const instruction = decoded(std::move(bytes));
        Execute const function = execute_function(instruction.info->operation);
        u32 hash = 2166136261u; // FNV-1a
        for (u32 input = 0; input < 1u << 18; ++input) {
            u64 const ax = input & 0xffff;
            bool const cf = input & 0x10000, af = input & 0x20000;
            cpu.gpr[rax] = 0xdead0000 | ax;
            cpu.rflags = rflags::fixed | (cf ? rflags::cf : 0) | (af ? rflags::af : 0);
            EXPECT_EQ(function(cpu, instruction), Outcome::next);
            check(ax, cf, af);
            EXPECT_EQ(cpu.gpr[rax] >> 16, 0xdeadu);
            u32 const left = static_cast<u32>(cpu.gpr[rax] & 0xffff) | static_cast<u32>(cpu.rflags & 0x8d5) << 16;
            for (unsigned i = 0; i < 4; ++i)
                hash = (hash ^ (left >> (8 * i) & 0xff)) * 16777619u;
        }
        return hash;
    }
    bool flag(u64 which) const { return (cpu.rflags & which) != 0; }
    u64 ax() const { return cpu.gpr[rax] & 0xffff; }
    void expect_result_flags(u64 al)
    {
        ASSERT_EQ(flag(rflags::zf), (al & 0xff) == 0);
        ASSERT_EQ(flag(rflags::sf), (al & 0x80) != 0);
        ASSERT_EQ(flag(rflags::pf), __builtin_parity(static_cast<unsigned>(al & 0xff)) == 0);
    }
};

// The hashes are those of what a processor left in AX and all six flags, for all inputs in the same order.
TEST_F(LegacyArithmetic, AsciiAdjustAfterAddition)
{
    EXPECT_EQ(for_every_input({ 0x37 }, [this](u64 before, bool, bool af) {
        bool const adjust = (before & 15) > 9 || af;
        ASSERT_EQ(ax(), (adjust ? before + 0x106 : before) & 0xff0f);
        ASSERT_EQ(flag(rflags::cf), adjust);
        ASSERT_EQ(flag(rflags::af), adjust);
    }), 0x420ee445u);
}

TEST_F(LegacyArithmetic, AsciiAdjustAfterSubtraction)
{
    EXPECT_EQ(for_every_input({ 0x3f }, [this](u64 before, bool, bool af) {
        bool const adjust = (before & 15) > 9 || af;
        ASSERT_EQ(ax(), (adjust ? before - 0x106 : before) & 0xff0f);
        ASSERT_EQ(flag(rflags::cf), adjust);
        ASSERT_EQ(flag(rflags::af), adjust);
    }), 0x1487e685u);
}

TEST_F(LegacyArithmetic, DecimalAdjustAfterAddition)
{
    EXPECT_EQ(for_every_input({ 0x27 }, [this](u64 before, bool cf, bool af) {
        u64 al = before & 0xff;
        bool const low = (al & 15) > 9 || af, high = al > 0x99 || cf;
        al += (low ? 6 : 0) + (high ? 0x60 : 0);
        ASSERT_EQ(ax(), (before & 0xff00) | (al & 0xff));
        ASSERT_EQ(flag(rflags::af), low);
        ASSERT_EQ(flag(rflags::cf), high);
        expect_result_flags(al);
    }), 0xce1d75c5u);
}

TEST_F(LegacyArithmetic, DecimalAdjustAfterSubtraction)
{
    EXPECT_EQ(for_every_input({ 0x2f }, [this](u64 before, bool cf, bool af) {
        u64 al = before & 0xff;
        bool const low = (al & 15) > 9 || af, high = al > 0x99 || cf;
        bool const carry = high || (low && al < 6);
        al -= (low ? 6 : 0) + (high ? 0x60 : 0);
        ASSERT_EQ(ax(), (before & 0xff00) | (al & 0xff));
        ASSERT_EQ(flag(rflags::af), low);
        ASSERT_EQ(flag(rflags::cf), carry);
        expect_result_flags(al);
    }), 0x587137c5u);
}

TEST_F(LegacyArithmetic, AsciiAdjustMultiplicationAndDivision)
{
    auto const divided = [this](u64 base) {
        return [this, base](u64 before, bool, bool) {
            u64 const al = before & 0xff;
            ASSERT_EQ(ax(), al / base << 8 | al % base);
            expect_result_flags(al % base);
        };
    };
    auto const multiplied = [this](u64 base) {
        return [this, base](u64 before, bool, bool) {
            u64 const al = ((before & 0xff) + (before >> 8) * base) & 0xff;
            ASSERT_EQ(ax(), al);
            expect_result_flags(al);
        };
    };
    EXPECT_EQ(for_every_input({ 0xd4, 10 }, divided(10)), 0xdf8f1dc5u);
    EXPECT_EQ(for_every_input({ 0xd4, 7 }, divided(7)), 0xb496edc5u);
    EXPECT_EQ(for_every_input({ 0xd5, 10 }, multiplied(10)), 0x1d985bc5u);
    EXPECT_EQ(for_every_input({ 0xd5, 16 }, multiplied(16)), 0x810abdc5u);
    expect_fault(execute({ 0xd4, 0 }), vector::divide_error);
}

TEST_F(LegacyArithmetic, SetAlOnCarry)
{
    cpu.gpr[rax] = 0x1234;
    cpu.rflags |= rflags::cf;
    EXPECT_EQ(execute({ 0xd6 }), Outcome::next);
    EXPECT_EQ(ax(), 0x12ffu);
    cpu.rflags &= ~rflags::cf;
    EXPECT_EQ(execute({ 0xd6 }), Outcome::next);
    EXPECT_EQ(ax(), 0x1200u);
}

TEST_F(LegacyArithmetic, Bounds)
{
    put<i32>(data, -5);
    put<i32>(data + 4, 10);
    cpu.gpr[rbx] = data;
    for (i32 const index : { -5, 0, 10 }) {
        cpu.gpr[rax] = static_cast<u32>(index);
        EXPECT_EQ(execute({ 0x62, 0x03 }), Outcome::next) << index;
    }
    for (i32 const index : { -6, 11 }) {
        cpu.gpr[rax] = static_cast<u32>(index);
        expect_fault(execute({ 0x62, 0x03 }), vector::bound);
    }
}

TEST_F(LegacyArithmetic, TableLookUpAndExchange)
{
    put<u8>(data + 0x90, 0x5a);
    cpu.gpr[rbx] = data;
    cpu.gpr[rax] = 0x12345690;
    EXPECT_EQ(execute({ 0xd7 }), Outcome::next);
    EXPECT_EQ(cpu.gpr[rax], 0x1234565au);
    start_long();
    cpu.gpr[rax] = 0x1111'2222'3333'4444;
    cpu.gpr[r9] = 0x5555'6666'7777'8888;
    EXPECT_EQ(execute({ 0x41, 0x91 }), Outcome::next);
    EXPECT_EQ(cpu.gpr[rax], 0x7777'8888u);
    EXPECT_EQ(cpu.gpr[r9], 0x3333'4444u);
}

} // namespace anyhyve::soft
