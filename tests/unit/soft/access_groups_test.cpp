// Accesses of hot loops that share a check: what leads to the host's memory must be their own page's, whatever stands between them.
#include "guest_machine.hpp"

namespace anyhyve::soft::testing {
namespace {

using namespace x86;

class AccessGroups : public ::testing::Test {
protected:
    GuestMachine m;
};

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

} // namespace
} // namespace anyhyve::soft::testing
