// Operands that lie in RAM and in a device: while the device answers, another virtual CPU may run the code that they change.
#include <functional>
#include <thread>

#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

class Device : public BusDevice {
public:
    u64 read(u64, unsigned) override
    {
        if (auto const once = std::exchange(when_read, nullptr))
            once();
        return 0;
    }
    void write(u64, unsigned, u64) override
    {
        if (auto const once = std::exchange(when_written, nullptr))
            once();
    }

    std::function<void()> when_read, when_written;
};

class OddOperands : public GuestMachine, public ::testing::Test {
protected:
    static constexpr u64 page = ram_size - 0x1000;

    OddOperands() : GuestMachine({}, 2), other(create_vcpu(other_interrupts, 1, 2)) { EXPECT_TRUE(mmio.add(ram_size, 0x1000, device, "device").ok()); }

    // What the other virtual CPU gets from a function.
    u64 call(u64 function)
    {
        CpuState s = start;
        s.rip = code + 0x100;
        s.gpr[rbx] = function;
        load(s.rip, { 0xff, 0xd3, 0xf4 }); // call rbx; hlt
        std::thread([&] {
            other->set_state(s);
            other->run();
        }).join();
        return other->state().gpr[rax] & 0xff;
    }

    CpuState const start = long_mode(); // writes the page tables, once
    QuietInterrupts other_interrupts;
    std::unique_ptr<Vcpu> other;
    Device device;
};

TEST_F(OddOperands, ChangeCodeThatRanMeanwhile)
{
    constexpr u64 function = ram_size - 3;
    load(function, { 0xb0, 1, 0xc3 }); // mov al,1; ret
    u64 before = 0;
    device.when_read = [&] { before = call(function); };
    CpuState s = start;
    s.gpr[rbx] = page;
    // mov byte [rbx],0; xor dword [rbx+0xffe],3
    run(s, { 0xc6, 0x03, 0, 0x83, 0xb3, 0xfe, 0x0f, 0, 0, 3 });
    EXPECT_EQ(last_exit, RunExit::halted);
    EXPECT_EQ(get<u8>(function + 1), 2u);
    EXPECT_EQ(before, 1u);
    EXPECT_EQ(call(function), 2u);
}

// SGDT, whose first bytes go to the device: pages of it and of RAM, side by side.
TEST_F(OddOperands, ChangeCodeThatTheDeviceCouldHaveRun)
{
    constexpr u64 linear = 0x4000'0000, directory = 0x20000, table = 0x21000;
    put<u64>(page_tables + 0x1000 + 8, directory | 7);
    put<u64>(directory, table | 7);
    put<u64>(table, ram_size | 7);
    put<u64>(table + 8, page | 7);
    load(page, { 0xb0, 1, 0xc3 }); // mov al,1; ret
    device.when_written = [&] { static_cast<void>(call(page)); };
    CpuState s = start;
    s.gpr[rbx] = linear + 0x1000;
    s.gdtr = { 0xc302b0, 0 }; // mov al,2; ret
    // mov byte [rbx+0x800],0; sgdt [rbx-2]
    run(s, { 0xc6, 0x83, 0, 8, 0, 0, 0, 0x0f, 0x01, 0x43, 0xfe });
    EXPECT_EQ(last_exit, RunExit::halted);
    EXPECT_EQ(get<u8>(page + 1), 2u);
    EXPECT_EQ(call(page), 2u);
}

} // namespace
} // namespace anyhyve::soft
