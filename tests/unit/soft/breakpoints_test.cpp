// Debug exceptions: instruction and data breakpoints, single steps, and what STI and MOV SS hold back.
#include "guest_machine.hpp"

#include "engine/soft/vendor.hpp"

namespace anyhyve::soft::testing {

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

    GuestMachine machine;
    CpuState start, end;
};

TEST_F(Breakpoints, an_instruction_is_reported_before_it_runs)
{
    start.dr[0] = GuestMachine::code + 1;
    start.dr7 = 0x402;
    auto const list = run({ 0x90, 0xff, 0xc3, 0x90 }); // NOP, INC EBX
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 1u);
    EXPECT_EQ(list[0].dr6, quiet | 1);
    EXPECT_EQ(end.gpr[x86::rbx], start.gpr[x86::rbx] + 1);
}

TEST_F(Breakpoints, a_write_is_reported_behind_its_instruction)
{
    watch(watched, 1, 3);
    start.gpr[14] = watched + 2;
    start.dr6 |= 1 << 14; // software's: stays
    auto const list = run({ 0x41, 0x8b, 0x06, 0x41, 0x89, 0x1e, 0x41, 0x89, 0x5e, 0x02, 0x41, 0x89, 0x5e, 0xf8 }); // a read, a write, two beside it
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 6u);
    EXPECT_EQ(list[0].dr6, quiet | 1 << 14 | 2);
}

TEST_F(Breakpoints, a_read_is_reported_too)
{
    watch(watched, 3, 0);
    auto const list = run({ 0x41, 0x8b, 0x46, 0xfd, 0x41, 0x8b, 0x46, 0xfc, 0x41, 0xff, 0x36, 0x58 }); // of its byte, of none, PUSH [R14], POP
    ASSERT_EQ(list.size(), 2u);
    EXPECT_EQ(list[0].rip, 4u);
    EXPECT_EQ(list[1].rip, 11u);
}

TEST_F(Breakpoints, a_repeated_store_stops_at_its_element)
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

TEST_F(Breakpoints, loading_ss_holds_them_back_for_an_instruction)
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

TEST_F(Breakpoints, loading_ss_hides_instructions_on_intel)
{
    start.dr[0] = GuestMachine::code + 3;
    start.dr7 = 0x402;
    machine.put<u16>(watched, 0x10);
    EXPECT_EQ(run({ 0x41, 0x8e, 0x16, 0x90, 0x90 }).size(), cpu_vendor() == Vendor::amd ? 1u : 0u);
}

TEST_F(Breakpoints, a_single_step_is_not_held_back_by_sti)
{
    start.rflags |= trap_flag;
    auto const list = run({ 0xfb, 0x90, 0xfa });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 1u);
    EXPECT_EQ(list[0].dr6, quiet | 1 << 14);
}

TEST_F(Breakpoints, a_single_step_ends_a_halt)
{
    start.rflags |= trap_flag;
    auto const list = run({ 0xf4, 0x90 });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 1u);
    EXPECT_EQ(end.rip, GuestMachine::code + 3);
}

TEST_F(Breakpoints, interrupts_come_between_sti_with_its_successor_and_cli)
{
    machine.interrupts.vector = 0x40;
    auto const list = run({ 0xfb, 0x90, 0xfa, 0x90 });
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].rip, 2u);
}

} // namespace anyhyve::soft::testing
