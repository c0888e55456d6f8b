// Control, debug and table registers.
#include "engine/soft/control_registers.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {

using namespace x86;

class ControlRegisters : public ExecuteMachine {
protected:
    // MOV CRn, RAX and MOV RAX, CRn.
    Outcome write(u8 number, u64 value)
    {
        cpu.gpr[rax] = value;
        if (number >= 8)
            return execute({ 0x44, 0x0f, 0x22, static_cast<u8>(0xc0 | (number & 7) << 3) });
        return execute({ 0x0f, 0x22, static_cast<u8>(0xc0 | number << 3) });
    }
    Outcome read(u8 number) { return execute({ 0x0f, 0x20, static_cast<u8>(0xc0 | number << 3) }); }
    Outcome write_debug(u8 number, u64 value)
    {
        cpu.gpr[rax] = value;
        return execute({ 0x0f, 0x23, static_cast<u8>(0xc0 | number << 3) });
    }
};

TEST_F(ControlRegisters, Cr0Combinations)
{
    u64 const good = cpu.cr0;
    expect_gp(write(0, good & ~cr0::pe));          // paging without protection
    expect_gp(write(0, good | cr0::nw));           // NW without CD
    expect_gp(write(0, good | u64 { 1 } << 32));
    expect_gp(write(0, good & ~cr0::pg));          // in 64-bit code
    EXPECT_EQ(cpu.cr0, good);
    EXPECT_EQ(write(0, (good & ~cr0::et) | cr0::ts | 1 << 6), Outcome::jump);
    EXPECT_EQ(cpu.cr0, good | cr0::ts);
    EXPECT_EQ(cpu.rip, cpu.next_rip);
    EXPECT_EQ(execute({ 0x0f, 0x06 }), Outcome::jump); // CLTS
    EXPECT_EQ(cpu.cr0, good);
}

TEST_F(ControlRegisters, LongModeComesWithPaging)
{
    start_protected();
    cpu.efer = efer::lme;
    cpu.cr3 = page_tables;
    expect_gp(write(0, cpu.cr0 | cr0::pg)); // needs PAE
    cpu.cr4 |= cr4::pae;
    EXPECT_EQ(write(0, cpu.cr0 | cr0::pg), Outcome::jump);
    EXPECT_TRUE(cpu.long_mode());
    EXPECT_FALSE(cpu.code64());
    expect_gp(write(4, cpu.cr4 & ~cr4::pae));
    EXPECT_EQ(write(0, cpu.cr0 & ~cr0::pg), Outcome::jump);
    EXPECT_FALSE(cpu.long_mode());
    EXPECT_EQ(cpu.efer, efer::lme);
}

TEST_F(ControlRegisters, PaePointersAreChecked)
{
    start_protected();
    cpu.cr4 |= cr4::pae;
    cpu.cr3 = page_tables;
    put<u64>(page_tables, (page_tables + 0x2000) | 1);
    for (u64 i = 1; i < 4; ++i)
        put<u64>(page_tables + i * 8, 0);
    EXPECT_EQ(write(0, cpu.cr0 | cr0::pg), Outcome::jump);
    EXPECT_EQ(cpu.pdpte[0], (page_tables + 0x2000) | 1);
    put<u64>(page_tables + 0x20, 1 | 2); // R/W is reserved here
    expect_gp(write(3, page_tables + 0x20));
    EXPECT_EQ(cpu.cr3, page_tables);
    EXPECT_EQ(cpu.pdpte[0], (page_tables + 0x2000) | 1);
}

TEST_F(ControlRegisters, Cr4AndPcid)
{
    expect_gp(write(4, cpu.cr4 | cr4::la57));
    expect_gp(write(4, cpu.cr4 | cr4::vmxe));
    cpu.cr3 |= 0x18;
    expect_gp(write(4, cpu.cr4 | cr4::pcide));
    cpu.cr3 &= ~u64 { 0xfff };
    EXPECT_EQ(write(4, cpu.cr4 | cr4::pcide), Outcome::jump);
    expect_gp(write(0, cpu.cr0 & ~cr0::pg));
    EXPECT_EQ(write(3, page_tables | 5 | u64 { 1 } << 63), Outcome::jump);
    EXPECT_EQ(cpu.cr3, page_tables | 5);
    EXPECT_EQ(write(4, cpu.cr4 & ~cr4::pcide), Outcome::jump);
    expect_gp(write(3, page_tables | u64 { 1 } << 63));
    expect_gp(write(3, page_tables | u64 { 1 } << 50));
    expect_gp(write(4, cpu.cr4 & ~cr4::pae));
}

TEST_F(ControlRegisters, RegistersThatExist)
{
    expect_fault(write(1, 0), vector::invalid_opcode);
    expect_fault(read(7), vector::invalid_opcode);
    EXPECT_EQ(write(8, 9), Outcome::jump);
    EXPECT_EQ(interrupts.priority, 9u);
    EXPECT_EQ(execute({ 0x44, 0x0f, 0x20, 0xc3 }), Outcome::next); // MOV RBX, CR8
    EXPECT_EQ(cpu.gpr[rbx], 9u);
    expect_gp(write(8, 16));
    set_level(3);
    expect_gp(read(0));
    expect_gp(write(3, 0));
}

TEST_F(ControlRegisters, MachineStatusWord)
{
    cpu.gpr[rax] = 0xffff'ffff'ffff'0000;
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xf0 }), Outcome::jump); // LMSW AX: PE stays
    EXPECT_TRUE(cpu.cr0 & cr0::pe);
    cpu.gpr[rax] = 0xe;
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xf0 }), Outcome::jump);
    EXPECT_EQ(cpu.cr0 & 0xf, 0xfu);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xe3 }), Outcome::next); // SMSW EBX
    EXPECT_EQ(cpu.gpr[rbx], cpu.cr0 & 0xffffffff);
    set_level(3);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xe3 }), Outcome::next);
    cpu.cr4 |= cr4::umip;
    expect_gp(execute({ 0x0f, 0x01, 0xe3 }));
}

TEST_F(ControlRegisters, Tables)
{
    cpu.gpr[rax] = data;
    put<u16>(data, 0x1ff);
    put<u64>(data + 2, 0xffff800012345678);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0x10 }), Outcome::next); // LGDT [RAX]
    EXPECT_EQ(cpu.gdtr.base, 0xffff800012345678);
    EXPECT_EQ(cpu.gdtr.limit, 0x1ff);
    put<u64>(data + 2, 0x0000800012345678);
    expect_gp(execute({ 0x0f, 0x01, 0x18 })); // LIDT
    cpu.gpr[rax] = data + 0x100;
    EXPECT_EQ(execute({ 0x0f, 0x01, 0x00 }), Outcome::next); // SGDT
    EXPECT_EQ(get<u16>(data + 0x100), 0x1ff);
    EXPECT_EQ(get<u64>(data + 0x102), 0xffff800012345678);
    start_protected();
    put<u64>(data + 2, 0xab345678);
    cpu.gpr[rax] = data;
    EXPECT_EQ(execute({ 0x66, 0x0f, 0x01, 0x18 }), Outcome::next); // LIDT with 24 bits of base
    EXPECT_EQ(cpu.idtr.base, 0x345678u);
}

TEST_F(ControlRegisters, DebugRegisters)
{
    EXPECT_EQ(write_debug(0, 0xffff812345678000), Outcome::jump);
    EXPECT_EQ(cpu.dr[0], 0xffff812345678000);
    EXPECT_EQ(write_debug(6, 0), Outcome::jump);
    EXPECT_EQ(cpu.dr6, 0xffff0ff0u);
    EXPECT_EQ(write_debug(5, 0xffff), Outcome::jump); // DR5 is DR7
    EXPECT_EQ(cpu.dr7, 0x27ffu);
    expect_fault(write_debug(7, 0x400), vector::debug); // GD is set
    EXPECT_EQ(cpu.fault.dr6, 1u << 13);
    cpu.dr7 = 0x400;
    expect_gp(write_debug(7, u64 { 1 } << 32));
    cpu.cr4 |= cr4::de;
    expect_fault(write_debug(4, 0), vector::invalid_opcode);
    set_level(3);
    expect_gp(write_debug(0, 0));
}

TEST_F(ControlRegisters, Xcr0)
{
    auto const write_xcr0 = [this](u64 value) {
        set_pair(value);
        cpu.gpr[rcx] = 0;
        return execute({ 0x0f, 0x01, 0xd1 });
    };
    expect_gp(write_xcr0(0));
    expect_gp(write_xcr0(5));    // AVX without SSE
    expect_gp(write_xcr0(0x27)); // a part of AVX-512
    expect_gp(write_xcr0(0x107));
    EXPECT_EQ(write_xcr0(0x207), Outcome::jump); // PKRU
    EXPECT_EQ(write_xcr0(3), Outcome::jump);
    cpu.gpr[rcx] = 0;
    EXPECT_EQ(execute({ 0x0f, 0x01, 0xd0 }), Outcome::next);
    EXPECT_EQ(pair(), 3u);
    cpu.gpr[rcx] = 2;
    expect_gp(execute({ 0x0f, 0x01, 0xd0 }));
    cpu.cr4 &= ~cr4::osxsave;
    expect_fault(execute({ 0x0f, 0x01, 0xd0 }), vector::invalid_opcode);
    expect_fault(write_xcr0(3), vector::invalid_opcode);
}

TEST_F(ControlRegisters, Invpcid)
{
    cpu.gpr[rax] = data;
    put<u64>(data, 0);
    put<u64>(data + 8, 0x1000);
    auto const invalidate = [this](u64 type) {
        cpu.gpr[rbx] = type;
        return execute({ 0x66, 0x0f, 0x38, 0x82, 0x18 });
    };
    for (u64 type = 0; type < 4; ++type)
        EXPECT_EQ(invalidate(type), Outcome::next) << type;
    expect_gp(invalidate(4));
    put<u64>(data, 5); // a PCID without CR4.PCIDE
    expect_gp(invalidate(0));
    cpu.cr4 |= cr4::pcide;
    EXPECT_EQ(invalidate(0), Outcome::next);
    put<u64>(data + 8, 0x0000800000000000);
    expect_gp(invalidate(0));
    put<u64>(data, 0x1000);
    for (u64 type = 0; type < 4; ++type)
        expect_gp(invalidate(type)); // reserved bits, whatever the type
}

TEST_F(ControlRegisters, ATranslationIsGoneAfterInvlpg)
{
    cpu.gpr[rax] = data;
    u64 value = 0;
    put<u64>(data + 0x1000, 77);
    EXPECT_EQ(mmu->read_value(data, value), Outcome::next);
    put<u64>(page_tables + 0x3000 + (data >> 12) * 8, (data + 0x1000) | 7);
    EXPECT_EQ(execute({ 0x0f, 0x01, 0x38 }), Outcome::next);
    EXPECT_EQ(mmu->read_value(data, value), Outcome::next);
    EXPECT_EQ(value, 77u);
}

// 64-bit code has no use for the base that 32-bit code has left in DS; FS and GS count.
TEST_F(ControlRegisters, InvlpgLeavesOutTheBaseThat64BitCodeDoesNotHave)
{
    u64 value = 0;
    auto const move_page = [&](u64 to) {
        EXPECT_EQ(mmu->read_value(data, value), Outcome::next);
        put<u64>(data + to, to);
        put<u64>(page_tables + 0x3000 + (data >> 12) * 8, (data + to) | 7);
    };
    move_page(0x1000);
    cpu.segment(Segment::ds).base = 0x5000;
    cpu.gpr[rax] = data;
    EXPECT_EQ(execute({ 0x0f, 0x01, 0x38 }), Outcome::next);
    EXPECT_EQ(mmu->read_value(data, value), Outcome::next);
    EXPECT_EQ(value, 0x1000u);
    move_page(0x2000);
    cpu.segment(Segment::gs).base = 0x5000;
    cpu.gpr[rax] = data - 0x5000;
    EXPECT_EQ(execute({ 0x65, 0x0f, 0x01, 0x38 }), Outcome::next);
    EXPECT_EQ(mmu->read_value(data, value), Outcome::next);
    EXPECT_EQ(value, 0x2000u);
}

TEST_F(ControlRegisters, HaltAndItsLike)
{
    EXPECT_EQ(execute({ 0xf4 }), Outcome::halt);
    EXPECT_EQ(cpu.rip, code + 1);
    EXPECT_EQ(execute({ 0x0f, 0x09 }), Outcome::next);
    set_level(3);
    expect_gp(execute({ 0xf4 }));
    expect_gp(execute({ 0x0f, 0x09 }));
}

} // namespace anyhyve::soft
