// A vCPU whose instructions are decoded from bytes and carried out by their execute functions, without translator or run loop.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <vector>

#include "engine/soft/code_cache.hpp"
#include "engine/soft/cpuid.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/operations.hpp"
#include "vmm/bus.hpp"
#include "vmm/clock.hpp"

namespace anyhyve::soft {

class ExecuteMachine : public testing::Test {
protected:
    static constexpr u64 ram_size = 4 * MiB, code = 0x100000, data = 0x200000, page_tables = 0x10000, task_state = 0x20000;
    static constexpr u64 page_present = 1, page_writable = 2, page_user = 4;

    // Keeps what it is told.
    class Interrupts : public LocalInterrupts {
    public:
        bool interrupt_pending() const override { return false; }
        int acknowledge() override { return -1; }
        u64 cr8() const override { return priority; }
        void set_cr8(u64 value) override { priority = value; }
        bool read_msr(u32 index, u64& value) override
        {
            value = index == x86::msr::tsc_deadline ? deadline : 0xfee00900;
            return index == x86::msr::tsc_deadline || index == x86::msr::apic_base;
        }
        bool write_msr(u32 index, u64 value) override
        {
            if (index == x86::msr::tsc_deadline)
                deadline = value;
            return index == x86::msr::tsc_deadline;
        }
        void reset_by_init() override {}

        u64 priority = 0, deadline = 0;
    };

    // A port that counts: reads give 1, 2, 3 ...; writes are remembered.
    class CountingPort : public BusDevice {
    public:
        u64 read(u64, unsigned) override { return ++reads; }
        void write(u64, unsigned, u64 value) override { written.push_back(value); }

        u64 reads = 0;
        std::vector<u64> written;
    };

    std::unique_ptr<GuestMemory> memory;
    std::unique_ptr<CodeCache> cache = CodeCache::create(*memory).release_value();
    std::unique_ptr<Clock> clock = create_host_clock();
    Bus ports { "ports" }, mmio { "memory" };
    Interrupts interrupts;
    CountingPort port;
    std::unique_ptr<Cpu> owner = std::make_unique<Cpu>();
    Cpu& cpu = *owner;
    std::unique_ptr<Mmu> mmu = std::make_unique<Mmu>(cpu, *cache);
    std::unique_ptr<Cpuid> cpuid;

    explicit ExecuteMachine(std::unique_ptr<GuestMemory> ram = GuestMemory::create_anonymous(ram_size).release_value())
        : memory(std::move(ram))
    {
        EXPECT_TRUE(ports.add(0x80, 8, port, "port").ok());
        cpu.wires.memory = memory.get();
        cpu.wires.ports = &ports;
        cpu.wires.mmio = &mmio;
        cpu.wires.clock = clock.get();
        cpu.wires.interrupts = &interrupts;
        cpu.clock_tsc_offset = clock->tsc_offset();
        cpu.mmu = mmu.get();
        cpuid = std::make_unique<Cpuid>(cpu.wires);
        cpu.cpuid = cpuid.get();
        start_long();
    }

    // 64-bit code at CPL 0; the first 2 MiB * 2 mapped one to one, by 4 KiB pages.
    void start_long()
    {
        using namespace x86;
        for (u64 i = 0; i < 1024; ++i)
            put<u64>(page_tables + 0x3000 + i * 8, (i << 12) | page_present | page_writable | page_user);
        put<u64>(page_tables + 0x2000, (page_tables + 0x3000) | 7);
        put<u64>(page_tables + 0x2008, (page_tables + 0x4000) | 7);
        put<u64>(page_tables + 0x1000, (page_tables + 0x2000) | 7);
        put<u64>(page_tables, (page_tables + 0x1000) | 7);
        cpu.cr0 = cr0::pe | cr0::pg | cr0::wp | cr0::et;
        cpu.cr3 = page_tables;
        cpu.cr4 = cr4::pae | cr4::osfxsr | cr4::osxsave;
        cpu.xcr0 = cpuid->supported_xcr0();
        cpu.efer = efer::lme | efer::lma;
        set_segments(access::long_mode, 0xffffffff);
        cpu.cpl = 0;
        mmu->update_mode();
    }
    // 32-bit flat code at CPL 0 without paging.
    void start_protected()
    {
        using namespace x86;
        cpu.cr0 = cr0::pe | cr0::et;
        cpu.cr4 = cr4::osfxsr | cr4::osxsave;
        cpu.efer = 0;
        set_segments(access::big, 0xffffffff);
        cpu.cpl = 0;
        mmu->flush_all();
        mmu->update_mode();
    }
    // 16-bit code in real mode.
    void start_real()
    {
        cpu.cr0 = x86::cr0::et;
        cpu.cr4 = 0;
        cpu.efer = 0;
        set_segments(0, 0xffff);
        cpu.cpl = 0;
        mmu->flush_all();
        mmu->update_mode();
    }
    void set_segments(u32 code_bits, u32 limit)
    {
        using namespace x86;
        constexpr u32 base_rights = access::present | access::non_system | access::accessed;
        for (auto& s : cpu.segments)
            s = { .selector = 0x10, .access = base_rights | access::writable | access::big, .limit = limit, .base = 0 };
        cpu.segment(Segment::cs) = { .selector = 8, .access = base_rights | access::code | access::readable | code_bits, .limit = limit, .base = 0 };
        cpu.rflags = rflags::fixed;
    }
    void set_level(u8 cpl)
    {
        cpu.cpl = cpl;
        mmu->update_mode();
    }
    // Changes what the linear page maps to (0: nothing).
    void map_page(u64 linear, u64 entry)
    {
        put<u64>(page_tables + 0x3000 + (linear >> 12) * 8, entry);
        mmu->flush_page(linear);
    }

    template<typename T>
    void put(u64 address, T value) { ASSERT_TRUE(memory->write_value(Gpa(address), value)); }
    template<typename T>
    T get(u64 address)
    {
        T value {};
        EXPECT_TRUE(memory->read_value(Gpa(address), value));
        return value;
    }
    u8* host(u64 address) { return memory->range(Gpa(address), 1); }

    x86::Instruction decoded(std::vector<u8> bytes)
    {
        auto const size = cpu.code64() ? x86::CodeSize::bits64 : cpu.segment(x86::Segment::cs).access & x86::access::big ? x86::CodeSize::bits32 : x86::CodeSize::bits16;
        x86::Instruction instruction;
        EXPECT_EQ(x86::decode(bytes.data(), static_cast<unsigned>(bytes.size()), size, instruction), x86::DecodeStatus::ok);
        EXPECT_EQ(instruction.length, bytes.size());
        cpu.rip = code;
        cpu.next_rip = code + instruction.length;
        return instruction;
    }
    // Carries one instruction out, once.
    Outcome execute(std::vector<u8> bytes)
    {
        auto const instruction = decoded(std::move(bytes));
        if (instruction.info->operation == x86::Operation::undefined)
            return raise_ud(cpu);
        Execute const function = execute_function(instruction.info->operation);
        if (function == nullptr) {
            ADD_FAILURE() << "no code for " << instruction.info->name;
            return Outcome::leave;
        }
        return function(cpu, instruction);
    }
    void expect_fault(Outcome outcome, u8 vector)
    {
        EXPECT_EQ(outcome, Outcome::fault);
        EXPECT_EQ(cpu.fault.vector, vector);
    }
    void expect_gp(Outcome outcome)
    {
        expect_fault(outcome, x86::vector::general_protection);
        EXPECT_TRUE(cpu.fault.has_error_code);
        EXPECT_EQ(cpu.fault.error_code, 0u);
    }
    void set_pair(u64 value) // EDX:EAX
    {
        cpu.gpr[x86::rax] = static_cast<u32>(value);
        cpu.gpr[x86::rdx] = value >> 32;
    }
    u64 pair() const { return cpu.gpr[x86::rdx] << 32 | static_cast<u32>(cpu.gpr[x86::rax]); }
};

} // namespace anyhyve::soft
