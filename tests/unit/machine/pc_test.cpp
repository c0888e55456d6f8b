// The machine on an engine that does what the test says.
#include "machine/pc.hpp"

#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "boot/memory_map.hpp"
#include "fake_engine.hpp"

using namespace anyhyve;
using namespace anyhyve::machine;
using testing::HasSubstr;

namespace {

class PcTest : public testing::Test {
protected:
    void build(std::vector<std::string> const& settings)
    {
        ConfigTree tree;
        for (auto const& setting : settings)
            ASSERT_TRUE(tree.assign(setting).ok()) << setting;
        auto config = MachineConfig::read(tree);
        ASSERT_TRUE(config.ok()) << config.error().message();
        m_memory = GuestMemory::create_anonymous(config.value().memory_size).release_value();
        auto pc = Pc::build(config.value(), *m_memory, std::make_unique<FakeEngine>(m_vcpus), { [this](MachineEnd end) { ended(std::move(end)); }, {} });
        m_built = pc.ok() ? "" : pc.error().message();
        if (pc.ok())
            m_pc = pc.release_value();
    }
    void build_standard()
    {
        build({ "name=test", "memory.size=64M", "cpus=2", "pci.0.0.0.device=hostbridge", "pci.0.31.0.device=lpc", "pci.0.3.0.device=virtio-rnd", "lpc.com1.path=none" });
        ASSERT_TRUE(m_pc) << m_built;
    }
    void ended(MachineEnd end)
    {
        std::lock_guard const lock(m_mutex);
        m_ends.push_back(std::move(end));
        m_changed.notify_all();
    }
    MachineEnd wait_for_end()
    {
        std::unique_lock lock(m_mutex);
        EXPECT_TRUE(m_changed.wait_for(lock, std::chrono::seconds(20), [this] { return !m_ends.empty(); }));
        if (m_ends.empty())
            return {};
        auto end = std::move(m_ends.front());
        m_ends.pop_front();
        return end;
    }
    u64 read_port(u16 port, unsigned width = 1)
    {
        u64 value = 0;
        m_vcpus[0]->wires().ports->read(port, width, value);
        return value;
    }
    void write_port(u16 port, u64 value, unsigned width = 1) { m_vcpus[0]->wires().ports->write(port, width, value); }

    std::mutex m_mutex;
    std::condition_variable m_changed;
    std::deque<MachineEnd> m_ends;
    std::vector<FakeVcpu*> m_vcpus;
    std::unique_ptr<GuestMemory> m_memory;
    std::string m_built;
    std::unique_ptr<Pc> m_pc;
};

TEST_F(PcTest, StartsPausedAtPowerOn)
{
    build_standard();
    EXPECT_TRUE(m_pc->is_paused());
    EXPECT_EQ(m_pc->cpu_state(0).activity, Activity::running);
    EXPECT_EQ(m_pc->cpu_state(1).activity, Activity::wait_for_sipi);
    EXPECT_EQ(m_vcpus[0]->runs(), 0u);
}

TEST_F(PcTest, DevicesAreWhereTheMapSays)
{
    build_standard();
    EXPECT_EQ(read_port(ports::com1 + 5), 0x60u);           // line status: transmitter empty
    write_port(ports::pci_config_address, 0x80000000, 4);
    EXPECT_EQ(read_port(ports::pci_config_data, 4), 0x12751275u);
    u64 version = 0;
    auto& mmio = *m_vcpus[0]->wires().mmio;
    EXPECT_TRUE(mmio.write(memory_map::ioapic, 4, 1));
    EXPECT_TRUE(mmio.read(memory_map::ioapic + 0x10, 4, version));
    EXPECT_EQ(version & 0xff00ff, 0x170000u | (version & 0xff)); // 24 pins
    u64 vendor = 0;
    EXPECT_TRUE(mmio.read(memory_map::pci_ecam + (3 << 15), 2, vendor));
    EXPECT_EQ(vendor, 0x1af4u);
}

TEST_F(PcTest, PausesAndResumes)
{
    build_standard();
    m_pc->resume();
    m_pc->pause();
    EXPECT_TRUE(m_pc->is_parked(0));
    EXPECT_TRUE(m_pc->is_parked(1));
    m_pc->resume();
    EXPECT_FALSE(m_pc->is_paused());
    m_pc->pause();
}

TEST_F(PcTest, TellsWhyAVirtualCpuStopped)
{
    build_standard();
    m_vcpus[1]->script(RunExit::failure);
    m_pc->resume();
    auto const end = wait_for_end();
    EXPECT_EQ(end.reason, RunExit::failure);
    EXPECT_EQ(end.text, "told to fail");
}

TEST_F(PcTest, TheResetPortStopsTheVirtualCpuThatWroteIt)
{
    build_standard();
    m_vcpus[0]->script(RunExit::kicked, [this](FakeVcpu&) { write_port(ports::reset_control, board::reset_value); });
    m_pc->resume();
    EXPECT_EQ(wait_for_end().reason, RunExit::reset);
}

TEST_F(PcTest, AcpiSleepPowersOff)
{
    build_standard();
    m_vcpus[0]->script(RunExit::kicked, [this](FakeVcpu&) { write_port(ports::pm1_control, board::sleep_type_s5 << 10 | 1 << 13, 2); });
    m_pc->resume();
    EXPECT_EQ(wait_for_end().reason, RunExit::power_off);
}

TEST_F(PcTest, TheDebugExitPowersOffWithAStatus)
{
    build({ "name=test", "memory.size=64M", "lpc.pc-testdev=true", "pci.0.3.0.device=virtio-rnd" });
    ASSERT_TRUE(m_pc) << m_built;
    write_port(ports::test_latch, 0x12);
    EXPECT_EQ(read_port(ports::test_latch), 0x12u);
    m_vcpus[0]->script(RunExit::kicked, [this](FakeVcpu&) { write_port(ports::debug_exit, 3, 4); });
    m_pc->resume();
    auto const end = wait_for_end();
    EXPECT_EQ(end.reason, RunExit::power_off);
    EXPECT_EQ(end.exit_status, 7);
}

TEST_F(PcTest, AnEndFromOutsideIsHeardAtOnce)
{
    build_standard();
    m_pc->end(RunExit::power_off);
    EXPECT_EQ(wait_for_end().reason, RunExit::power_off);
}

TEST_F(PcTest, AHaltedCpuIsWokenByANonMaskableInterrupt)
{
    build_standard();
    m_vcpus[0]->script(RunExit::halted);
    m_pc->resume();
    EXPECT_EQ(wait_for_end().reason, RunExit::halted);
    m_vcpus[0]->script(RunExit::triple_fault);
    m_pc->inject_nmi(0);
    EXPECT_EQ(wait_for_end().reason, RunExit::triple_fault);
    EXPECT_EQ(m_vcpus[0]->nmis(), 1u);
}

// What wakes it for nothing, such as an NMI in its NMI handler, comes as often as another one likes.
TEST_F(PcTest, AHaltIsToldOnceUntilSomebodyLooks)
{
    build_standard();
    m_vcpus[0]->script(RunExit::halted);
    m_pc->resume();
    EXPECT_EQ(wait_for_end().reason, RunExit::halted);
    auto const wake = [this] {
        unsigned const before = m_vcpus[0]->runs();
        m_vcpus[0]->script(RunExit::halted);
        m_pc->inject_nmi(0);
        for (int i = 0; i < 20'000 && (m_vcpus[0]->runs() == before || !m_pc->is_parked(0)); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    for (int i = 0; i < 20; ++i)
        wake();
    {
        std::lock_guard const lock(m_mutex);
        EXPECT_TRUE(m_ends.empty());
    }
    m_pc->pause();
    EXPECT_FALSE(m_pc->all_halted());
    m_pc->resume();
    wake();
    EXPECT_EQ(wait_for_end().reason, RunExit::halted);
    m_pc->pause();
    m_pc->reset();
    m_vcpus[0]->script(RunExit::halted);
    m_pc->resume();
    EXPECT_EQ(wait_for_end().reason, RunExit::halted);
}

TEST_F(PcTest, AllHaltedKnowsTheDifference)
{
    build_standard();
    EXPECT_FALSE(m_pc->all_halted());
    CpuState state = m_pc->cpu_state(0);
    state.activity = Activity::halted;
    m_pc->set_cpu_state(0, state);
    EXPECT_TRUE(m_pc->all_halted());
    state.rflags |= x86::rflags::interrupt;
    m_pc->set_cpu_state(0, state);
    EXPECT_FALSE(m_pc->all_halted());
}

TEST_F(PcTest, BootStateHasTablesAndVirtualWireMode)
{
    build_standard();
    CpuState state = CpuState::after_reset(true);
    state.rip = 0x1000;
    ASSERT_TRUE(m_pc->prepare_boot(state).ok());
    EXPECT_EQ(m_pc->cpu_state(0).rip, 0x1000u);
    char signature[9] = {};
    ASSERT_TRUE(m_memory->read(Gpa(memory_map::acpi_tables), signature, 8));
    EXPECT_STREQ(signature, "RSD PTR ");
    ASSERT_TRUE(m_memory->read(Gpa(memory_map::mp_table), signature, 4));
    EXPECT_EQ(std::string(signature, 4), "_MP_");
}

// Systems that use the 8259 take the edge/level registers as the firmware's word for which interrupts are PCI's (FreeBSD, OpenBSD).
TEST_F(PcTest, PciInterruptsAreLevelTriggeredAgainAfterAReset)
{
    build_standard();
    CpuState const state = CpuState::after_reset(true);
    ASSERT_TRUE(m_pc->prepare_boot(state).ok());
    u64 const master = read_port(ports::elcr), slave = read_port(ports::elcr + 1);
    EXPECT_NE(master | slave, 0u);
    EXPECT_TRUE(slave & 1 << (board::sci_irq - 8)); // ACPI's is, too
    write_port(ports::elcr, 0);
    write_port(ports::elcr + 1, 0);
    m_pc->reset();
    ASSERT_TRUE(m_pc->prepare_boot(state).ok());
    EXPECT_EQ(read_port(ports::elcr), master);
    EXPECT_EQ(read_port(ports::elcr + 1), slave);
}

TEST_F(PcTest, PartsHaveNamesOfTheirOwn)
{
    build_standard();
    auto const chunks = decode_chunks(m_pc->save(MachineRecord::Kind::suspended), "test");
    ASSERT_TRUE(chunks.ok());
    std::set<std::string> names;
    for (auto const& chunk : chunks.value())
        EXPECT_TRUE(names.insert(chunk.name).second) << chunk.name;
    EXPECT_TRUE(names.contains("vcpu1"));
    EXPECT_TRUE(names.contains("com1"));
    EXPECT_TRUE(names.contains("virtio-rnd@0:3:0"));
}

TEST_F(PcTest, WhatIsSavedIsRestored)
{
    build_standard();
    CpuState state = m_pc->cpu_state(1);
    state.gpr[3] = 0x1234;
    m_pc->set_cpu_state(1, state);
    write_port(ports::com1 + 7, 0x5a); // scratch
    auto const saved = m_pc->save(MachineRecord::Kind::suspended);
    m_pc->reset();
    EXPECT_EQ(m_pc->cpu_state(1).gpr[3], 0u);
    EXPECT_EQ(read_port(ports::com1 + 7), 0u);
    auto const decoded = SavedState::decode(saved, "test");
    ASSERT_TRUE(decoded.ok());
    auto const restored = m_pc->restore(decoded.value(), "test");
    ASSERT_TRUE(restored.ok()) << restored.error().message();
    EXPECT_EQ(m_pc->cpu_state(1).gpr[3], 0x1234u);
    EXPECT_EQ(read_port(ports::com1 + 7), 0x5au);
    EXPECT_EQ(m_pc->save(MachineRecord::Kind::suspended), saved);
}

TEST_F(PcTest, AForeignStateIsRefusedByName)
{
    build_standard();
    auto state = SavedState::decode(m_pc->save(MachineRecord::Kind::suspended), "file").release_value();
    state.replace({ "flux-capacitor", 1, {} });
    auto const restored = m_pc->restore(state, "file");
    ASSERT_FALSE(restored.ok());
    EXPECT_THAT(restored.error().message(), HasSubstr("flux-capacitor"));
}

TEST_F(PcTest, AStateOfAnotherMachineIsRefused)
{
    build({ "name=test", "memory.size=64M" });
    ASSERT_TRUE(m_pc) << m_built;
    auto const state = SavedState::decode(m_pc->save(MachineRecord::Kind::suspended), "file").release_value();
    m_pc.reset();
    m_vcpus.clear();
    build_standard();
    EXPECT_FALSE(m_pc->restore(state, "file").ok());
}

TEST_F(PcTest, ADeviceThatCannotBeMadeIsNamed)
{
    build({ "name=test", "memory.size=64M", "pci.0.4.0.device=virtio-blk", "pci.0.4.0.path=/none.img" });
    EXPECT_THAT(m_built, HasSubstr("pci slot 0:4:0"));
    EXPECT_THAT(m_built, HasSubstr("/none.img"));
}

TEST_F(PcTest, StrictPortsEndTheMachine)
{
    build({ "name=test", "memory.size=64M", "x86.strictio=true" });
    ASSERT_TRUE(m_pc) << m_built;
    m_vcpus[0]->script(RunExit::kicked, [this](FakeVcpu&) { write_port(0x1234, 1); });
    m_pc->resume();
    auto const end = wait_for_end();
    EXPECT_EQ(end.reason, RunExit::failure);
    EXPECT_THAT(end.text, HasSubstr("0x1234"));
}

TEST_F(PcTest, SixtyFourProcessorsFit)
{
    build({ "name=test", "memory.size=64M", "cpus=64" });
    ASSERT_TRUE(m_pc) << m_built;
    m_pc->resume();
    m_pc->pause();
    EXPECT_EQ(m_vcpus.size(), 64u);
}

} // namespace
