// A machine of one software vCPU and some RAM, for tests that run guest code: no devices but what the test adds.
#pragma once

#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/soft/engine.hpp"
#include "vmm/bus.hpp"
#include "vmm/clock.hpp"

namespace anyhyve::soft {

// A local APIC that never interrupts, unless the test says so.
class QuietInterrupts : public LocalInterrupts {
public:
    bool interrupt_pending() const override { return vector >= 0; }
    int acknowledge() override { return std::exchange(vector, -1); }
    u64 cr8() const override { return priority; }
    void set_cr8(u64 value) override { priority = value; }
    bool read_msr(u32, u64&) override { return false; }
    bool write_msr(u32, u64) override { return false; }
    void reset_by_init() override {}

    int vector = -1;
    u64 priority = 0;
};

// Samples come as signals, which ThreadSanitizer holds back while guest code runs: all code is hot from the start there.
#ifdef __SANITIZE_THREAD__
constexpr bool samples_come = false;
#else
constexpr bool samples_come = true;
#endif
#define SKIP_WITHOUT_SAMPLES()                                                                                        \
    if (!samples_come)                                                                                                \
    GTEST_SKIP() << "ThreadSanitizer holds samples back, and all code is hot"

class GuestMachine {
public:
    static constexpr u64 ram_size = 32 * MiB;
    static constexpr u64 code = 0x100000, data = 0x200000, stack_top = 0x300000, page_tables = 0x10000, gdt = 0x8000;

    explicit GuestMachine(EngineOptions const& options = {}, unsigned vcpu_count = 1)
    {
        int const file = memfd_create("guest", MFD_CLOEXEC);
        memory = GuestMemory::map_file(file, ram_size, "guest").release_value();
        close(file);
        clock = create_host_clock();
        engine = create_engine(*memory, options).release_value();
        vcpu = create_vcpu(interrupts, 0, vcpu_count);
    }

    // One of `count`.
    std::unique_ptr<Vcpu> create_vcpu(LocalInterrupts& local, unsigned id, unsigned count)
    {
        VcpuWires wires;
        wires.id = id;
        wires.memory = memory.get();
        wires.ports = &ports;
        wires.mmio = &mmio;
        wires.clock = clock.get();
        wires.interrupts = &local;
        wires.policy.vcpu_count = count;
        return engine->create_vcpu(wires).release_value();
    }

    // 64-bit code, ring 0, the first 1 GiB mapped one to one by 2 MiB pages (supervisor and user).
    CpuState long_mode()
    {
        using namespace x86;
        for (u64 i = 0; i < 512; ++i)
            put<u64>(page_tables + 0x2000 + i * 8, (i << 21) | 0x87);
        put<u64>(page_tables, (page_tables + 0x1000) | 7);
        put<u64>(page_tables + 0x1000, (page_tables + 0x2000) | 7);
        CpuState s = CpuState::after_reset(true);
        s.cr0 = cr0::pe | cr0::pg | cr0::ne | cr0::wp | cr0::mp | cr0::et;
        s.cr3 = page_tables;
        s.cr4 = cr4::pae | cr4::osfxsr | cr4::osxmmexcpt | cr4::osxsave;
        s.xcr0 = 7;
        s.efer = efer::lme | efer::lma | efer::nxe | efer::sce;
        flat_segments(s, access::long_mode);
        s.rip = code;
        s.gpr[rsp] = stack_top;
        return s;
    }
    // 32-bit code, ring 0, flat, no paging.
    CpuState protected_mode()
    {
        using namespace x86;
        CpuState s = CpuState::after_reset(true);
        s.cr0 = cr0::pe | cr0::ne | cr0::mp | cr0::et;
        s.cr4 = cr4::osfxsr | cr4::osxmmexcpt;
        flat_segments(s, access::big);
        s.rip = code;
        s.gpr[rsp] = stack_top;
        return s;
    }
    // 16-bit real mode at 0000:7c00.
    CpuState real_mode()
    {
        CpuState s = CpuState::after_reset(true);
        s.cr0 = 0x10;
        s.segments[1].selector = 0;
        s.segments[1].base = 0;
        s.rip = 0x7c00;
        s.gpr[x86::rsp] = 0x7000;
        return s;
    }

    void load(u64 address, std::vector<u8> const& bytes) { memory->write(Gpa(address), bytes.data(), bytes.size()); }
    template<typename T>
    void put(u64 address, T value) { memory->write(Gpa(address), &value, sizeof value); }
    template<typename T>
    T get(u64 address) const
    {
        T value {};
        memory->read(Gpa(address), &value, sizeof value);
        return value;
    }

    // Runs `bytes` (at the state's RIP) until HLT with interrupts off.
    CpuState run(CpuState const& start, std::vector<u8> bytes)
    {
        bytes.push_back(0xf4);
        load(start.segments[1].base + start.rip, bytes);
        vcpu->set_state(start);
        last_exit = vcpu->run();
        return vcpu->state();
    }

    std::unique_ptr<GuestMemory> memory;
    Bus ports { "ports" }, mmio { "mmio" };
    std::unique_ptr<Clock> clock;
    QuietInterrupts interrupts;
    std::unique_ptr<Engine> engine;
    std::unique_ptr<Vcpu> vcpu;
    RunExit last_exit = RunExit::failure;

private:
    static void flat_segments(CpuState& s, u32 code_size)
    {
        using namespace x86;
        constexpr u32 data_rights = access::present | access::non_system | access::writable | access::accessed | access::big | access::granular;
        for (auto& segment : s.segments)
            segment = { 0x10, data_rights, 0xffffffff, 0 };
        s.segments[1] = { 0x08, access::present | access::non_system | access::code | access::readable | access::accessed | access::granular | code_size, 0xffffffff, 0 };
    }
};

} // namespace anyhyve::soft
