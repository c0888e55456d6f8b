// Protection keys: RDPKRU, WRPKRU, IA32_PKRS, what the walk and the look-aside tables make of them, and PKRU in XSAVE images.
#include "engine/soft/control_registers.hpp"
#include "engine/soft/host_vector_unit.hpp"
#include "engine/soft/model_specific_registers.hpp"
#include "execute_machine.hpp"
#include "guest_machine.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr u64 key_bits(u64 key) { return key << 59; }
constexpr u32 access_disabled(unsigned key) { return 1u << (2 * key); }
constexpr u32 write_disabled(unsigned key) { return 2u << (2 * key); }
constexpr u32 code_present = 1, code_write = 2, code_user = 4, code_fetch = 16, code_key = 32;

} // namespace

class ProtectionKeys : public ExecuteMachine {
protected:
    static constexpr u64 page = data, key_five = 5;

    void SetUp() override { set_cr4(cr4::pke | cr4::pks); }
    void set_cr4(u64 more)
    {
        cpu.gpr[rax] = cr4::pae | cr4::osfxsr | cr4::osxsave | more;
        ASSERT_EQ(execute({ 0x0f, 0x22, 0xe0 }), Outcome::jump);
    }
    void map_with_key(u64 rights, u64 key = key_five) { map_page(page, page | rights | key_bits(key)); }
    Outcome write_pkru(u32 value)
    {
        cpu.gpr[rax] = value;
        cpu.gpr[rcx] = cpu.gpr[rdx] = 0;
        return execute({ 0x0f, 0x01, 0xef });
    }
    Outcome read()
    {
        u64 value = 0;
        return mmu->read_value(page, value);
    }
    Outcome write() { return mmu->write_value<u64>(page, 1); }
    void expect_page_fault(Outcome outcome, u32 error_code)
    {
        expect_fault(outcome, vector::page_fault);
        EXPECT_EQ(cpu.fault.error_code, error_code);
        EXPECT_EQ(cpu.fault.address, page);
    }
};

TEST_F(ProtectionKeys, RdpkruAndWrpkru)
{
    EXPECT_EQ(write_pkru(0x55555554), Outcome::next);
    cpu.gpr[rax] = cpu.gpr[rdx] = ~u64 { 0 };
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xee }), Outcome::next);
    EXPECT_EQ(cpu.gpr[rax], 0x55555554u);
    EXPECT_EQ(cpu.gpr[rdx], 0u);
    cpu.gpr[rcx] = 1;
    expect_gp(execute({ 0x0f, 0x01, 0xee }));
    expect_gp(execute({ 0x0f, 0x01, 0xef }));
    cpu.gpr[rcx] = u64 { 1 } << 32; // ECX alone counts
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xee }), Outcome::next);
    cpu.gpr[rdx] = 1;
    expect_gp(execute({ 0x0f, 0x01, 0xef }));
    set_cr4(0);
    expect_fault(execute({ 0x0f, 0x01, 0xee }), vector::invalid_opcode);
    expect_fault(execute({ 0x0f, 0x01, 0xef }), vector::invalid_opcode);
    EXPECT_EQ(cpu.key_rights[user_pages].value, 0x55555554u);
}

TEST_F(ProtectionKeys, Pkrs)
{
    EXPECT_TRUE(write_msr(cpu, msr::pkrs, 0xc));
    u64 value = 0;
    EXPECT_TRUE(read_msr(cpu, msr::pkrs, value));
    EXPECT_EQ(value, 0xcu);
    EXPECT_FALSE(write_msr(cpu, msr::pkrs, u64 { 1 } << 32));
}

TEST_F(ProtectionKeys, UserPagesFollowPkru)
{
    map_with_key(7);
    for (u8 const level : { 0, 3 }) {
        set_level(level);
        u32 const user = level == 3 ? code_user : 0;
        EXPECT_EQ(write_pkru(0), Outcome::next);
        EXPECT_EQ(write(), Outcome::next);
        EXPECT_EQ(write_pkru(write_disabled(5)), Outcome::next);
        EXPECT_EQ(read(), Outcome::next);
        expect_page_fault(write(), code_present | code_write | code_key | user);
        EXPECT_EQ(write_pkru(access_disabled(5)), Outcome::next);
        expect_page_fault(read(), code_present | code_key | user);
        expect_page_fault(write(), code_present | code_write | code_key | user);
        EXPECT_EQ(write_pkru(access_disabled(6) | write_disabled(4)), Outcome::next);
        EXPECT_EQ(write(), Outcome::next);
    }
    EXPECT_TRUE(write_msr(cpu, msr::pkrs, ~u32 { 0 } << 2)); // is about supervisor pages
    EXPECT_EQ(write(), Outcome::next);
}

TEST_F(ProtectionKeys, SupervisorPagesFollowPkrs)
{
    map_with_key(3);
    EXPECT_EQ(write_pkru(~u32 { 0 } << 2), Outcome::next);
    EXPECT_EQ(write(), Outcome::next);
    EXPECT_TRUE(write_msr(cpu, msr::pkrs, write_disabled(5)));
    EXPECT_EQ(read(), Outcome::next);
    expect_page_fault(write(), code_present | code_write | code_key);
    EXPECT_TRUE(write_msr(cpu, msr::pkrs, access_disabled(5)));
    expect_page_fault(read(), code_present | code_key);
    EXPECT_TRUE(write_msr(cpu, msr::pkrs, 0));
    EXPECT_EQ(write(), Outcome::next);
}

TEST_F(ProtectionKeys, SupervisorWritesAreFreeWithoutWp)
{
    map_with_key(7);
    EXPECT_EQ(write_cr0(cpu, cpu.cr0 & ~cr0::wp), Outcome::next);
    EXPECT_EQ(write_pkru(write_disabled(5)), Outcome::next);
    EXPECT_EQ(write(), Outcome::next);
    set_level(3);
    expect_page_fault(write(), code_present | code_write | code_key | code_user);
    set_level(0);
    EXPECT_EQ(write_pkru(access_disabled(5)), Outcome::next);
    expect_page_fault(write(), code_present | code_write | code_key);
    EXPECT_EQ(write_cr0(cpu, cpu.cr0 | cr0::wp), Outcome::next);
}

TEST_F(ProtectionKeys, FetchesAreFree)
{
    map_with_key(7);
    EXPECT_EQ(write_pkru(access_disabled(5)), Outcome::next);
    u64 physical = 0, guard = 0;
    set_level(3);
    EXPECT_EQ(mmu->fetch_page(page, physical, guard), Outcome::next);
    EXPECT_EQ(physical, page);
    map_with_key(3);
    expect_fault(mmu->fetch_page(page, physical, guard), vector::page_fault);
    EXPECT_EQ(cpu.fault.error_code & (code_key | code_fetch), 0u);
}

TEST_F(ProtectionKeys, TheKeyIsToldBesideOtherReasons)
{
    map_with_key(5); // read-only
    set_level(3);
    EXPECT_EQ(write_pkru(write_disabled(5)), Outcome::next);
    expect_page_fault(write(), code_present | code_write | code_user | code_key);
    EXPECT_EQ(write_pkru(0), Outcome::next);
    expect_page_fault(write(), code_present | code_write | code_user);
    map_page(page, key_bits(5)); // not present
    EXPECT_EQ(write_pkru(access_disabled(5)), Outcome::next);
    expect_page_fault(read(), code_user);
}

TEST_F(ProtectionKeys, WithoutCr4KeysAreIgnoredBits)
{
    map_with_key(7);
    EXPECT_EQ(write_pkru(access_disabled(5)), Outcome::next);
    expect_page_fault(read(), code_present | code_key);
    set_cr4(cr4::pks);
    EXPECT_EQ(write(), Outcome::next);
    set_cr4(cr4::pke); // and at once again
    expect_page_fault(read(), code_present | code_key);
}

TEST_F(ProtectionKeys, KeyZeroIsAKeyToo)
{
    map_with_key(7, 0);
    EXPECT_EQ(write(), Outcome::next);
    EXPECT_EQ(write_pkru(write_disabled(0)), Outcome::next);
    EXPECT_EQ(read(), Outcome::next);
    expect_page_fault(write(), code_present | code_write | code_key);
    EXPECT_EQ(write_pkru(access_disabled(0)), Outcome::next);
    expect_page_fault(read(), code_present | code_key);
}

TEST_F(ProtectionKeys, UnrelatedChangesDropNothing)
{
    map_with_key(7);
    EXPECT_EQ(write_pkru(0), Outcome::next);
    EXPECT_EQ(write(), Outcome::next);
    u64 const walks = mmu->statistics().page_walks;
    EXPECT_EQ(write_pkru(0x55555554 & ~access_disabled(5)), Outcome::next);
    EXPECT_EQ(write_pkru(0), Outcome::next);
    EXPECT_EQ(write(), Outcome::next);
    EXPECT_EQ(read(), Outcome::next);
    EXPECT_EQ(mmu->statistics().page_walks, walks);
    EXPECT_EQ(write_pkru(write_disabled(5)), Outcome::next); // reads go on as they were
    EXPECT_EQ(read(), Outcome::next);
    EXPECT_EQ(mmu->statistics().page_walks, walks);
}

// More entries with keys than are kept account of, by taking rights away and giving them again.
TEST_F(ProtectionKeys, ManyRounds)
{
    for (u64 i = 0; i < 256; ++i)
        map_page(page + i * 0x1000, (page + i * 0x1000) | 7 | key_bits(1 + i % 15));
    for (unsigned round = 0; round < 64; ++round) {
        unsigned const key = 1 + round % 15;
        ASSERT_EQ(write_pkru(round % 2 ? access_disabled(key) : write_disabled(key)), Outcome::next);
        for (u64 i = 0; i < 256; ++i) {
            bool const hit = 1 + i % 15 == key;
            u64 value = 0;
            ASSERT_EQ(mmu->write_value<u64>(page + i * 0x1000, i), hit ? Outcome::fault : Outcome::next) << round << " " << i;
            ASSERT_EQ(mmu->read_value(page + i * 0x1000, value), hit && round % 2 ? Outcome::fault : Outcome::next) << round << " " << i;
        }
    }
}

TEST_F(ProtectionKeys, NotIn32BitPaging)
{
    start_protected();
    cpu.cr4 |= cr4::pke | cr4::pae;
    EXPECT_EQ(write_pkru(0xffffffff), Outcome::next);
    put<u64>(page_tables + 0x5000, (page_tables + 0x2000) | 1);
    cpu.cr3 = page_tables + 0x5000;
    EXPECT_EQ(write_cr0(cpu, cpu.cr0 | cr0::pg), Outcome::next);
    EXPECT_EQ(write(), Outcome::next);
}

TEST_F(ProtectionKeys, DebuggersSeeAll)
{
    map_with_key(7);
    EXPECT_EQ(write_pkru(access_disabled(5)), Outcome::next);
    Gpa physical(0);
    EXPECT_TRUE(mmu->translate_debug(page, physical));
    EXPECT_EQ(physical.value(), page);
}

TEST_F(ProtectionKeys, XsaveImages)
{
    if (!host_vector_unit().xsavec)
        GTEST_SKIP() << "the host has no XSAVEC";
    cpu.xcr0 = cpuid->supported_xcr0();
    u32 const standard = host_vector_unit().components[xcr0::pkru_component].offset;
    constexpr u32 alone = 576, header = 512;
    std::vector<u8> const xsave { 0x48, 0x0f, 0xae, 0x23 }, xsaveopt { 0x48, 0x0f, 0xae, 0x33 }, xsavec { 0x48, 0x0f, 0xc7, 0x23 }, xrstor { 0x48, 0x0f, 0xae, 0x2b };
    for (u64 const address : { data, data + 0xe00 }) { // within a page, and across two
        auto const run = [&](std::vector<u8> const& bytes) {
            set_pair(xcr0::pkru);
            cpu.gpr[rbx] = address;
            return execute(bytes);
        };
        for (u32 const value : { 0x55555554u, 0u }) {
            u64 const in_use = value ? u64 { xcr0::pkru } : 0;
            for (auto const& bytes : { xsave, xsaveopt }) {
                for (u64 i = 0; i < 4096; i += 8)
                    put<u64>(address + i, i >= header && i < alone ? 0 : 0x7777);
                put<u64>(address + header, 1);
                EXPECT_EQ(write_pkru(value), Outcome::next);
                EXPECT_EQ(run(bytes), Outcome::next);
                EXPECT_EQ(get<u64>(address + header), in_use | 1);
                EXPECT_EQ(get<u64>(address), 0x7777u);
                EXPECT_EQ(get<u64>(address + standard), value == 0 && bytes == xsaveopt ? 0x7777u : value);
                put<u64>(address + header, in_use);
                EXPECT_EQ(write_pkru(0xfc), Outcome::next);
                EXPECT_EQ(run(xrstor), Outcome::next);
                EXPECT_EQ(cpu.key_rights[user_pages].value, value);
            }
            EXPECT_EQ(run(xsavec), Outcome::next);
            EXPECT_EQ(get<u64>(address + header), in_use);
            EXPECT_EQ(get<u64>(address + header + 8), u64 { 1 } << 63 | xcr0::pkru);
            EXPECT_EQ(get<u32>(address + alone), value ? value : get<u32>(address + alone));
            EXPECT_EQ(write_pkru(0xfc), Outcome::next);
            EXPECT_EQ(run(xrstor), Outcome::next);
            EXPECT_EQ(cpu.key_rights[user_pages].value, value);
        }
    }
    cpu.xcr0 = 3; // PKRU is not the operating system's to move
    put<u64>(data + header, xcr0::pkru);
    put<u64>(data + header + 8, 0);
    set_pair(xcr0::pkru);
    cpu.gpr[rbx] = data;
    expect_gp(execute(xrstor));
}

TEST_F(ProtectionKeys, XrstorDropsRights)
{
    cpu.xcr0 = cpuid->supported_xcr0();
    map_page(data + 0x2000, (data + 0x2000) | 7 | key_bits(5));
    EXPECT_EQ(write_pkru(0), Outcome::next);
    EXPECT_EQ(mmu->write_value<u64>(data + 0x2000, 1), Outcome::next);
    for (u64 i = 512; i < 576; i += 8)
        put<u64>(data + i, 0);
    put<u64>(data + 512, xcr0::pkru);
    put<u32>(data + host_vector_unit().components[xcr0::pkru_component].offset, write_disabled(5));
    set_pair(xcr0::pkru);
    cpu.gpr[rbx] = data;
    EXPECT_EQ(execute({ 0x48, 0x0f, 0xae, 0x2b }), Outcome::next);
    expect_fault(mmu->write_value<u64>(data + 0x2000, 2), vector::page_fault);
}

TEST_F(ProtectionKeys, XgetbvTellsWhetherPkruIsInUse)
{
    if (!host_vector_unit().xgetbv1)
        GTEST_SKIP() << "the host has no XGETBV with ECX = 1";
    cpu.xcr0 = cpuid->supported_xcr0();
    for (u32 const value : { 0u, 4u }) {
        EXPECT_EQ(write_pkru(value), Outcome::next);
        cpu.gpr[rcx] = 1;
        EXPECT_EQ(execute({ 0x0f, 0x01, 0xd0 }), Outcome::next);
        EXPECT_EQ(pair() & xcr0::pkru, value ? u64 { xcr0::pkru } : 0);
    }
}

// The same in translated code, which does most of it without a call.
class ProtectionKeysInCode : public ::testing::Test {
protected:
    static constexpr u64 idt = 0x9000;
    using M = GuestMachine;
    M machine;

    // Key 5 for the 2 MiB at `data`. #PF: RSI = error code, and an end; RSI is -1 before.
    CpuState start()
    {
        CpuState s = machine.long_mode();
        machine.put<u64>(M::page_tables + 0x2000 + (M::data >> 21) * 8, M::data | 0x87 | key_bits(5));
        s.cr4 |= cr4::pke;
        s.gpr[rsi] = ~u64 { 0 };
        s.gpr[rbx] = M::data;
        machine.put<u64>(M::gdt + 8, 0x00af9a000000ffff);
        s.gdtr = { M::gdt, 0xff };
        s.idtr = { idt, 0xfff };
        constexpr u64 handler = 0xa000;
        machine.load(handler, { 0x5e, 0xf4 }); // POP RSI; HLT
        for (unsigned vector = 0; vector < 32; ++vector) {
            machine.put<u64>(idt + vector * 16, (handler & 0xffff) | 8 << 16 | u64 { 0x8e00 } << 32);
            machine.put<u64>(idt + vector * 16 + 8, 0);
        }
        s.gpr[rsp] = 0x600000;
        return s;
    }
};

TEST_F(ProtectionKeysInCode, RightsGoBetweenTwoStores)
{
    CpuState s = start();
    s.gpr[rdi] = write_disabled(5);
    CpuState const end = machine.run(s, {
        0x48, 0xc7, 0x03, 0x11, 0, 0, 0,       // MOV QWORD [RBX], 11H
        0x31, 0xc9, 0x31, 0xd2, 0x89, 0xf8,    // XOR ECX, ECX; XOR EDX, EDX; MOV EAX, EDI
        0x0f, 0x01, 0xef,                      // WRPKRU
        0x4c, 0x8b, 0x43, 0x00,                // MOV R8, [RBX]
        0x0f, 0x01, 0xee,                      // RDPKRU
        0x48, 0xc7, 0x03, 0x22, 0, 0, 0,       // MOV QWORD [RBX], 22H
    });
    EXPECT_EQ(end.gpr[rsi], code_present | code_write | code_key);
    EXPECT_EQ(end.cr2, M::data);
    EXPECT_EQ(machine.get<u64>(M::data), 0x11u);
    EXPECT_EQ(end.gpr[r8], 0x11u);
    EXPECT_EQ(end.gpr[rax], write_disabled(5));
    EXPECT_EQ(end.pkru, write_disabled(5));
}

TEST_F(ProtectionKeysInCode, FlagsStay)
{
    CpuState const end = machine.run(start(), {
        0x31, 0xc9, 0x31, 0xd2, 0x31, 0xc0,    // XOR ECX, ECX; XOR EDX, EDX; XOR EAX, EAX
        0xb0, 0x80, 0x04, 0x80,                // MOV AL, 80H; ADD AL, 80H: CF, ZF, OF
        0x0f, 0x01, 0xef, 0x0f, 0x01, 0xee,    // WRPKRU; RDPKRU
        0x9c, 0x5f,                            // PUSHF; POP RDI
    });
    EXPECT_EQ(end.gpr[rdi] & 0x8d5, 0x845u);
}

TEST_F(ProtectionKeysInCode, Faults)
{
    CpuState s = start();
    s.gpr[rdx] = 1;
    EXPECT_EQ(machine.run(s, { 0x0f, 0x01, 0xef }).gpr[rsi], 0u); // #GP(0)
    s.gpr[rcx] = 1;
    EXPECT_EQ(machine.run(s, { 0x0f, 0x01, 0xee }).gpr[rsi], 0u);
    s.cr4 &= ~cr4::pke;
    s.gpr[rcx] = s.gpr[rdx] = 0;
    EXPECT_EQ(machine.run(s, { 0x0f, 0x01, 0xee }).gpr[rsi], M::code); // #UD: the frame begins with RIP
    EXPECT_EQ(machine.run(s, { 0x0f, 0x01, 0xef }).gpr[rsi], M::code);
}

// A loop that opens a page for one store each time round, as guests do that guard data of theirs.
TEST_F(ProtectionKeysInCode, OpenAndCloseInALoop)
{
    constexpr u64 rounds = 1'000'000; // enough to be found hot
    CpuState s = start();
    s.gpr[rdi] = write_disabled(5);
    s.gpr[rbp] = rounds;
    s.pkru = write_disabled(5);
    std::vector<u8> code {
        0x31, 0xc9, 0x31, 0xd2, 0x31, 0xc0,    // 1: XOR ECX, ECX; XOR EDX, EDX; XOR EAX, EAX
        0x0f, 0x01, 0xef,                      //    WRPKRU
        0x48, 0xff, 0x03,                      //    INC QWORD [RBX]
        0x89, 0xf8, 0x0f, 0x01, 0xef,          //    MOV EAX, EDI; WRPKRU
        0x4c, 0x8b, 0x03,                      //    MOV R8, [RBX]
        0xff, 0xcd, 0x75, 0xe8,                //    DEC EBP; JNZ 1
        0x48, 0xff, 0x03,                      //    INC QWORD [RBX]
    };
    CpuState const end = machine.run(s, code);
    EXPECT_EQ(end.gpr[rsi], code_present | code_write | code_key);
    EXPECT_EQ(end.gpr[r8], rounds);
    EXPECT_EQ(end.gpr[rbp], 0u);
}

} // namespace anyhyve::soft
