// Operands that lie in RAM and in a device: while the device answers, another virtual CPU may run the code that they change.
#include <functional>
#include <thread>

#include "guest_machine.hpp"

namespace anyhyve::soft::testing {
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
    void write(u64, unsigned, u64) override {}

    std::function<void()> when_read;
};

class OddOperands : public GuestMachine, public ::testing::Test {
protected:
    static constexpr u64 page = ram_size - 0x1000, function = ram_size - 3;

    OddOperands() : GuestMachine({}, 2), other(create_vcpu(other_interrupts, 1, 2)) { EXPECT_TRUE(mmio.add(ram_size, 0x1000, device, "device").ok()); }

    // What the other virtual CPU gets from the function at the end of RAM.
    u64 call()
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
    load(function, { 0xb0, 1, 0xc3 }); // mov al,1; ret
    u64 before = 0;
    device.when_read = [&] { before = call(); };
    CpuState s = start;
    s.gpr[rbx] = page;
    // mov byte [rbx],0; xor dword [rbx+0xffe],3
    run(s, { 0xc6, 0x03, 0, 0x83, 0xb3, 0xfe, 0x0f, 0, 0, 3 });
    EXPECT_EQ(last_exit, RunExit::halted);
    EXPECT_EQ(get<u8>(function + 1), 2u);
    EXPECT_EQ(before, 1u);
    EXPECT_EQ(call(), 2u);
}

} // namespace
} // namespace anyhyve::soft::testing
