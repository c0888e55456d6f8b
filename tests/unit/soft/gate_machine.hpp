// A vCPU with memory and hand-made descriptor tables, for tests of everything that goes through descriptors.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "engine/soft/code_cache.hpp"
#include "engine/soft/cpu.hpp"
#include "engine/soft/mmu.hpp"

namespace anyhyve::soft {

namespace map {
constexpr u64 page_tables = 0x1000, gdt = 0x10000, idt = 0x11000, ldt = 0x12000, tss = 0x13000, second_tss = 0x14000, code = 0x20000,
              stack0 = 0x30000, stack1 = 0x34000, stack3 = 0x38000, interrupt_stack = 0x3c000, data = 0x50000;
}

// Selectors that every test's GDT has.
namespace select {
constexpr u16 code0 = 0x08, data0 = 0x10, code3 = 0x18 | 3, data3 = 0x20 | 3, tss = 0x28 /* two entries */, code64 = 0x38, user64 = 0x40 | 3,
              ldt = 0x48 /* two entries */, conforming = 0x58, code1 = 0x60 | 1, data1 = 0x68 | 1, second_tss = 0x70, stack16 = 0x78, read_only = 0x80,
              absent = 0x88, code16 = 0x90, spare = 0xa0 /* two entries */, user16_stack = 0xb0 | 3;
constexpr u16 gdt_limit = 0xff;
}

// Access bytes.
namespace rights {
constexpr u8 code0 = 0x9a, data0 = 0x92, code1 = 0xba, data1 = 0xb2, code3 = 0xfa, data3 = 0xf2, conforming0 = 0x9e, read_only0 = 0x90, absent0 = 0x12,
             tss32 = 0x89, tss32_busy = 0x8b, tss16 = 0x81, ldt = 0x82, interrupt32 = 0x8e, trap32 = 0x8f, interrupt16 = 0x86, trap16 = 0x87, task_gate = 0x85,
             call32 = 0x8c, call16 = 0x84, user = 0x60;
constexpr u8 flat32 = 0xc, flat64 = 0xa, flat16 = 0x0; // G, D/B, L
}

constexpr u64 make_descriptor(u64 base, u32 limit, u8 access, u8 flags = 0)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | u64 { access } << 40 | u64 { limit >> 16 & 15 } << 48 | u64 { flags } << 52 | (base >> 24 & 0xff) << 56;
}
constexpr u64 make_gate(u16 selector, u32 offset, u8 access, u8 parameters = 0)
{
    return (offset & 0xffff) | u64 { selector } << 16 | u64 { parameters } << 32 | u64 { access } << 40 | u64 { offset >> 16 } << 48;
}

class GateMachine : public testing::Test {
protected:
    std::unique_ptr<GuestMemory> memory = GuestMemory::create_anonymous(4 * MiB).value();
    std::unique_ptr<CodeCache> cache = CodeCache::create(*memory).value();
    std::unique_ptr<Cpu> owner = std::make_unique<Cpu>();
    Cpu& cpu = *owner;
    std::unique_ptr<Mmu> mmu = std::make_unique<Mmu>(cpu, *cache);

    GateMachine()
    {
        cpu.wires.memory = memory.get();
        cpu.mmu = mmu.get();
        fill_gdt();
        start_real();
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
    void set_gdt(u16 selector, u64 low) { put(map::gdt + (selector & 0xfff8u), low); }
    void set_gate(u8 vector, u64 low) { put(map::idt + vector * 8u, low); }
    void set_gate64(u8 vector, u64 offset, u8 access, u8 stack = 0)
    {
        put(map::idt + vector * 16u, make_gate(select::code64, static_cast<u32>(offset), access, stack));
        put(map::idt + vector * 16u + 8, offset >> 32);
    }

    void fill_gdt()
    {
        using namespace rights;
        set_gdt(select::code0, make_descriptor(0, 0xfffff, code0, flat32));
        set_gdt(select::data0, make_descriptor(0, 0xfffff, data0, flat32));
        set_gdt(select::code3, make_descriptor(0, 0xfffff, code3, flat32));
        set_gdt(select::data3, make_descriptor(0, 0xfffff, data3, flat32));
        set_gdt(select::tss, make_descriptor(map::tss, 0xfff, tss32));
        set_gdt(select::code64, make_descriptor(0, 0, code0, flat64));
        set_gdt(select::user64, make_descriptor(0, 0, code3, flat64));
        set_gdt(select::ldt, make_descriptor(map::ldt, 0xff, ldt));
        set_gdt(select::conforming, make_descriptor(0, 0xfffff, conforming0, flat32));
        set_gdt(select::code1, make_descriptor(0, 0xfffff, code1, flat32));
        set_gdt(select::data1, make_descriptor(0, 0xfffff, data1, flat32));
        set_gdt(select::second_tss, make_descriptor(map::second_tss, 0x67, tss32));
        set_gdt(select::stack16, make_descriptor(map::data, 0xffff, data0, flat16));
        set_gdt(select::read_only, make_descriptor(0, 0xfffff, read_only0, flat32));
        set_gdt(select::absent, make_descriptor(0, 0xfffff, absent0, flat32));
        set_gdt(select::code16, make_descriptor(map::code, 0xffff, code0, flat16));
        set_gdt(select::user16_stack, make_descriptor(map::data, 0xffff, data3, flat16));
    }

    x86::SegmentRegister segment_of(u16 selector)
    {
        u64 const low = get<u64>(map::gdt + (selector & 0xfff8u));
        u32 const access = static_cast<u32>(low >> 40) & 0xf0ff;
        u32 const raw = static_cast<u32>((low & 0xffff) | (low >> 32 & 0xf0000));
        u64 const base = (low >> 16 & 0xffffff) | low >> 56 << 24;
        return { .selector = selector, .access = access | 1, .limit = access & x86::access::granular ? raw << 12 | 0xfff : raw, .base = base };
    }
    x86::SegmentRegister& segment(x86::Segment s) { return cpu.segment(s); }
    void set_segment(x86::Segment s, u16 selector) { cpu.segment(s) = segment_of(selector); }

    void start_real()
    {
        for (auto& s : cpu.segments)
            s = { .selector = 0, .access = 0x93, .limit = 0xffff, .base = 0 };
        cpu.idtr = { .base = 0, .limit = 0x3ff };
        cpu.gpr[x86::rsp] = 0x8000;
        cpu.rip = 0x100;
        cpu.next_rip = 0x102;
        mmu->update_mode();
    }
    // Protected mode without paging, running at ring `cpl` with flat 32-bit segments.
    void start_protected(u8 cpl)
    {
        cpu.cr0 = x86::cr0::pe;
        cpu.gdtr = { .base = map::gdt, .limit = select::gdt_limit };
        cpu.idtr = { .base = map::idt, .limit = 0x7ff };
        cpu.tr = { .selector = select::tss, .access = rights::tss32_busy, .limit = 0xfff, .base = map::tss };
        put<u8>(map::gdt + select::tss + 5, rights::tss32_busy);
        cpu.ldtr = { .selector = 0, .access = x86::access::unusable, .limit = 0, .base = 0 };
        put<u32>(map::tss + 4, map::stack0);
        put<u16>(map::tss + 8, select::data0);
        put<u32>(map::tss + 12, map::stack1);
        put<u16>(map::tss + 16, select::data1);
        set_level(cpl, cpl == 3 ? select::code3 : select::code0, cpl == 3 ? select::data3 : select::data0);
    }
    // Long mode with identity-mapped 2 MiB pages, user-accessible.
    void start_long(u8 cpl)
    {
        start_protected(cpl);
        put<u64>(map::page_tables, (map::page_tables + 0x1000) | 7);
        put<u64>(map::page_tables + 0x1000, (map::page_tables + 0x2000) | 7);
        put<u64>(map::page_tables + 0x2000, 0x87);
        put<u64>(map::page_tables + 0x2008, 0x200087);
        cpu.cr3 = map::page_tables;
        cpu.cr4 = x86::cr4::pae;
        cpu.cr0 = x86::cr0::pe | x86::cr0::pg | x86::cr0::wp;
        cpu.efer = x86::efer::lme | x86::efer::lma | x86::efer::sce | x86::efer::nxe;
        cpu.idtr.limit = 0xfff;
        put<u64>(map::tss + 4, map::stack0);
        put<u64>(map::tss + 12, map::stack1);
        put<u64>(map::tss + 0x24, map::interrupt_stack);
        set_level(cpl, cpl == 3 ? select::user64 : select::code64, cpl == 3 ? select::data3 : select::data0);
    }
    void set_level(u8 cpl, u16 code, u16 data)
    {
        cpu.cpl = cpl;
        set_segment(x86::Segment::cs, code);
        for (auto const s : { x86::Segment::ss, x86::Segment::ds, x86::Segment::es, x86::Segment::fs, x86::Segment::gs })
            set_segment(s, data);
        cpu.gpr[x86::rsp] = cpl == 3 ? map::stack3 : map::stack0;
        cpu.rip = map::code;
        cpu.next_rip = map::code + 2;
        mmu->update_mode();
    }
    // Virtual-8086 mode above a ring 0 monitor.
    void start_virtual_8086(u8 iopl)
    {
        start_protected(0);
        cpu.cpl = 3;
        cpu.rflags = x86::rflags::fixed | x86::rflags::vm | x86::rflags::interrupt | u64 { iopl } << 12;
        for (auto& s : cpu.segments)
            s = { .selector = 0x2000, .access = 0xf3, .limit = 0xffff, .base = 0x20000 };
        cpu.segment(x86::Segment::ss) = { .selector = 0x3000, .access = 0xf3, .limit = 0xffff, .base = 0x30000 };
        cpu.gpr[x86::rsp] = 0x1000;
        cpu.rip = 0x10;
        cpu.next_rip = 0x12;
        mmu->update_mode();
    }

    static x86::Instruction instruction(u8 operand_size)
    {
        x86::Instruction insn {};
        insn.operand_size = operand_size;
        insn.address_size = operand_size;
        insn.segment_override = x86::Segment::none;
        insn.segment = x86::Segment::ds;
        insn.base = insn.index = 0xff;
        insn.scale = 1;
        return insn;
    }
    // With a memory operand at DS:address.
    static x86::Instruction memory_instruction(u8 operand_size, u64 address)
    {
        x86::Instruction insn = instruction(operand_size);
        insn.has_modrm = insn.has_memory = true;
        insn.displacement = static_cast<i64>(address);
        return insn;
    }
    static x86::Instruction register_instruction(u8 operand_size, u8 rm, u8 reg = 0)
    {
        x86::Instruction insn = instruction(operand_size);
        insn.has_modrm = true;
        insn.mod = 3;
        insn.rm = rm;
        insn.reg = reg;
        return insn;
    }

    void expect_fault(Outcome outcome, u8 vector, u32 error_code)
    {
        EXPECT_EQ(outcome, Outcome::fault);
        EXPECT_EQ(cpu.fault.vector, vector);
        EXPECT_TRUE(cpu.fault.has_error_code);
        EXPECT_EQ(cpu.fault.error_code, error_code);
    }
};

} // namespace anyhyve::soft
