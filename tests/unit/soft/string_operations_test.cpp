// String instructions against a model that does one element after the other, with random sizes, overlaps and directions.
#include <algorithm>
#include <random>

#include "base/bits.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

enum class Operation : u8 { move = 0xa4, compare = 0xa6, store = 0xaa, load = 0xac, scan = 0xae };
enum class Repeat : u8 { none, repe, repne };

struct Case {
    Operation operation;
    unsigned width, address_size;
    Repeat repeat;
    bool down;
    u64 rax, rcx, rsi, rdi;
};

// What the registers and the flags must be, computed on a copy of the memory.
struct Model {
    std::vector<u8> bytes;
    u64 base;
    u64 rax, rcx, rsi, rdi, flags;

    u64 load(u64 address, unsigned width) const
    {
        u64 value = 0;
        std::copy_n(bytes.begin() + static_cast<i64>(address - base), width, reinterpret_cast<u8*>(&value));
        return value;
    }
    void store(u64 address, u64 value, unsigned width)
    {
        std::copy_n(reinterpret_cast<u8*>(&value), width, bytes.begin() + static_cast<i64>(address - base));
    }
    void compare(u64 a, u64 b, unsigned width)
    {
        u64 const mask = mask_of_bytes(width), sign = bit(width * 8 - 1);
        u64 const difference = (a - b) & mask;
        flags = 0;
        flags |= (a & mask) < (b & mask) ? rflags::cf : 0;
        flags |= __builtin_popcount(static_cast<u8>(difference)) % 2 == 0 ? rflags::pf : 0;
        flags |= (a ^ b ^ difference) & 0x10 ? rflags::af : 0;
        flags |= difference == 0 ? rflags::zf : 0;
        flags |= difference & sign ? rflags::sf : 0;
        flags |= (a ^ b) & (a ^ difference) & sign ? rflags::of : 0;
    }
    void run(Case const& c)
    {
        u64 const step = c.down ? 0 - u64 { c.width } : c.width;
        u64 const address_mask = mask_of_bytes(c.address_size), value_mask = mask_of_bytes(c.width);
        auto const advance = [&](u64& reg) { reg = (reg + step) & address_mask; };
        while (c.repeat == Repeat::none || rcx != 0) {
            switch (c.operation) {
            case Operation::move: store(rdi, load(rsi, c.width), c.width); advance(rsi); advance(rdi); break;
            case Operation::store: store(rdi, rax, c.width); advance(rdi); break;
            case Operation::load: {
                u64 const value = load(rsi, c.width);
                rax = c.width == 4 ? value : (rax & ~value_mask) | value;
                advance(rsi);
                break;
            }
            case Operation::compare: compare(load(rsi, c.width), load(rdi, c.width), c.width); advance(rsi); advance(rdi); break;
            case Operation::scan: compare(rax & value_mask, load(rdi, c.width), c.width); advance(rdi); break;
            }
            if (c.repeat == Repeat::none)
                break;
            --rcx;
            bool const comparing = c.operation == Operation::compare || c.operation == Operation::scan;
            if (comparing && ((flags & rflags::zf) != 0) != (c.repeat == Repeat::repe))
                break;
        }
    }
};

} // namespace

class StringOperations : public ExecuteMachine {
protected:
    std::mt19937_64 random { 12345 };
    static constexpr u64 window = 6 * 0x1000;

    std::vector<u8> encode(Case const& c)
    {
        std::vector<u8> bytes;
        if (c.address_size == 4)
            bytes.push_back(0x67);
        if (c.width == 2)
            bytes.push_back(0x66);
        if (c.repeat != Repeat::none)
            bytes.push_back(c.repeat == Repeat::repe ? 0xf3 : 0xf2);
        if (c.width == 8)
            bytes.push_back(0x48);
        bytes.push_back(static_cast<u8>(static_cast<u8>(c.operation) + (c.width == 1 ? 0 : 1)));
        return bytes;
    }
    // Few different values, so that comparisons run for a while.
    void fill()
    {
        for (u64 i = 0; i < window; ++i)
            *host(data + i) = random() % 100 == 0 ? static_cast<u8>(random()) : 0x41;
    }
    Case random_case()
    {
        static constexpr Operation operations[] = { Operation::move, Operation::compare, Operation::store, Operation::load, Operation::scan };
        Case c {};
        c.operation = operations[random() % 5];
        c.width = 1u << random() % 4;
        c.address_size = random() % 4 == 0 ? 4 : 8;
        c.repeat = static_cast<Repeat>(random() % 3);
        c.down = random() % 2;
        u64 const most = random() % 2 ? 16 : 0x1800 / c.width;
        c.rcx = random() % most;
        u64 const span = c.rcx * c.width;
        auto const place = [&] { return data + (c.down ? span : 0) + random() % (window - span - 16); };
        c.rsi = place();
        c.rdi = random() % 2 ? place() : std::clamp<u64>(c.rsi + random() % 128 - 64, data + (c.down ? span : 0), data + window - 16 - (c.down ? 0 : span));
        c.rax = random() % 2 ? 0x4141414141414141 : random();
        return c;
    }
    void set_registers(Case const& c)
    {
        cpu.gpr[rax] = c.rax;
        cpu.gpr[rcx] = c.rcx;
        cpu.gpr[rsi] = c.rsi;
        cpu.gpr[rdi] = c.rdi;
        cpu.rflags = rflags::fixed | (c.down ? rflags::df : 0);
    }
};

TEST_F(StringOperations, AgreeWithTheModel)
{
    for (unsigned round = 0; round < 20'000; ++round) {
        if (round % 16 == 0)
            fill();
        Case const c = random_case();
        Model model { std::vector<u8>(host(data), host(data) + window), data, c.rax, c.rcx, c.rsi, c.rdi, 0 };
        model.run(c);
        set_registers(c);
        ASSERT_EQ(execute(encode(c)), Outcome::next);
        ASSERT_EQ(cpu.gpr[rax], model.rax) << round;
        ASSERT_EQ(cpu.gpr[rcx], model.rcx) << round;
        ASSERT_EQ(cpu.gpr[rsi], model.rsi) << round;
        ASSERT_EQ(cpu.gpr[rdi], model.rdi) << round;
        ASSERT_EQ(cpu.rflags & rflags::arithmetic, model.flags) << round;
        ASSERT_TRUE(std::equal(model.bytes.begin(), model.bytes.end(), host(data))) << round;
    }
}

TEST_F(StringOperations, FaultLeavesAnInstructionToRestart)
{
    fill();
    for (bool const down : { false, true }) {
        // The page in the middle is missing.
        map_page(data + 0x2000, 0);
        Case c { Operation::move, 8, 8, Repeat::repe, down, 0, 0x300, data, data + 0x1804 };
        if (down) {
            c.rsi = data + 0x5ff0;
            c.rdi = data + 0x3800;
        }
        set_registers(c);
        expect_fault(execute(encode(c)), vector::page_fault);
        EXPECT_EQ(cpu.rip, code);
        u64 const done = 0x300 - cpu.gpr[rcx];
        EXPECT_EQ(done, down ? (0x800u + 8) / 8 : 0x7fcu / 8);
        EXPECT_EQ(cpu.gpr[rdi], down ? c.rdi - done * 8 : c.rdi + done * 8);
        EXPECT_EQ(cpu.gpr[rsi], down ? c.rsi - done * 8 : c.rsi + done * 8);
        map_page(data + 0x2000, (data + 0x2000) | 7);
        EXPECT_EQ(execute(encode(c)), Outcome::next);
        EXPECT_EQ(cpu.gpr[rcx], 0u);
    }
}

TEST_F(StringOperations, ReadOnlyDestination)
{
    map_page(data + 0x1000, (data + 0x1000) | page_present | page_user);
    Case const c { Operation::store, 1, 8, Repeat::repe, false, 0x55, 0x20, 0, data + 0xff0 };
    set_registers(c);
    expect_fault(execute(encode(c)), vector::page_fault);
    EXPECT_EQ(cpu.fault.address, data + 0x1000);
    EXPECT_EQ(cpu.gpr[rcx], 0x10u);
    EXPECT_EQ(get<u8>(data + 0xfff), 0x55);
}

TEST_F(StringOperations, PauseForInterruptsBetweenPages)
{
    Case const c { Operation::store, 8, 8, Repeat::repe, false, 0, 0x800, 0, data };
    set_registers(c);
    cpu.events = Cpu::event_interrupt;
    cpu.poll = 1;
    EXPECT_EQ(execute(encode(c)), Outcome::jump);
    EXPECT_EQ(cpu.rip, code);
    EXPECT_EQ(cpu.gpr[rcx], 0x600u);
    cpu.poll = 0;
    EXPECT_EQ(execute(encode(c)), Outcome::next);
    EXPECT_EQ(cpu.gpr[rdi], data + 0x4000);
}

// As when it has overwritten the hot block that it is in.
TEST_F(StringOperations, NobodyWaits)
{
    Case const c { Operation::store, 8, 8, Repeat::repe, false, 0, 0x800, 0, data };
    set_registers(c);
    cpu.poll = 1;
    EXPECT_EQ(execute(encode(c)), Outcome::next);
    EXPECT_EQ(cpu.gpr[rcx], 0u);
}

TEST_F(StringOperations, TrapFlagTakesOneIteration)
{
    Case const c { Operation::move, 1, 8, Repeat::repe, false, 0, 3, data, data + 0x100 };
    set_registers(c);
    cpu.rflags |= rflags::tf;
    EXPECT_EQ(execute(encode(c)), Outcome::jump);
    EXPECT_EQ(cpu.gpr[rcx], 2u);
    EXPECT_EQ(execute(encode(c)), Outcome::jump);
    EXPECT_EQ(execute(encode(c)), Outcome::next);
}

TEST_F(StringOperations, SixteenBitAddressesWrap)
{
    start_real();
    cpu.segment(Segment::es).base = cpu.segment(Segment::ds).base = data;
    cpu.gpr[rcx] = 0xffff'0010;
    cpu.gpr[rdi] = 0xabcd'fff8;
    cpu.gpr[rax] = 0x77;
    EXPECT_EQ(execute({ 0xf3, 0xaa }), Outcome::next);
    EXPECT_EQ(cpu.gpr[rcx], 0xffff'0000u);
    EXPECT_EQ(cpu.gpr[rdi], 0xabcd'0008u);
    EXPECT_EQ(get<u8>(data + 0xffff), 0x77);
    EXPECT_EQ(get<u8>(data + 7), 0x77);
    EXPECT_EQ(get<u8>(data + 8), 0);
    // A word at the very end does not wrap: it is beyond the limit.
    cpu.gpr[rcx] = 4;
    cpu.gpr[rdi] = 0xfffb;
    expect_fault(execute({ 0xf3, 0xab }), vector::general_protection);
    EXPECT_EQ(cpu.gpr[rcx] & 0xffff, 2u);
    EXPECT_EQ(cpu.gpr[rdi] & 0xffff, 0xffffu);
}

TEST_F(StringOperations, SegmentLimitInsideARun)
{
    start_protected();
    cpu.segment(Segment::es).limit = static_cast<u32>(data + 0x13);
    mmu->update_mode();
    cpu.gpr[rcx] = 0x10;
    cpu.gpr[rdi] = data;
    cpu.gpr[rax] = 0xaabbccdd;
    expect_gp(execute({ 0xf3, 0xab }));
    EXPECT_EQ(cpu.gpr[rcx], 0xbu);
    EXPECT_EQ(cpu.gpr[rdi], data + 0x14);
}

TEST_F(StringOperations, SourceSegmentOverride)
{
    cpu.segment(Segment::fs).base = data + 0x1000;
    put<u32>(data + 0x1010, 0x12345678);
    cpu.gpr[rsi] = 0x10;
    cpu.gpr[rdi] = data;
    EXPECT_EQ(execute({ 0x64, 0xa5 }), Outcome::next);
    EXPECT_EQ(get<u32>(data), 0x12345678u);
}

TEST_F(StringOperations, Ports)
{
    cpu.gpr[rdx] = 0x80;
    cpu.gpr[rcx] = 4;
    cpu.gpr[rdi] = data;
    EXPECT_EQ(execute({ 0xf3, 0x6c }), Outcome::next);
    EXPECT_EQ(get<u32>(data), 0x04030201u);
    cpu.gpr[rcx] = 2;
    cpu.gpr[rsi] = data;
    EXPECT_EQ(execute({ 0xf3, 0x66, 0x6f }), Outcome::next);
    EXPECT_EQ(port.written, (std::vector<u64> { 0x0201, 0x0403 }));
    // A destination that faults must not have read the port.
    map_page(data + 0x1000, 0);
    cpu.gpr[rcx] = 4;
    cpu.gpr[rdi] = data + 0xffe;
    expect_fault(execute({ 0xf3, 0x6c }), vector::page_fault);
    EXPECT_EQ(port.reads, 6u);
    EXPECT_EQ(cpu.gpr[rcx], 2u);
}

TEST_F(StringOperations, PortPermission)
{
    cpu.gpr[rdx] = 0x80;
    EXPECT_EQ(execute({ 0xec }), Outcome::next);
    EXPECT_EQ(cpu.gpr[rax], 1u);
    EXPECT_EQ(execute({ 0xe7, 0x84 }), Outcome::next);
    set_level(3);
    cpu.tr = { .selector = 0x28, .access = access::present | 11, .limit = 0x87, .base = task_state };
    put<u16>(task_state + 0x66, 0x68);
    put<u64>(task_state + 0x68 + 0x10, ~u64 { 1 }); // port 80h alone
    EXPECT_EQ(execute({ 0xec }), Outcome::next);
    expect_gp(execute({ 0x66, 0xed })); // and 81h
    cpu.gpr[rdx] = 0xf8;                // the second byte of the bitmap lies beyond the limit
    expect_gp(execute({ 0xec }));
    cpu.rflags |= rflags::iopl;
    EXPECT_EQ(execute({ 0xec }), Outcome::next);
}

} // namespace anyhyve::soft
