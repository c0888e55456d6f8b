// Several virtual CPUs of the software engine in one machine: started, interrupted, paused and stepped while the others run.
// Guest code is 16-bit code in real mode; local APICs are used through MSRs (x2APIC), which real mode has, too.
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "engine/soft/engine.hpp"
#include "machine/pc.hpp"

using namespace anyhyve;
using namespace anyhyve::machine;

namespace {

// Addresses in the guest. Code segments begin at 0, but for what a start-up message starts.
constexpr u16 boot_code = 0x7c00, started_code = 0x8000, vector_handler = 0x8100, nmi_handler = 0x8180, spurious_handler = 0x81c0;
constexpr u16 started = 0x9000, nmis = 0x9002, interrupts = 0x9004, done = 0x9010, spins = 0x9020, interrupts_of = 0x9100, stacks = 0xa100;
constexpr u8 vector = 0x40, spurious_vector = 0xff, startup_page = started_code >> 12;

// Bits of an x2APIC's interrupt command register (Intel SDM vol. 3A figure 10-28).
constexpr u32 to_lowest_priority = 1 << 8, to_nmi = 4 << 8, to_init = 5 << 8, to_startup = 6 << 8, logical = 1 << 11, level_assert = 1 << 14, all_but_self = 3 << 18;
constexpr u32 msr_apic_base = 0x1b, msr_id = 0x802, msr_eoi = 0x80b, msr_spurious = 0x80f, msr_command = 0x830;

class Code {
public:
    Code& bytes(std::initializer_list<int> values)
    {
        for (int const value : values)
            m_bytes.push_back(static_cast<u8>(value));
        return *this;
    }
    Code& imm16(u32 value) { return bytes({ static_cast<int>(value & 0xff), static_cast<int>(value >> 8 & 0xff) }); }
    Code& imm32(u32 value) { return imm16(value).imm16(value >> 16); }
    Code& write_msr(u32 index, u32 high, u32 low) { return bytes({ 0x66, 0xb9 }).imm32(index).bytes({ 0x66, 0xba }).imm32(high).bytes({ 0x66, 0xb8 }).imm32(low).bytes({ 0x0f, 0x30 }); }
    Code& read_msr(u32 index) { return bytes({ 0x66, 0xb9 }).imm32(index).bytes({ 0x0f, 0x32 }); }
    // again: pause; mov ax, [address]; cmp ax, value; jne again
    Code& wait_for(u16 address, u16 value) { return bytes({ 0xf3, 0x90, 0xa1 }).imm16(address).bytes({ 0x3d }).imm16(value).bytes({ 0x75, 0xf6 }); }
    Code& locked_increment(u16 address) { return bytes({ 0xf0, 0xff, 0x06 }).imm16(address); }
    Code& store(u16 address, u16 value) { return bytes({ 0xc7, 0x06 }).imm16(address).imm16(value); }
    Code& command(u32 destination, u32 low) { return write_msr(msr_command, destination, low); }

    std::vector<u8> const& get() const { return m_bytes; }

private:
    std::vector<u8> m_bytes;
};

class SmpTest : public testing::Test {
protected:
    static constexpr unsigned cpus = 4;

    SmpTest()
    {
        ConfigTree tree;
        for (auto const* setting : { "name=test", "memory.size=32M", "cpus=4", "x86.x2apic=true" })
            EXPECT_TRUE(tree.assign(setting).ok()) << setting;
        auto config = MachineConfig::read(tree);
        m_memory = GuestMemory::create_anonymous(config.value().memory_size).release_value();
        m_pc = Pc::build(config.value(), *m_memory, soft::create_engine(*m_memory).release_value(), { [](MachineEnd) {}, {} }).release_value();
        put_vector(vector, vector_handler);
        put_vector(2, nmi_handler);
        put_vector(spurious_vector, spurious_handler);
        // Counts in all and by virtual CPU, tells its local APIC, and returns.
        put(vector_handler, Code().read_msr(msr_id).bytes({ 0x89, 0xc6, 0xfe, 0x84 }).imm16(interrupts_of).locked_increment(interrupts).write_msr(msr_eoi, 0, 0).bytes({ 0xcf }));
        put(nmi_handler, Code().locked_increment(nmis).bytes({ 0xcf }));
        put(spurious_handler, Code().bytes({ 0xcf }));
        // Turns its local APIC on, takes a stack by its ID, says that it is there, and halts whenever nothing happens.
        put(started_code, Code().bytes({ 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0 })
                              .write_msr(msr_apic_base, 0, 0xfee00c00)
                              .write_msr(msr_spurious, 0, 0x100 | spurious_vector)
                              .read_msr(msr_id)
                              .bytes({ 0xc1, 0xe0, 0x08, 0x05 }).imm16(stacks)
                              .bytes({ 0x89, 0xc4 })
                              .locked_increment(started)
                              .bytes({ 0xfb, 0xf4, 0xeb, 0xfd }));
    }

    void put(u16 address, Code const& code) { m_memory->write(Gpa(address), code.get().data(), code.get().size()); }
    void put_vector(u8 number, u16 handler)
    {
        u32 const entry = handler;
        m_memory->write(Gpa(number * 4u), &entry, sizeof entry);
    }
    u16 word(u16 address) const
    {
        u16 value = 0;
        m_memory->read(Gpa(address), &value, sizeof value);
        return value;
    }
    u8 interrupts_at(unsigned cpu) const
    {
        u8 value = 0;
        m_memory->read(Gpa(interrupts_of + cpu), &value, sizeof value);
        return value;
    }
    bool wait_for(u16 address, u16 value) const
    {
        for (int i = 0; i < 20'000 && word(address) != value; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return word(address) == value;
    }
    // The bootstrap processor runs `code`; it turns its local APIC on first.
    void start(Code const& code)
    {
        put(boot_code, Code().write_msr(msr_apic_base, 0, 0xfee00d00).write_msr(msr_spurious, 0, 0x100 | spurious_vector).bytes({ 0xe9 }).imm16(0x7d00 - boot_code - 0x43));
        put(0x7d00, code);
        CpuState state = CpuState::after_reset(true);
        state.segments[1].selector = 0;
        state.segments[1].base = 0;
        state.rip = boot_code;
        state.gpr[x86::rsp] = boot_code;
        m_pc->set_cpu_state(0, state);
        m_pc->resume();
    }
    static Code start_others()
    {
        return Code().command(0, all_but_self | level_assert | to_init).command(0, all_but_self | level_assert | to_startup | startup_page).wait_for(started, cpus - 1);
    }

    std::unique_ptr<GuestMemory> m_memory;
    std::unique_ptr<Pc> m_pc;
};

TEST_F(SmpTest, MessagesGoWhereTheyAreSentTo)
{
    Code code = start_others();
    code.command(2, level_assert | vector).wait_for(interrupts, 1);
    code.command(0x0000'000a, level_assert | logical | vector).wait_for(interrupts, 3); // cluster 0, members 1 and 3
    code.command(0, all_but_self | level_assert | vector).wait_for(interrupts, 6);
    code.command(0x0000'000e, level_assert | logical | to_lowest_priority | vector).wait_for(interrupts, 7);
    code.command(0, all_but_self | level_assert | to_nmi).wait_for(nmis, cpus - 1);
    code.store(done, 1).bytes({ 0xf4 });
    start(code);
    ASSERT_TRUE(wait_for(done, 1)) << "started " << word(started) << ", interrupts " << word(interrupts) << ", NMIs " << word(nmis);
    EXPECT_EQ(interrupts_at(0), 0);
    unsigned sum = 0;
    for (unsigned cpu = 1; cpu < cpus; ++cpu) {
        EXPECT_GE(interrupts_at(cpu), 2) << cpu;
        sum += interrupts_at(cpu);
    }
    EXPECT_EQ(sum, 7u);
}

TEST_F(SmpTest, OneIsStartedAgain)
{
    Code code = start_others();
    for (u16 n = 0; n < 8; ++n)
        code.command(1, level_assert | to_init).command(1, level_assert | to_startup | startup_page).wait_for(started, static_cast<u16>(cpus + n));
    code.store(done, 1).bytes({ 0xf4 });
    start(code);
    EXPECT_TRUE(wait_for(done, 1)) << "started " << word(started);
}

// A start-up message means nothing to one that runs, and INIT alone stops one until it comes.
TEST_F(SmpTest, StartUpMessagesNeedAnInit)
{
    Code code = start_others();
    code.command(0, all_but_self | level_assert | to_startup | startup_page);
    code.command(2, level_assert | to_init);
    code.command(0, all_but_self | level_assert | vector).wait_for(interrupts, 2);
    code.command(2, level_assert | to_startup | startup_page).wait_for(started, cpus);
    code.store(done, 1).bytes({ 0xf4 });
    start(code);
    ASSERT_TRUE(wait_for(done, 1)) << "started " << word(started) << ", interrupts " << word(interrupts);
    EXPECT_EQ(word(started), cpus);
    EXPECT_EQ(interrupts_at(2), 0);
}

// All spin on PAUSE for each other: with fewer host CPUs this takes for ever unless they make room.
TEST_F(SmpTest, TakesTurns)
{
    constexpr u16 rounds = 200;
    // lock inc [spins]; again: pause; mov ax, [spins]; ... each waits until it is its turn: [spins] % 4 == its number.
    put(started_code, Code().bytes({ 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0 })
                          .write_msr(msr_apic_base, 0, 0xfee00c00)
                          .read_msr(msr_id)
                          .bytes({ 0x89, 0xc3 })                   // mov bx, ax
                          .locked_increment(started)
                          .bytes({ 0xf3, 0x90, 0xa1 }).imm16(spins) // again: pause; mov ax, [spins]
                          .bytes({ 0x83, 0xe0, 0x03, 0x39, 0xd8, 0x75, 0xf4, 0xff, 0x06 }).imm16(spins) // and ax, 3; cmp ax, bx; jne again; inc word [spins]
                          .bytes({ 0xeb, 0xee }));                  // jmp again
    Code code = start_others();
    code.bytes({ 0xbb }).imm16(0);
    code.bytes({ 0xf3, 0x90, 0xa1 }).imm16(spins).bytes({ 0x3d }).imm16(rounds).bytes({ 0x73, 0x0d, 0x83, 0xe0, 0x03, 0x39, 0xd8, 0x75, 0xef, 0xff, 0x06 }).imm16(spins).bytes({ 0xeb, 0xe9 });
    code.store(done, 1).bytes({ 0xf4 });
    start(code);
    EXPECT_TRUE(wait_for(done, 1)) << word(spins);
    EXPECT_GE(word(spins), rounds);
}

TEST_F(SmpTest, PausesAndResumesWhileAllRun)
{
    Code code = start_others();
    // again: all interrupt each other through the first one, which counts
    code.command(0, all_but_self | level_assert | vector).bytes({ 0xff, 0x06 }).imm16(spins);
    code.bytes({ 0xeb, -(20 + 4 + 2) });
    start(code);
    ASSERT_TRUE(wait_for(started, cpus - 1));
    for (int i = 0; i < 100; ++i) {
        m_pc->pause();
        u16 const before = word(spins), before_interrupts = word(interrupts);
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        EXPECT_EQ(word(spins), before);
        EXPECT_EQ(word(interrupts), before_interrupts);
        m_pc->resume();
        for (int wait = 0; wait < 20'000 && word(spins) == before; ++wait)
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        ASSERT_NE(word(spins), before) << i;
    }
}

// Each counts in a word of its own: inc word [spins + 2 * number]; jmp back. The bootstrap processor, too.
TEST_F(SmpTest, OneIsHeldAndSteppedWhileOthersRun)
{
    put(started_code, Code().bytes({ 0x31, 0xc0, 0x8e, 0xd8 }).write_msr(msr_apic_base, 0, 0xfee00c00).read_msr(msr_id)
                          .bytes({ 0x89, 0xc6, 0xd1, 0xe6 }).locked_increment(started) // mov si, ax; shl si, 1
                          .bytes({ 0xff, 0x84 }).imm16(spins).bytes({ 0xeb, 0xfa }));
    Code code = start_others();
    code.bytes({ 0xff, 0x06 }).imm16(spins).bytes({ 0xeb, 0xfa });
    start(code);
    ASSERT_TRUE(wait_for(started, cpus - 1));
    auto const count_of = [&](unsigned vcpu) { return word(static_cast<u16>(spins + 2 * vcpu)); };
    auto const goes_on = [&](unsigned vcpu) {
        u16 const before = count_of(vcpu);
        for (int wait = 0; wait < 20'000 && count_of(vcpu) == before; ++wait)
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        return count_of(vcpu) != before;
    };
    EXPECT_FALSE(m_pc->step(1).ok());
    for (unsigned vcpu = 0; vcpu < cpus; ++vcpu)
        ASSERT_TRUE(goes_on(vcpu)) << vcpu;
    for (unsigned round = 0; round < 5; ++round) {
        for (unsigned vcpu = 0; vcpu < cpus; ++vcpu) {
            m_pc->hold(vcpu);
            u16 const before = count_of(vcpu);
            for (unsigned other = 0; other < cpus; ++other)
                EXPECT_TRUE(other == vcpu || goes_on(other)) << other;
            EXPECT_EQ(count_of(vcpu), before);
            for (int i = 0; i < 20; ++i) {
                u64 const rip = m_pc->cpu_state(vcpu).rip;
                ASSERT_TRUE(m_pc->step(vcpu).ok());
                EXPECT_NE(m_pc->cpu_state(vcpu).rip, rip);
            }
            EXPECT_EQ(static_cast<u16>(count_of(vcpu) - before), 10); // of two instructions each
            m_pc->pause();
            m_pc->resume();
            EXPECT_TRUE(m_pc->is_parked(vcpu));
            m_pc->release(vcpu);
            EXPECT_TRUE(goes_on(vcpu)) << vcpu;
        }
    }
}

// What has been sent to one that does not run is part of its state.
TEST_F(SmpTest, StartUpMessagesToOneThatIsHeldAreSaved)
{
    Code code = start_others();
    code.store(done, 1).wait_for(spins, 1).command(1, level_assert | to_init).command(1, level_assert | to_startup | startup_page);
    code.store(done, 2).bytes({ 0xf4 });
    start(code);
    ASSERT_TRUE(wait_for(done, 1)) << "started " << word(started);
    m_pc->hold(1);
    u16 const go = 1;
    m_memory->write(Gpa(spins), &go, sizeof go);
    ASSERT_TRUE(wait_for(done, 2));
    m_pc->pause();
    auto const saved = SavedState::decode(m_pc->save(MachineRecord::Kind::suspended), "test");
    ASSERT_TRUE(saved.ok());
    auto const state = saved.value().cpu_state(1);
    ASSERT_TRUE(state.ok());
    EXPECT_EQ(state.value().segments[1].base, started_code);
    EXPECT_EQ(state.value().rip, 0u);
    EXPECT_EQ(state.value().activity, Activity::running);
    m_pc->release(1);
    m_pc->resume();
    EXPECT_TRUE(wait_for(started, cpus)) << "started " << word(started);
}

TEST_F(SmpTest, AResetForgetsWhatWasSent)
{
    Code code = start_others();
    code.store(done, 1).wait_for(spins, 1).command(1, level_assert | to_nmi).command(1, level_assert | to_nmi);
    code.command(2, level_assert | to_init).command(2, level_assert | to_startup | startup_page).store(done, 2).bytes({ 0xf4 });
    start(code);
    ASSERT_TRUE(wait_for(done, 1)) << "started " << word(started);
    m_pc->hold(1);
    m_pc->hold(2);
    u16 const go = 1, none = 0;
    m_memory->write(Gpa(spins), &go, sizeof go);
    ASSERT_TRUE(wait_for(done, 2));
    m_pc->pause();
    m_pc->reset();
    for (u16 const counter : { started, nmis, done })
        m_memory->write(Gpa(counter), &none, sizeof none);
    m_pc->release(1);
    m_pc->release(2);
    EXPECT_FALSE(m_pc->cpu_state(1).nmi_pending);
    start(Code().command(3, level_assert | to_init).command(3, level_assert | to_startup | startup_page).wait_for(started, 1).command(1, level_assert | to_startup | startup_page)
              .wait_for(started, 2).store(done, 1).bytes({ 0xf4 }));
    ASSERT_TRUE(wait_for(done, 1)) << "started " << word(started);
    m_pc->pause();
    EXPECT_EQ(m_pc->cpu_state(2).activity, Activity::wait_for_sipi);
    EXPECT_EQ(word(started), 2u);
    EXPECT_EQ(word(nmis), 0u);
}

// CR8 is the upper half of the task priority: setting a state must not lose the lower one.
TEST_F(SmpTest, AStateThatIsSetLeavesTheTaskPriority)
{
    constexpr u32 msr_task_priority = 0x808;
    start(Code().write_msr(msr_task_priority, 0, 0x35).store(done, 1).bytes({ 0xeb, 0xfe }));
    ASSERT_TRUE(wait_for(done, 1));
    m_pc->pause();
    auto const saved = m_pc->save(MachineRecord::Kind::suspended);
    m_pc->set_cpu_state(0, m_pc->cpu_state(0));
    EXPECT_EQ(m_pc->save(MachineRecord::Kind::suspended), saved);
    auto const state = SavedState::decode(saved, "test");
    ASSERT_TRUE(state.ok());
    ASSERT_TRUE(m_pc->restore(state.value(), "test").ok());
    EXPECT_EQ(m_pc->save(MachineRecord::Kind::suspended), saved);
}

TEST_F(SmpTest, OneThatWaitsIsNotStepped)
{
    start(Code().store(done, 1).bytes({ 0xeb, 0xfe }));
    ASSERT_TRUE(wait_for(done, 1));
    m_pc->hold(1);
    EXPECT_FALSE(m_pc->step(1).ok());
    EXPECT_EQ(m_pc->cpu_state(1).activity, Activity::wait_for_sipi);
    m_pc->release(1);
}

} // namespace
