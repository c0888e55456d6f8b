// MONITOR and MWAIT: what ends the wait, also of a virtual CPU that sleeps, and what they refuse.
#include <atomic>
#include <chrono>
#include <thread>

#include "engine/soft/monitor.hpp"
#include "execute_machine.hpp"
#include "guest_machine.hpp"

namespace anyhyve::soft {

class MonitorFaults : public ExecuteMachine { };

TEST_F(MonitorFaults, AreThoseOfALoadOfOneByte)
{
    cpu.gpr[x86::rcx] = 0;
    cpu.gpr[x86::rax] = data;
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xc8 }), Outcome::next);
    EXPECT_TRUE(cpu.monitor.armed);
    cpu.gpr[x86::rax] = u64 { 1 } << 50;
    expect_gp(execute({ 0x0f, 0x01, 0xc8 }));
    EXPECT_TRUE(cpu.monitor.armed);
}

TEST_F(MonitorFaults, ComeOfExtensionsAndOfRing3)
{
    cpu.gpr[x86::rax] = data;
    cpu.gpr[x86::rcx] = 1;
    expect_gp(execute({ 0x0f, 0x01, 0xc8 }));
    expect_gp(execute({ 0x0f, 0x01, 0xc9 }));
    cpu.gpr[x86::rcx] = 0;
    set_level(3);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xc8 }), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, x86::vector::invalid_opcode);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xc9 }), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, x86::vector::invalid_opcode);
}

namespace {

using namespace std::chrono_literals;
using Bytes = std::vector<u8>;

constexpr u64 line = GuestMachine::data, done = GuestMachine::data + 0x1000, other_code = 0x180000;

// mov eax, line; xor ecx, ecx; xor edx, edx; monitor
Bytes const monitor { 0xb8, 0, 0, 0x20, 0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xc8 };
Bytes const mwait { 0x0f, 0x01, 0xc9 };
// mov byte [done], 1
Bytes const say_done { 0xc6, 0x04, 0x25, 0, 0x10, 0x20, 0, 1 };

Bytes operator+(Bytes left, Bytes const& right)
{
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

// Two virtual CPUs: `vcpu` waits, `other` stores. A test that would wait for ever is ended by a kick.
class TwoCpus : public GuestMachine {
public:
    TwoCpus() : GuestMachine({}, 2), other(create_vcpu(other_interrupts, 1, 2)) {}

    // Runs `bytes` on the first one and, after `pause`, `act` on another thread.
    template<typename Act>
    CpuState run_while(Bytes const& bytes, std::chrono::milliseconds pause, Act act)
    {
        std::atomic<bool> over { false };
        std::thread beside([&] {
            std::this_thread::sleep_for(pause);
            act();
            for (int i = 0; i < 2000 && !over; ++i)
                std::this_thread::sleep_for(5ms);
            if (!over)
                vcpu->kick();
        });
        CpuState const end = run(start, bytes);
        over = true;
        beside.join();
        return end;
    }
    void run_other(Bytes bytes)
    {
        bytes.push_back(0xf4);
        load(other_code, bytes);
        CpuState at = start;
        at.rip = other_code;
        at.gpr[x86::rsp] = stack_top - 0x1000;
        other->set_state(at);
        EXPECT_EQ(other->run(), RunExit::halted);
    }
    bool is_done() const { return get<u8>(done) != 0; }
    u64 slow_stores() const
    {
        for (auto const& row : other->statistics())
            if (row.name == "slow accesses: store to a page with translated code")
                return row.value;
        return 0;
    }

    CpuState const start = long_mode(); // writes the page tables, once
    QuietInterrupts other_interrupts;
    std::unique_ptr<Vcpu> other;
};

TEST(Mwait, DoesNotWaitForWhatHasHappened)
{
    TwoCpus m;
    // mov byte [line + 63], 1
    m.run(m.long_mode(), monitor + Bytes { 0xc6, 0x04, 0x25, 63, 0, 0x20, 0, 1 } + mwait + say_done);
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_TRUE(m.is_done());
}

TEST(Mwait, DoesNotWaitWithoutMonitor)
{
    TwoCpus m;
    m.run(m.long_mode(), Bytes { 0x31, 0xc9 } + mwait + say_done); // xor ecx, ecx
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_TRUE(m.is_done());
}

// The one that stores has the page in its look-aside table, and stores beside the line all the time.
TEST(Mwait, EndsWhenAnotherStores)
{
    TwoCpus m;
    // again: monitor; cmp byte [line + 8], 0; jne over; mwait; jmp again; over: ...
    Bytes const waits = monitor + Bytes { 0x80, 0x3c, 0x25, 8, 0, 0x20, 0, 0, 0x75, 5 } + mwait + Bytes { 0xeb, 0xe5 } + say_done;
    for (auto const pause : { 0ms, 20ms }) {
        m.put<u64>(line + 8, 0);
        m.put<u64>(done, 0);
        // mov ecx, 1000000; again: mov [line + 64], ecx; dec ecx; jnz again; mov byte [line + 8], 1
        m.run_while(waits, pause, [&] { m.run_other({ 0xb9, 0x40, 0x42, 0x0f, 0, 0x89, 0x0c, 0x25, 64, 0, 0x20, 0, 0xff, 0xc9, 0x75, 0xf5, 0xc6, 0x04, 0x25, 8, 0, 0x20, 0, 1 }); });
        EXPECT_EQ(m.last_exit, RunExit::halted);
        EXPECT_TRUE(m.is_done());
    }
}

TEST(Mwait, EndsWhenAnotherStoresTheSameWhileItSleeps)
{
    TwoCpus m;
    m.run_while(monitor + mwait + say_done, 50ms, [&] { m.run_other({ 0xc6, 0x04, 0x25, 63, 0, 0x20, 0, 0 }); }); // mov byte [line + 63], 0
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_TRUE(m.is_done());
}

TEST(Mwait, EndsWhenADeviceStores)
{
    TwoCpus m;
    m.run_while(monitor + mwait + say_done, 50ms, [&] { m.memory->written(Gpa(line - 8), 16); });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_TRUE(m.is_done());
}

// The look-aside table leads to a window of the host then, not to where the page is in RAM (page_runs.hpp).
TEST(Mwait, EndsByAStoreToAPageOfARun)
{
    constexpr u64 linear = 0x4000'0000, page = 0x1000, pages = 16, directory = 0x20000, table = 0x21000, frames = 0x400000;
    TwoCpus m;
    auto const frame = [](u64 number) { return frames + (number * 7 + 3) % pages * 2 * page; };
    m.put<u64>(GuestMachine::page_tables + 0x1000 + 8, directory | 7);
    m.put<u64>(directory, table | 7);
    for (u64 i = 0; i < pages; ++i) {
        m.put<u64>(table + i * 8, frame(i) | 7);
        m.put<u64>(frame(i) + 8 * i, linear + (i + 5) % pages * page + 8 * ((i + 5) % pages));
    }
    // mov ebx, linear; mov ecx, 40000000; again: mov rbx,[rbx]; sub rcx,1; jne again
    Bytes const chase { 0xbb, 0, 0, 0, 0x40, 0xb9, 0, 0x5a, 0x62, 2, 0x48, 0x8b, 0x1b, 0x48, 0x83, 0xe9, 1, 0x75, 0xf7 };
    Bytes monitor_linear = monitor;
    monitor_linear[4] = 0x40, monitor_linear[3] = 0;
    u64 const first = frame(0);
    m.run_while(chase + monitor_linear + mwait + say_done, 50ms, [&] {
        for (int i = 0; i < 500 && !m.is_done(); ++i) {
            m.run_other({ 0xc6, 0x04, 0x25, 63, static_cast<u8>(first >> 8), static_cast<u8>(first >> 16), 0, 0 }); // mov byte [first + 63], 0
            std::this_thread::sleep_for(10ms);
        }
    });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_TRUE(m.is_done());
}

// A kick ends run(), and the wait with it: what goes on later is the code behind it.
TEST(Mwait, IsOverWhenRunEnds)
{
    TwoCpus m;
    CpuState const end = m.run_while(monitor + mwait + say_done, 20ms, [&] { m.vcpu->kick(); });
    EXPECT_EQ(m.last_exit, RunExit::kicked);
    EXPECT_EQ(end.activity, Activity::running);
    EXPECT_EQ(end.rip, GuestMachine::code + monitor.size() + mwait.size());
}

// MWAIT looks around for a while before the run loop hears of it: a kick that comes meanwhile is the first that the loop sees.
TEST(Mwait, IsOverWhenRunEndsBeforeItSleeps)
{
    TwoCpus m;
    for (int round = 0; round < 20; ++round) {
        m.put<u8>(done, 0);
        std::thread beside([&] {
            while (!m.is_done())
                __builtin_ia32_pause();
            m.vcpu->kick();
        });
        CpuState const end = m.run(m.start, monitor + say_done + mwait);
        beside.join();
        EXPECT_EQ(m.last_exit, RunExit::kicked);
        EXPECT_EQ(end.activity, Activity::running);
    }
}

TEST(Mwait, LeavesStoresFastAfterwards)
{
    TwoCpus m;
    m.run_while(monitor + mwait + say_done, 50ms, [&] { m.run_other({ 0xc6, 0x04, 0x25, 63, 0, 0x20, 0, 0 }); });
    EXPECT_TRUE(m.is_done());
    u64 const before = m.slow_stores();
    // mov ecx, 100000; again: mov [line + 64], ecx; dec ecx; jnz again
    m.run_other({ 0xb9, 0xa0, 0x86, 1, 0, 0x89, 0x0c, 0x25, 64, 0, 0x20, 0, 0xff, 0xc9, 0x75, 0xf5 });
    EXPECT_GT(m.slow_stores(), before);
    EXPECT_LT(m.slow_stores(), before + 1000);
}

TEST(Mwait, IsNotThereForASingleCpu)
{
    GuestMachine m;
    m.run(m.long_mode(), monitor); // #UD without an interrupt table
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
}

} // namespace
} // namespace anyhyve::soft
