// One local APIC: registers, priorities, local interrupts, timer, modes, state.
#include <chrono>
#include <random>
#include <thread>

#include "fake_processor.hpp"

namespace anyhyve {

using Reg = ApicRegister;

class LocalApicTest : public ::testing::Test {
protected:
    ApicBoard board { 1 };
    LocalApic& apic = *board.apics[0];
    FakeProcessor& processor = *board.processors[0];
    FakeClock& clock = board.clock;

    u32 get(Reg number) { return board.read(0, number); }
    void set(Reg number, u32 value) { board.write(0, number, value); }
    void request(u8 vector, TriggerMode trigger = TriggerMode::edge) { apic.accept(DeliveryMode::fixed, vector, trigger); }
    bool msr_is(u32 index, u64 expected)
    {
        u64 value = 0;
        return apic.read_msr(index, value) && value == expected;
    }
    bool readable(u32 index)
    {
        u64 value = 0;
        return apic.read_msr(index, value);
    }
};

TEST_F(LocalApicTest, AfterReset)
{
    EXPECT_TRUE(msr_is(0x1b, 0xfee00900));
    EXPECT_EQ(get(Reg::id), 0u);
    EXPECT_EQ(get(Reg::version), 0x01060014u);
    EXPECT_EQ(get(Reg::spurious_vector), 0xffu);
    EXPECT_EQ(get(Reg::destination_format), 0xffffffffu);
    for (Reg const entry : { Reg::lvt_cmci, Reg::lvt_timer, Reg::lvt_thermal, Reg::lvt_performance, Reg::lvt_lint0, Reg::lvt_lint1, Reg::lvt_error })
        EXPECT_EQ(get(entry), 0x10000u);
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_EQ(apic.acknowledge(), -1);
}

TEST_F(LocalApicTest, TakesNothingWhileSoftwareDisabled)
{
    request(0x40);
    EXPECT_FALSE(apic.interrupt_pending());
    set(Reg::lvt_timer, 0x40);
    EXPECT_EQ(get(Reg::lvt_timer), 0x10040u); // the mask cannot be cleared
    board.enable(0);
    request(0x40);
    EXPECT_TRUE(apic.interrupt_pending());
    set(Reg::spurious_vector, 0xff);
    EXPECT_TRUE(apic.interrupt_pending()); // what was accepted stays
    EXPECT_EQ(apic.acknowledge(), 0x40);
}

TEST_F(LocalApicTest, NestsByPriorityClass)
{
    board.enable(0);
    request(0x45);
    EXPECT_EQ(processor.signals, 1);
    EXPECT_EQ(get(static_cast<Reg>(0x22)), 1u << 5);
    EXPECT_EQ(apic.acknowledge(), 0x45);
    EXPECT_EQ(get(static_cast<Reg>(0x12)), 1u << 5);
    EXPECT_EQ(get(Reg::processor_priority), 0x40u);
    request(0x4f); // the same class: waits
    EXPECT_FALSE(apic.interrupt_pending());
    request(0x51);
    EXPECT_TRUE(apic.interrupt_pending());
    EXPECT_EQ(apic.acknowledge(), 0x51);
    EXPECT_FALSE(apic.interrupt_pending());
    board.eoi(0);
    EXPECT_FALSE(apic.interrupt_pending());
    board.eoi(0);
    EXPECT_TRUE(apic.interrupt_pending());
    EXPECT_EQ(apic.acknowledge(), 0x4f);
    board.eoi(0);
    EXPECT_EQ(get(Reg::processor_priority), 0u);
}

TEST_F(LocalApicTest, TaskPriorityHoldsInterruptsBack)
{
    board.enable(0);
    apic.set_cr8(4);
    EXPECT_EQ(get(Reg::task_priority), 0x40u);
    request(0x45);
    EXPECT_FALSE(apic.interrupt_pending());
    int const before = processor.signals;
    apic.set_cr8(3);
    EXPECT_GT(processor.signals, before);
    EXPECT_TRUE(apic.interrupt_pending());
    set(Reg::task_priority, 0x55);
    EXPECT_EQ(apic.cr8(), 5u);
    EXPECT_EQ(get(Reg::processor_priority), 0x55u);
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_EQ(apic.acknowledge(), -1);
}

TEST_F(LocalApicTest, IllegalVectorsAreErrors)
{
    board.enable(0);
    set(Reg::lvt_error, 0xfe);
    request(0x05);
    EXPECT_EQ(apic.acknowledge(), 0xfe);
    EXPECT_EQ(get(Reg::error_status), 0u);
    set(Reg::error_status, 0);
    EXPECT_EQ(get(Reg::error_status), 0x40u);
    set(Reg::error_status, 0);
    EXPECT_EQ(get(Reg::error_status), 0u);
    board.eoi(0);
    board.send_ipi(0, 0x0000f, 0);
    set(Reg::error_status, 0);
    EXPECT_EQ(get(Reg::error_status), 0x20u);
    (void)apic.read_page(0x3d0, 4);
    set(Reg::error_status, 0);
    EXPECT_EQ(get(Reg::error_status), 0x80u);
    set(Reg::lvt_error, 0x03); // illegal itself: must not recurse
    request(0x01);
    set(Reg::error_status, 0);
    EXPECT_EQ(get(Reg::error_status), 0x40u);
}

TEST_F(LocalApicTest, OneShotTimer)
{
    board.enable(0);
    set(Reg::divide_configuration, 0xb); // by 1
    set(Reg::lvt_timer, 0x30);
    set(Reg::initial_count, LocalApic::bus_frequency / 1000);
    clock.advance(500'000);
    EXPECT_NEAR(get(Reg::current_count), LocalApic::bus_frequency / 2000, 2);
    clock.advance(499'000);
    EXPECT_FALSE(apic.interrupt_pending());
    clock.advance(1'000);
    EXPECT_EQ(apic.acknowledge(), 0x30);
    EXPECT_EQ(get(Reg::current_count), 0u);
    clock.advance(1'000'000'000);
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_EQ(clock.armed(), 0u);
}

TEST_F(LocalApicTest, PeriodicTimerKeepsItsPhase)
{
    board.enable(0);
    set(Reg::divide_configuration, 0x3); // by 16
    set(Reg::lvt_timer, 0x20030);
    set(Reg::initial_count, LocalApic::bus_frequency / 16 / 100);
    unsigned ticks = 0;
    for (int i = 0; i < 10'000; ++i) {
        clock.advance(1'000'000);
        if (apic.interrupt_pending()) {
            EXPECT_EQ(apic.acknowledge(), 0x30);
            board.eoi(0);
            ++ticks;
        }
    }
    EXPECT_EQ(ticks, 1000u);
    set(Reg::initial_count, 0);
    EXPECT_EQ(clock.armed(), 0u);
}

TEST_F(LocalApicTest, AllDividers)
{
    board.enable(0);
    set(Reg::lvt_timer, 0x10030);
    unsigned const divisors[] = { 2, 4, 8, 16, 32, 64, 128, 1 };
    for (u32 code = 0; code < 8; ++code) {
        set(Reg::divide_configuration, (code & 3) | (code & 4) << 1);
        set(Reg::initial_count, 0xffffffff);
        clock.advance(1'000'000'000);
        EXPECT_NEAR(0xffffffffu - get(Reg::current_count), LocalApic::bus_frequency / divisors[code], 2);
    }
}

TEST_F(LocalApicTest, MaskedTimerIsSilentAndCheap)
{
    board.enable(0);
    set(Reg::lvt_timer, 0x30030); // periodic, masked
    set(Reg::initial_count, 1000);
    EXPECT_EQ(clock.armed(), 0u);
    clock.advance(1'000'000'000);
    set(Reg::lvt_timer, 0x20030);
    clock.advance(1'000);
    EXPECT_FALSE(apic.interrupt_pending()); // no backlog
    clock.advance(100'000);
    EXPECT_TRUE(apic.interrupt_pending());
}

TEST_F(LocalApicTest, TimerThatWasDueBeforeAChangeStillFires)
{
    board.enable(0);
    set(Reg::divide_configuration, 0xb);
    set(Reg::lvt_timer, 0x30);
    set(Reg::initial_count, 1000);
    clock.stall(1'000'000);
    set(Reg::lvt_timer, 0x31);
    EXPECT_EQ(apic.acknowledge(), 0x30);
}

TEST_F(LocalApicTest, TscDeadline)
{
    board.enable(0);
    EXPECT_TRUE(apic.write_msr(0x6e0, 1000)); // another mode: ignored
    EXPECT_TRUE(msr_is(0x6e0, 0));
    set(Reg::lvt_timer, 0x40030);
    EXPECT_TRUE(apic.write_msr(0x6e0, clock.tsc() + 2'000'000));
    EXPECT_TRUE(msr_is(0x6e0, clock.tsc() + 2'000'000));
    set(Reg::initial_count, 5);
    EXPECT_EQ(get(Reg::current_count), 0u);
    clock.advance(999'999);
    EXPECT_FALSE(apic.interrupt_pending());
    clock.advance(1);
    EXPECT_EQ(apic.acknowledge(), 0x30);
    EXPECT_TRUE(msr_is(0x6e0, 0));
    board.eoi(0);
    EXPECT_TRUE(apic.write_msr(0x6e0, 1)); // long past
    EXPECT_EQ(apic.acknowledge(), 0x30);
    board.eoi(0);
    EXPECT_TRUE(apic.write_msr(0x6e0, clock.tsc() + 100));
    EXPECT_TRUE(apic.write_msr(0x6e0, 0)); // disarms
    clock.advance(1'000'000);
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_TRUE(apic.write_msr(0x6e0, clock.tsc() + 100));
    set(Reg::lvt_timer, 0x30); // leaving the mode disarms
    clock.advance(1'000'000);
    EXPECT_FALSE(apic.interrupt_pending());
}

TEST_F(LocalApicTest, X2ApicRegisters)
{
    u64 const base = 0xfee00900;
    EXPECT_FALSE(readable(0x802));
    EXPECT_FALSE(apic.write_msr(0x80b, 0));
    ASSERT_TRUE(apic.write_msr(0x1b, base | 0x400));
    EXPECT_EQ(apic.read_page(0x20, 4), 0xffffffffu);
    EXPECT_TRUE(msr_is(0x802, 0));
    EXPECT_TRUE(msr_is(0x803, 0x01060014));
    EXPECT_TRUE(msr_is(0x80d, 1));
    for (u32 const index : { 0x800u, 0x801u, 0x804u, 0x809u, 0x80bu, 0x80cu, 0x80eu, 0x829u, 0x831u, 0x83au, 0x83fu, 0x840u, 0x8ffu })
        EXPECT_FALSE(readable(index)) << std::hex << index;
    for (u32 const index : { 0x802u, 0x803u, 0x80au, 0x80du, 0x80eu, 0x810u, 0x820u, 0x831u, 0x839u })
        EXPECT_FALSE(apic.write_msr(index, 0)) << std::hex << index;
    EXPECT_FALSE(apic.write_msr(0x808, 0x100));
    EXPECT_FALSE(apic.write_msr(0x80b, 1));
    EXPECT_FALSE(apic.write_msr(0x828, 1));
    EXPECT_FALSE(apic.write_msr(0x838, u64 { 1 } << 32));
    EXPECT_FALSE(apic.write_msr(0x832, 1 << 20));
    EXPECT_FALSE(apic.write_msr(0x83e, 4));
    EXPECT_FALSE(apic.write_msr(0x83f, 0x100));
    EXPECT_TRUE(apic.write_msr(0x80f, 0x1ff));
    EXPECT_TRUE(apic.write_msr(0x83f, 0x66)); // self IPI
    EXPECT_EQ(apic.acknowledge(), 0x66);
    EXPECT_TRUE(msr_is(0x813, 1u << 6));
    EXPECT_TRUE(apic.write_msr(0x80b, 0));
    EXPECT_TRUE(msr_is(0x813, 0));
    EXPECT_TRUE(apic.write_msr(0x830, 0x7'000000ff)); // nobody there
    EXPECT_TRUE(msr_is(0x830, 0x7'000000ff));
}

TEST_F(LocalApicTest, ModeTransitions)
{
    u64 const base = 0xfee00100;
    u64 const enable = 0x800, extended = 0x400;
    auto const to = [&](u64 flags) { return apic.write_msr(0x1b, base | flags); };
    EXPECT_FALSE(to(extended));
    EXPECT_TRUE(to(0));                  // disabled
    EXPECT_FALSE(to(enable | extended)); // not in one step
    EXPECT_TRUE(to(enable));
    EXPECT_TRUE(to(enable | extended));
    EXPECT_FALSE(to(enable));            // not back
    EXPECT_FALSE(to(extended));
    EXPECT_TRUE(to(0));
    EXPECT_TRUE(to(enable));
    EXPECT_FALSE(apic.write_msr(0x1b, base | enable | 1)); // reserved
    EXPECT_FALSE(apic.write_msr(0x1b, base | enable | u64 { 1 } << 52));
    EXPECT_FALSE(apic.write_msr(0x1b, 0xfed00000 | enable));
    EXPECT_TRUE(msr_is(0x1b, base | enable));
}

TEST(LocalApicPolicy, HiddenX2ApicCannotBeEnabled)
{
    ApicBoard board(1, LocalApic::X2Apic::hidden);
    EXPECT_FALSE(board.apics[0]->write_msr(0x1b, 0xfee00d00));
}

TEST_F(LocalApicTest, DisabledApicIsPassedThrough)
{
    ASSERT_TRUE(apic.write_msr(0x1b, 0xfee00100));
    EXPECT_EQ(apic.read_page(0x30, 4), 0xffffffffu);
    apic.set_local_interrupt(LocalInterruptPin::lint0, true);
    EXPECT_TRUE(apic.interrupt_pending());
    apic.set_local_interrupt(LocalInterruptPin::lint0, false);
    EXPECT_FALSE(apic.interrupt_pending());
    apic.set_local_interrupt(LocalInterruptPin::lint1, true);
    EXPECT_EQ(processor.nmis, 1);
    board.bus.deliver({ .destination = 0, .vector = 0x40 });
    EXPECT_FALSE(apic.interrupt_pending());
}

TEST_F(LocalApicTest, LocalPins)
{
    board.enable(0);
    set(Reg::lvt_lint1, 0x400); // NMI
    set(Reg::lvt_lint0, 0x0050); // fixed, edge
    board.bus.set_nmi_line(true);
    board.bus.set_nmi_line(false);
    EXPECT_EQ(processor.nmis, 1);
    board.bus.set_external_output(true);
    EXPECT_EQ(apic.acknowledge(), 0x50);
    board.eoi(0);
    EXPECT_FALSE(apic.interrupt_pending());
    board.bus.set_external_output(false);
    set(Reg::lvt_lint0, 0x8050); // fixed, level
    board.bus.set_external_output(true);
    EXPECT_EQ(get(Reg::lvt_lint0), 0xc050u);
    EXPECT_EQ(apic.acknowledge(), 0x50);
    EXPECT_FALSE(apic.interrupt_pending());
    board.eoi(0);
    EXPECT_EQ(apic.acknowledge(), 0x50); // still asserted
    board.bus.set_external_output(false);
    board.eoi(0);
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_EQ(get(Reg::lvt_lint0), 0x8050u);
}

TEST_F(LocalApicTest, OtherLocalInterrupts)
{
    board.enable(0);
    set(Reg::lvt_thermal, 0x60);
    set(Reg::lvt_performance, 0x400);
    set(Reg::lvt_cmci, 0x62);
    apic.trigger(LvtEntry::thermal);
    apic.trigger(LvtEntry::performance);
    apic.trigger(LvtEntry::cmci);
    EXPECT_EQ(processor.nmis, 1);
    EXPECT_EQ(apic.acknowledge(), 0x62);
    set(Reg::lvt_thermal, 0x10060);
    auto const statistics = apic.statistics();
    EXPECT_EQ(statistics[3].value, 1u);
    EXPECT_EQ(apic.statistics_name(), "vcpu0");
}

TEST_F(LocalApicTest, InitKeepsBaseAndForgetsTheRest)
{
    board.enable_x2apic(0);
    request(0x80);
    apic.reset_by_init();
    EXPECT_FALSE(apic.interrupt_pending());
    EXPECT_TRUE(msr_is(0x1b, 0xfee00d00));
    EXPECT_TRUE(msr_is(0x80f, 0xff));
    EXPECT_TRUE(msr_is(0x80d, 1));
    apic.reset();
    EXPECT_TRUE(msr_is(0x1b, 0xfee00900));
}

TEST_F(LocalApicTest, OnlyAlignedDoublewords)
{
    board.enable(0);
    apic.write_page(0x80, 1, 0x20);
    apic.write_page(0x84, 4, 0x20);
    EXPECT_EQ(get(Reg::task_priority), 0u);
    EXPECT_EQ(apic.read_page(0x32, 1), 0x06u);
    EXPECT_EQ(apic.read_page(0x34, 4), 0xffffffffu);
}

TEST_F(LocalApicTest, PageShowsTheCallersApic)
{
    ApicBoard two(2);
    LocalApicPage page { LocalApic::default_base };
    LocalApic::set_current(nullptr);
    EXPECT_EQ(page.read(0x20, 4), 0xffffffffu);
    std::thread([&] {
        LocalApic::set_current(two.apics[1].get());
        EXPECT_EQ(page.read(0x20, 4), 0x01000000u);
        page.write(0x80, 4, 0x30);
    }).join();
    EXPECT_EQ(page.read(0x20, 4), 0xffffffffu);
    EXPECT_EQ(two.apics[1]->cr8(), 3u);
    EXPECT_EQ(two.apics[0]->cr8(), 0u);
}

TEST_F(LocalApicTest, SoftwareChangesTheIdWhereThereIsNoX2Apic)
{
    ApicBoard two(2, LocalApic::X2Apic::hidden);
    two.enable_all();
    two.write(0, Reg::id, 0x05000000);
    two.write(1, Reg::id, 0x05000000);
    EXPECT_EQ(two.read(0, Reg::id), 0x05000000u);
    two.send_ipi(0, 0x51, 5);
    EXPECT_EQ(two.receivers(), 3u);
    two.send_ipi(0, 0x51, 0);
    EXPECT_EQ(two.receivers(), 0u);
    auto const state = saved(*two.apics[1]);
    two.apics[1]->reset();
    EXPECT_EQ(two.read(1, Reg::id), 0x01000000u);
    EXPECT_TRUE(restore_into(*two.apics[1], state));
    EXPECT_EQ(two.read(1, Reg::id), 0x05000000u);
    EXPECT_TRUE(two.apics[1]->write_msr(0x1b, 0xfee00000)); // off and on again
    EXPECT_TRUE(two.apics[1]->write_msr(0x1b, 0xfee00800));
    EXPECT_EQ(two.read(1, Reg::id), 0x01000000u);
    ApicBoard other(2);
    EXPECT_FALSE(restore_into(*other.apics[1], state));
    other.write(1, Reg::id, 0x05000000);
    EXPECT_EQ(other.read(1, Reg::id), 0x01000000u);
}

TEST_F(LocalApicTest, SoftwareMovesThePage)
{
    constexpr u64 elsewhere = 0xfed40000, enabled = 1 << 11, bootstrap = 1 << 8;
    Bus bus("memory");
    LocalApicPages pages(bus);
    ASSERT_TRUE(pages.provide(LocalApic::default_base));
    EXPECT_FALSE(apic.write_msr(0x1b, elsewhere | enabled | bootstrap)); // nobody to find room
    apic.set_pages(pages);
    LocalApic::set_current(&apic);
    EXPECT_TRUE(apic.write_msr(0x1b, elsewhere | enabled | bootstrap));
    u64 value = 0;
    EXPECT_TRUE(bus.read(elsewhere | 0x30, 4, value));
    EXPECT_EQ(value, get(Reg::version));
    EXPECT_TRUE(bus.read(LocalApic::default_base | 0x30, 4, value));
    EXPECT_EQ(value, 0xffffffffu);
    for (u64 const base : { u64 { 0x1000 }, u64 { 0x1'fee00000 }, u64 { 1 } << 46 })
        EXPECT_FALSE(apic.write_msr(0x1b, base | enabled | bootstrap)) << base;
    for (u64 page = 0; page < 20; ++page)
        static_cast<void>(apic.write_msr(0x1b, (0xd0000000 + page * 0x1000) | enabled | bootstrap));
    EXPECT_TRUE(apic.write_msr(0x1b, LocalApic::default_base | enabled | bootstrap));
    EXPECT_TRUE(bus.read(LocalApic::default_base | 0x30, 4, value));
    EXPECT_EQ(value, get(Reg::version));
    EXPECT_EQ(bus.statistics().size(), 8u); // a guest cannot fill the bus
    LocalApic::set_current(nullptr);
}

TEST_F(LocalApicTest, StateSurvives)
{
    board.enable(0);
    set(Reg::divide_configuration, 0xb);
    set(Reg::lvt_timer, 0x20030);
    set(Reg::initial_count, 1'000'000);
    set(Reg::lvt_lint1, 0x400);
    request(0x91, TriggerMode::level);
    apic.acknowledge();
    request(0x41);
    apic.set_cr8(2);
    clock.advance(3'000'000);
    auto const state = saved(apic);
    ApicBoard other(1);
    other.clock.advance(clock.now());
    ASSERT_TRUE(restore_into(*other.apics[0], state));
    EXPECT_EQ(saved(*other.apics[0]), state);
    other.eoi(0);
    EXPECT_EQ(other.apics[0]->acknowledge(), 0x41);
    other.eoi(0);
    other.clock.advance(10'000'000);
    EXPECT_EQ(other.apics[0]->acknowledge(), 0x30);
    expect_robust_restore(apic, state);
}

// The machine's own clock: its thread and the vCPU's meet in the timer. Nothing hangs, no interrupt is lost, none comes early.
TEST(LocalApicOnHostClock, DeadlinesFireOnce)
{
    auto const clock = create_host_clock();
    FakeProcessor processor;
    ApicBus bus;
    LocalApic apic(bus, 0, *clock, LocalApic::X2Apic::offered);
    apic.connect(processor);
    apic.write_page(0xf0, 4, 0x1ff);
    apic.write_page(0x320, 4, 0x40030);
    auto const give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    int taken = 0;
    for (int i = 0; i < 200; ++i) {
        u64 const deadline = clock->tsc() + clock->tsc_frequency() / 20'000 * static_cast<u64>(i % 4); // 0 .. 150 us ahead
        ASSERT_TRUE(apic.write_msr(0x6e0, deadline));
        if (i % 16 == 0) { // replaced before it fires, or just after
            ASSERT_TRUE(apic.write_msr(0x6e0, deadline + 1));
        }
        while (!apic.interrupt_pending() && std::chrono::steady_clock::now() < give_up)
            std::this_thread::yield();
        ASSERT_TRUE(apic.interrupt_pending());
        EXPECT_GE(clock->now(), clock->from_tsc(deadline));
        taken += apic.acknowledge() == 0x30;
        apic.write_page(0xb0, 4, 0);
        if (apic.interrupt_pending()) { // the replaced one had fired
            apic.acknowledge();
            apic.write_page(0xb0, 4, 0);
        }
    }
    EXPECT_EQ(taken, 200);
    apic.write_page(0x320, 4, 0x20030); // periodic, and destroyed while it runs
    apic.write_page(0x380, 4, 1000);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

TEST_F(LocalApicTest, SurvivesAnything)
{
    std::mt19937_64 random(4);
    for (int i = 0; i < 200'000; ++i) {
        u64 const value = random() % 2 ? random() : random() % 0x400;
        switch (random() % 8) {
        case 0: apic.write_page(random() % 0x1000, 1u << random() % 4, value); break;
        case 1: (void)apic.read_page(random() % 0x1000, 1u << random() % 4); break;
        case 2: set(static_cast<Reg>(random() % 64), static_cast<u32>(value)); break;
        case 3: (void)apic.write_msr(static_cast<u32>(0x800 + random() % 64), value); break;
        case 4: (void)readable(static_cast<u32>(0x800 + random() % 64)); break;
        case 5:
            (void)apic.write_msr(random() % 2 ? 0x6e0 : 0x1b, random() % 4 ? 0xfee00100 | (random() % 4 << 10) : value);
            break;
        case 6:
            (void)apic.acknowledge();
            board.eoi(0);
            break;
        default:
            board.bus.send_msi(0xfee00000 | (value & 0xfffff), static_cast<u32>(random()));
            board.bus.set_external_output(value & 1);
            clock.advance(random() % 100'000);
        }
        if (random() % 1000 == 0) {
            auto const state = saved(apic);
            ASSERT_TRUE(restore_into(apic, state));
            ASSERT_EQ(saved(apic), state);
        }
    }
}

} // namespace anyhyve
