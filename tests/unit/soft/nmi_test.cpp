// Non-maskable interrupts: how many of several that come at once are taken.
#include "guest_machine.hpp"

namespace anyhyve::soft {

class NonMaskable : public ::testing::Test {
protected:
    static constexpr u64 idt = 0x9000, handler = 0x110000;

    // Sends `count` NMIs to a processor that has not begun; what its handler counts.
    u32 taken(unsigned count)
    {
        machine.put<u64>(GuestMachine::gdt + 8, 0x00af9b000000ffff);
        machine.put<u64>(GuestMachine::gdt + 0x10, 0x00cf93000000ffff);
        machine.put<u64>(idt + 2 * 16, (handler & 0xffff) | 0x08 << 16 | u64 { 0x8e00 } << 32 | (handler >> 16) << 48);
        machine.put<u64>(idt + 2 * 16 + 8, 0);
        machine.put<u32>(GuestMachine::data, 0);
        machine.load(handler, { 0x41, 0xff, 0x07, 0x48, 0xcf }); // INC dword [R15], IRETQ
        CpuState start = machine.long_mode();
        start.gdtr = { GuestMachine::gdt, 0x17 };
        start.idtr = { idt, 0xfff };
        start.gpr[15] = GuestMachine::data;
        machine.load(start.rip, { 0x90, 0xf4 });
        machine.vcpu->set_state(start);
        for (unsigned i = 0; i < count; ++i)
            machine.vcpu->nmi();
        EXPECT_EQ(machine.vcpu->run(), RunExit::halted);
        return machine.get<u32>(GuestMachine::data);
    }

    GuestMachine machine;
};

TEST_F(NonMaskable, OneIsTakenAndOneRemembered)
{
    EXPECT_EQ(taken(1), 1u);
    EXPECT_EQ(taken(2), 2u);
    EXPECT_EQ(taken(5), 2u);
}

// Those that came before an INIT are forgotten with everything else: the code of a start-up message has no handler yet.
TEST_F(NonMaskable, InitForgetsThem)
{
    constexpr u64 vector = 0x500, nmi_handler = 0x600, nmi_entry = 2 * 4, invalid_opcode_entry = 6 * 4;
    machine.put<u32>(nmi_entry, nmi_handler);
    machine.put<u32>(invalid_opcode_entry, vector); // nothing is at the reset vector
    machine.load(vector, { 0xf4 });
    machine.load(nmi_handler, { 0xf4 });
    machine.vcpu->set_state(machine.long_mode());
    machine.vcpu->nmi();
    machine.vcpu->nmi();
    machine.vcpu->init();
    ASSERT_EQ(machine.vcpu->run(), RunExit::halted);
    CpuState const end = machine.vcpu->state();
    EXPECT_EQ(end.rip, vector + 1);
    EXPECT_FALSE(end.nmi_pending);
}

} // namespace anyhyve::soft
