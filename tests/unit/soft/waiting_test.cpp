// Virtual CPUs that wait: PAUSE and HLT when there are more of them than host CPUs.
#include "engine/soft/crowd.hpp"
#include "engine/soft/halt_spin.hpp"

#include <chrono>
#include <thread>

#include "guest_machine.hpp"

namespace anyhyve::soft {

static cpu_set_t host_cpus(std::initializer_list<int> numbers)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int const number : numbers)
        CPU_SET(number, &set);
    return set;
}

TEST(Crowd, AGroupIsCrowdedWhenMoreAreBusyThanItHasHostCpus)
{
    Crowd crowd;
    Crowd::Group& group = crowd.join(host_cpus({ 0, 1 }));
    BusyScope const first(group), second(group);
    EXPECT_FALSE(group.is_crowded());
    {
        BusyScope const third(group);
        EXPECT_TRUE(group.is_crowded());
        {
            IdleScope const sleeps(group);
            EXPECT_FALSE(group.is_crowded());
        }
        EXPECT_TRUE(group.is_crowded());
    }
    EXPECT_FALSE(group.is_crowded());
}

TEST(Crowd, PinnedVirtualCpusCrowdOnlyThoseOfTheSameHostCpus)
{
    Crowd crowd;
    Crowd::Group& pinned = crowd.join(host_cpus({ 0 }));
    Crowd::Group& other = crowd.join(host_cpus({ 1 }));
    EXPECT_NE(&pinned, &other);
    EXPECT_EQ(&pinned, &crowd.join(host_cpus({ 0 })));
    BusyScope const first(pinned), second(pinned);
    EXPECT_TRUE(pinned.is_crowded());
    EXPECT_FALSE(other.is_crowded());
}

TEST(Crowd, TheCallersHostCpusMakeAGroup)
{
    Crowd crowd;
    EXPECT_EQ(&crowd.join(), &crowd.join());
    EXPECT_GE(crowd.join().count, 1u);
}

TEST(HaltSpin, GrowsWhereItWouldHaveSavedAWakeUp)
{
    HaltSpin spin;
    EXPECT_EQ(spin.nanoseconds(), 50'000u);
    spin.waited(20'000); // in time
    EXPECT_EQ(spin.nanoseconds(), 50'000u);
    spin.waited(120'000);
    EXPECT_EQ(spin.nanoseconds(), 100'000u);
    spin.waited(120'000);
    spin.waited(200'000);
    EXPECT_EQ(spin.nanoseconds(), HaltSpin::most);
}

TEST(HaltSpin, EndsWhereNothingComesForLong)
{
    HaltSpin spin;
    for (int i = 0; i < 3; ++i)
        spin.waited(4'000'000);
    EXPECT_EQ(spin.nanoseconds(), 0u);
    spin.waited(4'000'000);
    EXPECT_EQ(spin.nanoseconds(), 0u);
    spin.waited(60'000);
    EXPECT_EQ(spin.nanoseconds(), HaltSpin::least);
}

static u64 statistic(Vcpu const& vcpu, std::string_view name)
{
    for (auto const& row : vcpu.statistics())
        if (row.name == name)
            return row.value;
    ADD_FAILURE() << "no statistic " << name;
    return 0;
}

// HLT waits for an interrupt that is there, not for a signal that there may be one.
TEST(Halt, EndsOnlyByAnInterrupt)
{
    GuestMachine machine;
    CpuState const start = machine.long_mode();
    std::thread timer([&machine] {
        for (int i = 0; i < 20; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
            machine.vcpu->interrupt_pending(); // taken back before it was seen
        }
        machine.vcpu->kick();
    });
    // sti; hlt; mov byte [0x200000],1; cli
    CpuState const end = machine.run(start, { 0xfb, 0xf4, 0xc6, 0x04, 0x25, 0, 0, 0x20, 0, 1, 0xfa });
    timer.join();
    EXPECT_EQ(machine.last_exit, RunExit::kicked);
    EXPECT_EQ(end.activity, Activity::halted);
    EXPECT_EQ(machine.get<u8>(GuestMachine::data), 0u);
}

// mov ecx, 10000; again: pause; dec ecx; jnz again
TEST(Pause, GivesWayNowAndThenAndChangesNothing)
{
    GuestMachine machine;
    CpuState start = machine.long_mode();
    start.gpr[x86::rdx] = 5;
    start.rflags |= x86::rflags::cf;
    CpuState const end = machine.run(start, { 0xb9, 0x10, 0x27, 0, 0, 0xf3, 0x90, 0xff, 0xc9, 0x75, 0xfa });
    EXPECT_EQ(machine.last_exit, RunExit::halted);
    EXPECT_EQ(end.gpr[x86::rcx], 0u);
    EXPECT_EQ(end.gpr[x86::rdx], 5u);
    EXPECT_TRUE(end.rflags & x86::rflags::cf);
    u64 const yields = statistic(*machine.vcpu, "times PAUSE gave way to others");
    EXPECT_GE(yields, 2u);
    EXPECT_LT(yields, 1000u);
}

} // namespace anyhyve::soft
