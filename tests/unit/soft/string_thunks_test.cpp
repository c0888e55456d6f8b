// REP MOVS and REP STOS in translated code: what they leave in memory and in the registers, and that they are done without a call where they can be.
#include <algorithm>
#include <bit>
#include <random>
#include <thread>

#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

struct Case {
    bool moves;
    unsigned width, address_size;
    bool down;
    u64 rax, rcx, rsi, rdi;
};

class StringThunks : public ::testing::Test {
protected:
    static constexpr u64 linear = 0x4000'0000, page = 0x1000, pages = 8, window = pages * page;
    static constexpr u64 directory = 0x20000, table = 0x21000, frames = 0x400000;
    static constexpr u64 flags = 0x8d5 | rflags::fixed; // all arithmetic flags

    // Pages that are nobody's neighbours; the last one is the third once more.
    StringThunks()
    {
        start = m.long_mode();
        start.idtr = { 0, 0 };
        m.put<u64>(GuestMachine::page_tables + 0x1000 + 8, directory | 7);
        m.put<u64>(directory, table | 7);
        for (u64 i = 0; i < pages; ++i)
            m.put<u64>(table + i * 8, frame(i) | 7);
    }
    static u64 frame(u64 number) { return frames + (number == pages - 1 ? 2 : number * 5 % pages) * 2 * page; }
    u8* host(u64 address) { return m.memory->range(Gpa(frame((address - linear) / page) + address % page), 1); }

    static std::vector<u8> encode(Case const& c)
    {
        std::vector<u8> bytes { 0xf3 };
        if (c.address_size == 4)
            bytes.push_back(0x67);
        if (c.width == 2)
            bytes.push_back(0x66);
        if (c.width == 8)
            bytes.push_back(0x48);
        bytes.push_back(static_cast<u8>((c.moves ? 0xa4 : 0xaa) + (c.width == 1 ? 0 : 1)));
        return bytes;
    }
    // Stores to every page once, so that the look-aside table knows them, and takes the flags from the stack.
    CpuState run(Case const& c)
    {
        auto s = start;
        s.gpr[r8] = linear;
        s.gpr[r9] = pages;
        s.gpr[rax] = c.rax;
        s.gpr[rcx] = c.rcx;
        s.gpr[rsi] = c.rsi;
        s.gpr[rdi] = c.rdi;
        s.gpr[rbx] = 0x1234'5678'9abc'def0;
        m.put<u64>(GuestMachine::stack_top, flags | (c.down ? rflags::df : 0));
        // L: add byte [r8],0; add r8,1000h; dec r9; jnz L; popfq
        std::vector<u8> code { 0x41, 0x80, 0x00, 0x00, 0x49, 0x81, 0xc0, 0x00, 0x10, 0x00, 0x00, 0x49, 0xff, 0xc9, 0x75, 0xf0, 0x9d };
        auto const tested = encode(c);
        code.insert(code.end(), tested.begin(), tested.end());
        return m.run(s, code);
    }
    void model(Case const& c, u64 count)
    {
        for (u64 i = 0; i < count; ++i) {
            u64 value = c.rax;
            u64 const offset = c.down ? 0 - i * c.width : i * c.width;
            for (unsigned byte = 0; byte < c.width && c.moves; ++byte)
                reinterpret_cast<u8*>(&value)[byte] = *host(c.rsi + offset + byte);
            for (unsigned byte = 0; byte < c.width; ++byte)
                *host(c.rdi + offset + byte) = reinterpret_cast<u8*>(&value)[byte];
        }
    }
    std::vector<u8> contents()
    {
        std::vector<u8> bytes;
        for (u64 i = 0; i < pages; ++i)
            bytes.insert(bytes.end(), host(linear + i * page), host(linear + i * page) + page);
        return bytes;
    }
    void put_contents(std::vector<u8> const& bytes)
    {
        for (u64 i = 0; i < pages; ++i)
            std::copy_n(bytes.begin() + static_cast<i64>(i * page), page, host(linear + i * page));
    }
    // Memory and registers as if `count` elements were done.
    void expect_done(Case const& c, u64 count, CpuState const& end, std::vector<u8> const& before)
    {
        auto const found = contents();
        put_contents(before);
        model(c, count);
        ASSERT_TRUE(contents() == found);
        u64 const bytes = c.down ? 0 - count * c.width : count * c.width;
        EXPECT_EQ(end.gpr[rcx], c.rcx - count);
        EXPECT_EQ(end.gpr[rdi], c.rdi + bytes);
        EXPECT_EQ(end.gpr[rsi], c.moves ? c.rsi + bytes : c.rsi);
        EXPECT_EQ(end.gpr[rax], c.rax);
        EXPECT_EQ(end.gpr[rbx], 0x1234'5678'9abc'def0);
        EXPECT_EQ(end.rflags, flags | (c.down ? rflags::df : 0));
    }
    void check(Case const& c)
    {
        auto const before = contents();
        auto const end = run(c);
        ASSERT_EQ(m.last_exit, RunExit::halted);
        expect_done(c, c.rcx, end, before);
    }
    void fill()
    {
        for (u64 i = 0; i < window; ++i)
            *host(linear + i) = static_cast<u8>(random());
    }
    // Instructions for which a function of ours was called.
    u64 calls() const
    {
        for (auto const& one : m.vcpu->statistics()) {
            if (one.name == "instructions emulated")
                return one.value;
        }
        return 0;
    }
    // ... besides POPFQ and HLT.
    u64 calls_for(Case const& c)
    {
        u64 const before = calls();
        check(c);
        return calls() - before - 2;
    }

    GuestMachine m;
    CpuState start;
    std::mt19937_64 random { 4711 };
};

TEST_F(StringThunks, AgreeWithTheModel)
{
    fill();
    for (unsigned round = 0; round < 4000; ++round) {
        Case c {};
        c.moves = random() % 2;
        c.width = 1u << random() % 4;
        c.address_size = random() % 8 == 0 ? 4 : 8;
        c.down = random() % 8 == 0;
        c.rcx = random() % (random() % 2 ? 20 : 3 * page / c.width);
        u64 const span = c.rcx * c.width, below = c.down ? span : 0;
        auto const place = [&] { return (linear + below + random() % (window - span - 8)) & (random() % 4 ? 0 - u64 { c.width } : ~u64 { 0 }); };
        c.rsi = std::max(place(), linear + below);
        c.rdi = std::max(place(), linear + below);
        if (random() % 2)
            c.rdi = std::clamp(c.rsi + random() % 64 - 32, linear + below, linear + window - 8 - (c.down ? 0 : span));
        c.rax = random();
        check(c);
        ASSERT_FALSE(HasFailure()) << round;
    }
}

TEST_F(StringThunks, DoPagesWithoutACall)
{
    fill();
    for (unsigned const width : { 1u, 2u, 4u, 8u }) {
        for (bool const moves : { true, false }) {
            u64 const count = 2 * page / width;
            EXPECT_EQ(calls_for({ moves, width, 8, false, 0x55, count, linear + 0x118, linear + 3 * page + 0x230 }), 0u);
            EXPECT_EQ(calls_for({ moves, width, 8, false, 0x55, 0, linear, linear + page }), 0u);
            EXPECT_EQ(calls_for({ moves, width, 8, false, 0x55, 0, 0x2000'0000, 0x2100'0000 }), 0u);
            EXPECT_EQ(calls_for({ moves, width, 8, true, 0x55, 5, linear + 0x100, linear + page }), 1u);
            u64 const across_pages = width == 1 ? 0 : 1;
            EXPECT_EQ(calls_for({ moves, width, 8, false, 0x55, count, linear + 1, linear + 3 * page + 1 }), across_pages);
        }
    }
}

// Each element is read before the next one is written: what lies behind the source is repeated.
TEST_F(StringThunks, OverlappingElementsAreRepeated)
{
    fill();
    for (unsigned const width : { 1u, 2u, 4u, 8u }) {
        for (u64 distance = 1; distance <= width + 1; ++distance)
            check({ true, width, 8, false, 0, page / width, linear + 0x800, linear + 0x800 + distance });
        check({ true, width, 8, false, 0, page / 2 / width, linear + 2 * page, linear + 7 * page + width }); // the same page
    }
}

TEST_F(StringThunks, FaultsLieBehindTheLastElementDone)
{
    fill();
    for (unsigned const width : { 1u, 2u, 4u, 8u }) {
        for (bool const source : { false, true }) {
            for (bool const present : { false, true }) {
                u64 const entry = table + (source ? 2 : 5) * 8, kept = m.get<u64>(entry);
                if (source && present)
                    continue; // may be read
                Case const c { true, width, 8, false, 0, 2 * page / width, linear + page + 0x440, linear + 4 * page + 0x440 };
                auto s = start;
                s.gpr[rcx] = c.rcx;
                s.gpr[rsi] = c.rsi;
                s.gpr[rdi] = c.rdi;
                s.gpr[rax] = c.rax;
                s.gpr[rbx] = 0x1234'5678'9abc'def0;
                m.put<u64>(entry, present ? kept & ~u64 { 2 } : 0);
                auto const before = contents();
                m.put<u64>(GuestMachine::stack_top, flags);
                std::vector<u8> code { 0x80, 0x06, 0x00, 0x80, 0x07, 0x00, 0x9d }; // add byte [rsi],0; add byte [rdi],0; popfq
                auto const tested = encode(c);
                code.insert(code.end(), tested.begin(), tested.end());
                auto const end = m.run(s, code);
                EXPECT_EQ(m.last_exit, RunExit::triple_fault);
                EXPECT_EQ(end.rip, GuestMachine::code + 7);
                EXPECT_EQ(end.cr2, source ? linear + 2 * page : linear + 5 * page);
                expect_done(c, (page - 0x440) / width, end, before);
                m.put<u64>(entry, kept);
            }
        }
    }
}

// A page with translated code: it is changed, and so is what runs.
TEST_F(StringThunks, OverwriteCode)
{
    constexpr u64 routine = linear + 0x800;
    std::vector<u8> const first { 0xb8, 1, 0, 0, 0, 0xc3 }, second { 0xb8, 2, 0, 0, 0, 0xc3 };
    std::copy(first.begin(), first.end(), host(routine));
    std::copy(second.begin(), second.end(), host(linear + page));
    auto s = start;
    s.gpr[rbx] = routine;
    s.gpr[rdi] = routine;
    s.gpr[rsi] = linear + page;
    s.gpr[rcx] = second.size();
    // add byte [rsi],0; add byte [rdi],0; call rbx; mov edx,eax; rep movsb; call rbx
    auto const end = m.run(s, { 0x80, 0x06, 0x00, 0x80, 0x07, 0x00, 0xff, 0xd3, 0x89, 0xc2, 0xf3, 0xa4, 0xff, 0xd3 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(end.gpr[rdx], 1u);
    EXPECT_EQ(end.gpr[rax], 2u);
    EXPECT_EQ(end.gpr[rcx], 0u);
}

// Somebody wants the virtual CPU in the middle of a long one: it goes on where it was.
TEST_F(StringThunks, GiveWayBetweenPages)
{
    constexpr u64 bytes = 4 * MiB;
    auto s = start;
    s.gpr[r8] = 0x800000;
    s.gpr[r9] = bytes;
    // L: mov rdi,r8; mov rcx,r9; rep stosb; jmp L
    m.load(GuestMachine::code, { 0x4c, 0x89, 0xc7, 0x4c, 0x89, 0xc9, 0xf3, 0xaa, 0xeb, 0xf6 });
    m.vcpu->set_state(s);
    unsigned in_the_middle = 0;
    for (unsigned i = 0; i < 500 && in_the_middle < 5; ++i) {
        std::thread other([this] {
            std::this_thread::sleep_for(std::chrono::microseconds(500));
            m.vcpu->kick();
        });
        EXPECT_EQ(m.vcpu->run(), RunExit::kicked);
        other.join();
        auto const now = m.vcpu->state();
        if (now.rip != GuestMachine::code + 6)
            continue;
        EXPECT_EQ(now.gpr[rdi] - 0x800000 + now.gpr[rcx], bytes);
        in_the_middle += now.gpr[rcx] != 0 && now.gpr[rcx] != bytes;
    }
    EXPECT_EQ(in_the_middle, 5u);
}

// Offsets, limits and wrapping are other things there.
TEST_F(StringThunks, LeaveOtherCodeAlone)
{
    auto s = m.protected_mode();
    s.gpr[rcx] = 0x100;
    s.gpr[rdi] = GuestMachine::data;
    s.gpr[rax] = 0x77;
    u64 const before = calls();
    // rep stosd; mov esi,200000h; mov ecx,40h; rep movsd
    auto const end = m.run(s, { 0xf3, 0xab, 0xbe, 0, 0, 0x20, 0, 0xb9, 0x40, 0, 0, 0, 0xf3, 0xa5 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(calls() - before, 3u);
    EXPECT_EQ(end.gpr[rdi], GuestMachine::data + 0x500);
    EXPECT_EQ(m.get<u32>(GuestMachine::data + 0x4fc), 0x77u);
}

// FS has a base.
TEST_F(StringThunks, MindTheBaseOfASegment)
{
    auto s = start;
    s.segments[4].base = linear; // FS
    s.gpr[rcx] = 4;
    s.gpr[rsi] = 0x10;
    s.gpr[rdi] = linear + page;
    for (unsigned i = 0; i < 4; ++i)
        *host(linear + 0x10 + i) = static_cast<u8>(i + 1);
    auto const end = m.run(s, { 0x80, 0x07, 0x00, 0xf3, 0x64, 0xa4 }); // add byte [rdi],0; rep movsb fs:
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(end.gpr[rsi], 0x14u);
    EXPECT_EQ(*host(linear + page + 3), 4);
}

} // namespace
} // namespace anyhyve::soft
