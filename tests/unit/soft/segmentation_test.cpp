// Segment register loads and the instructions about descriptors: every check and its error code.
#include "engine/soft/segmentation.hpp"

#include "engine/soft/segment_instructions.hpp"
#include "gate_machine.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace vector = x86::vector;

class Segmentation : public GateMachine {};

TEST_F(Segmentation, RealModeLoadKeepsTheLimit)
{
    segment(Segment::ds).limit = 0xffffffff;
    EXPECT_EQ(load_segment(cpu, Segment::ds, 0x1234), Outcome::next);
    EXPECT_EQ(segment(Segment::ds).base, 0x12340u);
    EXPECT_EQ(segment(Segment::ds).selector, 0x1234);
    EXPECT_EQ(segment(Segment::ds).limit, 0xffffffffu);
}

TEST_F(Segmentation, Virtual8086LoadSets64KiB)
{
    start_virtual_8086(3);
    EXPECT_EQ(load_segment(cpu, Segment::es, 0xf000), Outcome::next);
    EXPECT_EQ(segment(Segment::es).base, 0xf0000u);
    EXPECT_EQ(segment(Segment::es).limit, 0xffffu);
    EXPECT_EQ(segment(Segment::es).access, 0xf3u);
}

TEST_F(Segmentation, ProtectedLoadReadsTheDescriptorAndMarksIt)
{
    start_protected(0);
    set_gdt(select::spare, make_descriptor(0x12345678, 0xabcde, rights::data0, rights::flat32));
    EXPECT_EQ(load_segment(cpu, Segment::fs, select::spare), Outcome::next);
    EXPECT_EQ(segment(Segment::fs).base, 0x12345678u);
    EXPECT_EQ(segment(Segment::fs).limit, 0xabcdefffu);
    EXPECT_EQ(segment(Segment::fs).access, 0xc093u);
    EXPECT_EQ(get<u8>(map::gdt + select::spare + 5), rights::data0 | 1);
}

// RFLAGS.AC lifts SMAP for what the program accesses itself, not for what an instruction looks up (SDM vol. 3A 4.6.1).
TEST_F(Segmentation, DescriptorsInPagesOfTheUserAreOutOfReachUnderSmap)
{
    start_long(0);
    set_gdt(select::spare, make_descriptor(0, 0xfffff, rights::data0, rights::flat32));
    EXPECT_EQ(load_segment(cpu, Segment::ds, select::spare), Outcome::next);
    cpu.cr4 |= x86::cr4::smap;
    cpu.rflags |= x86::rflags::ac;
    mmu->flush_all();
    mmu->update_mode();
    u32 value = 0;
    EXPECT_EQ(mmu->read_value(map::data, value), Outcome::next);
    EXPECT_EQ(load_segment(cpu, Segment::ds, select::spare), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::page_fault);
    EXPECT_EQ(cpu.fault.error_code, 1u);
}

TEST_F(Segmentation, NullSelectorMakesADataSegmentUnusable)
{
    start_protected(0);
    EXPECT_EQ(load_segment(cpu, Segment::ds, 3), Outcome::next);
    EXPECT_EQ(segment(Segment::ds).selector, 3);
    EXPECT_TRUE(segment(Segment::ds).access & x86::access::unusable);
}

TEST_F(Segmentation, RefusedDataSegmentsNameTheirSelector)
{
    start_protected(3);
    expect_fault(load_segment(cpu, Segment::ds, select::data0 | 3), vector::general_protection, select::data0);
    expect_fault(load_segment(cpu, Segment::ds, select::tss | 3), vector::general_protection, select::tss);
    expect_fault(load_segment(cpu, Segment::ds, 0x1003), vector::general_protection, 0x1000);
    expect_fault(load_segment(cpu, Segment::ds, 0x0f), vector::general_protection, 0x0c); // no LDT
    set_gdt(select::spare, make_descriptor(0, 0xfffff, 0x72, rights::flat32));
    expect_fault(load_segment(cpu, Segment::gs, select::spare | 3), vector::segment_not_present, select::spare);
    EXPECT_EQ(segment(Segment::ds).selector, select::data3);
}

TEST_F(Segmentation, ExecuteOnlyCodeIsNoDataSegment)
{
    start_protected(0);
    set_gdt(select::spare, make_descriptor(0, 0xfffff, 0x98, rights::flat32));
    expect_fault(load_segment(cpu, Segment::ds, select::spare), vector::general_protection, select::spare);
}

TEST_F(Segmentation, ConformingCodeMayBeReadFromEveryLevel)
{
    start_protected(3);
    EXPECT_EQ(load_segment(cpu, Segment::ds, select::conforming | 3), Outcome::next);
}

TEST_F(Segmentation, StackSegmentMustBeWritableAndOfTheLevel)
{
    start_protected(0);
    expect_fault(load_segment(cpu, Segment::ss, 0), vector::general_protection, 0);
    expect_fault(load_segment(cpu, Segment::ss, select::read_only), vector::general_protection, select::read_only);
    expect_fault(load_segment(cpu, Segment::ss, select::data3), vector::general_protection, select::data3 & ~3u);
    expect_fault(load_segment(cpu, Segment::ss, select::data0 | 1), vector::general_protection, select::data0);
    expect_fault(load_segment(cpu, Segment::ss, select::absent), vector::stack_fault, select::absent);
    EXPECT_EQ(load_segment(cpu, Segment::ss, select::stack16), Outcome::next);
}

TEST_F(Segmentation, LongModeRing0MayHaveNoStackSegment)
{
    start_long(0);
    EXPECT_EQ(load_segment(cpu, Segment::ss, 0), Outcome::next);
    EXPECT_TRUE(segment(Segment::ss).access & x86::access::unusable);
    expect_fault(load_segment(cpu, Segment::ss, 3), vector::general_protection, 0);
}

TEST_F(Segmentation, MoveToSegmentRefusesCsAndShadowsInterruptsAfterSs)
{
    start_protected(0);
    cpu.gpr[x86::rax] = select::data0;
    EXPECT_EQ(execute_move_to_segment(cpu, register_instruction(4, x86::rax, 1)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
    EXPECT_EQ(execute_move_to_segment(cpu, register_instruction(4, x86::rax, 6)), Outcome::fault);
    EXPECT_EQ(execute_move_to_segment(cpu, register_instruction(4, x86::rax, 3)), Outcome::next);
    EXPECT_FALSE(cpu.interrupt_shadow);
    EXPECT_EQ(execute_move_to_segment(cpu, register_instruction(4, x86::rax, 2)), Outcome::next);
    EXPECT_TRUE(cpu.interrupt_shadow);
}

TEST_F(Segmentation, MoveFromSegmentZeroExtendsRegistersOnly)
{
    start_protected(0);
    cpu.gpr[x86::rbx] = ~u64 { 0 };
    put<u32>(map::data, ~u32 { 0 });
    EXPECT_EQ(execute_move_from_segment(cpu, register_instruction(4, x86::rbx, 3)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rbx], select::data0);
    auto store = memory_instruction(4, map::data);
    store.reg = 3;
    EXPECT_EQ(execute_move_from_segment(cpu, store), Outcome::next);
    EXPECT_EQ(get<u32>(map::data), 0xffff0000u | select::data0);
}

TEST_F(Segmentation, FarPointerLoadSetsBothOrNeither)
{
    start_protected(0);
    put<u32>(map::data, 0x11223344);
    put<u16>(map::data + 4, select::data0);
    auto insn = memory_instruction(4, map::data);
    insn.opcode = 0xb5;
    insn.reg = x86::rsi;
    EXPECT_EQ(execute_load_far_pointer(cpu, insn), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rsi], 0x11223344u);
    EXPECT_EQ(segment(Segment::gs).selector, select::data0);
    put<u32>(map::data, 0);
    put<u16>(map::data + 4, select::absent);
    expect_fault(execute_load_far_pointer(cpu, insn), vector::segment_not_present, select::absent);
    EXPECT_EQ(cpu.gpr[x86::rsi], 0x11223344u);
}

TEST_F(Segmentation, AccessRightsAndLimitAreSeenThroughPrivilege)
{
    start_protected(3);
    cpu.gpr[x86::rax] = select::data3;
    EXPECT_EQ(execute_load_access_rights(cpu, register_instruction(4, x86::rax, x86::rcx)), Outcome::next);
    EXPECT_TRUE(cpu.rflags & x86::rflags::zf);
    EXPECT_EQ(cpu.gpr[x86::rcx], 0xc0f200u);
    EXPECT_EQ(execute_load_segment_limit(cpu, register_instruction(4, x86::rax, x86::rdx)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rdx], 0xffffffffu);
    cpu.gpr[x86::rax] = select::data0;
    EXPECT_EQ(execute_load_access_rights(cpu, register_instruction(4, x86::rax, x86::rcx)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & x86::rflags::zf);
    EXPECT_EQ(cpu.gpr[x86::rcx], 0xc0f200u);
}

TEST_F(Segmentation, CallGatesAreNotConformingCode)
{
    start_protected(3);
    set_gdt(select::spare, make_gate(select::code0, 0, rights::call32));
    cpu.gpr[x86::rax] = select::spare | 3;
    EXPECT_EQ(execute_load_access_rights(cpu, register_instruction(4, x86::rax, x86::rcx)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & x86::rflags::zf);
}

TEST_F(Segmentation, VerifyTellsReadableFromWritable)
{
    start_protected(0);
    cpu.gpr[x86::rax] = select::code0;
    EXPECT_EQ(execute_verify_read(cpu, register_instruction(2, x86::rax)), Outcome::next);
    EXPECT_TRUE(cpu.rflags & x86::rflags::zf);
    EXPECT_EQ(execute_verify_write(cpu, register_instruction(2, x86::rax)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & x86::rflags::zf);
    cpu.gpr[x86::rax] = 0;
    EXPECT_EQ(execute_verify_read(cpu, register_instruction(2, x86::rax)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & x86::rflags::zf);
}

TEST_F(Segmentation, SelectorInstructionsNeedProtectedMode)
{
    EXPECT_EQ(execute_verify_read(cpu, register_instruction(2, 0)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
    start_virtual_8086(3);
    EXPECT_EQ(execute_lldt(cpu, register_instruction(2, 0)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
}

TEST_F(Segmentation, AdjustRplRaisesOnly)
{
    start_protected(0);
    cpu.gpr[x86::rax] = 0x20;
    cpu.gpr[x86::rbx] = 0x13;
    EXPECT_EQ(execute_adjust_rpl(cpu, register_instruction(2, x86::rax, x86::rbx)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rax], 0x23u);
    EXPECT_TRUE(cpu.rflags & x86::rflags::zf);
    EXPECT_EQ(execute_adjust_rpl(cpu, register_instruction(2, x86::rax, x86::rbx)), Outcome::next);
    EXPECT_FALSE(cpu.rflags & x86::rflags::zf);
}

TEST_F(Segmentation, LtrMarksTheTssBusyAndRefusesItThen)
{
    start_protected(0);
    cpu.gpr[x86::rax] = select::second_tss;
    EXPECT_EQ(execute_ltr(cpu, register_instruction(2, x86::rax)), Outcome::next);
    EXPECT_EQ(cpu.tr.base, map::second_tss);
    EXPECT_EQ(get<u8>(map::gdt + select::second_tss + 5), rights::tss32_busy);
    EXPECT_EQ(x86::access::type(cpu.tr.access), 11);
    expect_fault(execute_ltr(cpu, register_instruction(2, x86::rax)), vector::general_protection, select::second_tss);
    cpu.gpr[x86::rax] = 0;
    expect_fault(execute_ltr(cpu, register_instruction(2, x86::rax)), vector::general_protection, 0);
    cpu.cpl = 3;
    expect_fault(execute_ltr(cpu, register_instruction(2, x86::rax)), vector::general_protection, 0);
}

TEST_F(Segmentation, LongModeTssHasA64BitBase)
{
    start_long(0);
    set_gdt(select::spare, make_descriptor(0x89abcdef, 0x67, rights::tss32));
    put<u64>(map::gdt + select::spare + 8, 0xffff8012);
    cpu.gpr[x86::rax] = select::spare;
    EXPECT_EQ(execute_ltr(cpu, register_instruction(2, x86::rax)), Outcome::next);
    EXPECT_EQ(cpu.tr.base, 0xffff801289abcdefu);
    set_gdt(select::spare, make_descriptor(0, 0x67, rights::tss32));
    put<u64>(map::gdt + select::spare + 8, u64 { 9 } << 40);
    expect_fault(execute_ltr(cpu, register_instruction(2, x86::rax)), vector::general_protection, select::spare);
}

TEST_F(Segmentation, LdtSelectorsWorkOnceItIsLoaded)
{
    start_protected(0);
    put<u64>(map::ldt + 8, make_descriptor(0x1000, 0xf, rights::data0, 0));
    cpu.gpr[x86::rax] = select::ldt;
    EXPECT_EQ(execute_lldt(cpu, register_instruction(2, x86::rax)), Outcome::next);
    EXPECT_EQ(load_segment(cpu, Segment::ds, 0x0c), Outcome::next);
    EXPECT_EQ(segment(Segment::ds).base, 0x1000u);
    cpu.gpr[x86::rax] = 0;
    EXPECT_EQ(execute_lldt(cpu, register_instruction(2, x86::rax)), Outcome::next);
    expect_fault(load_segment(cpu, Segment::ds, 0x0c), vector::general_protection, 0x0c);
    cpu.gpr[x86::rax] = select::data0;
    expect_fault(execute_lldt(cpu, register_instruction(2, x86::rax)), vector::general_protection, select::data0);
}

TEST_F(Segmentation, UserModeInstructionPreventionHidesSelectors)
{
    start_protected(3);
    cpu.cr4 = x86::cr4::umip;
    expect_fault(execute_str(cpu, register_instruction(4, x86::rax)), vector::general_protection, 0);
    cpu.cr4 = 0;
    EXPECT_EQ(execute_str(cpu, register_instruction(4, x86::rax)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rax], select::tss);
}

TEST_F(Segmentation, SwapgsIsFor64BitRing0)
{
    start_long(0);
    segment(Segment::gs).base = 1;
    cpu.kernel_gs_base = 2;
    EXPECT_EQ(execute_swapgs(cpu, instruction(8)), Outcome::next);
    EXPECT_EQ(segment(Segment::gs).base, 2u);
    EXPECT_EQ(cpu.kernel_gs_base, 1u);
    start_long(3);
    expect_fault(execute_swapgs(cpu, instruction(8)), vector::general_protection, 0);
    start_protected(0);
    cpu.efer = 0;
    EXPECT_EQ(execute_swapgs(cpu, instruction(4)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
}

TEST_F(Segmentation, BaseInstructionsFollowCr4AndCheckCanonicalForm)
{
    start_long(3);
    cpu.gpr[x86::rax] = 0x7fff12345678;
    EXPECT_EQ(execute_write_fs_base(cpu, register_instruction(8, x86::rax)), Outcome::fault);
    EXPECT_EQ(cpu.fault.vector, vector::invalid_opcode);
    cpu.cr4 |= x86::cr4::fsgsbase;
    EXPECT_EQ(execute_write_fs_base(cpu, register_instruction(8, x86::rax)), Outcome::next);
    EXPECT_EQ(execute_read_fs_base(cpu, register_instruction(4, x86::rbx)), Outcome::next);
    EXPECT_EQ(cpu.gpr[x86::rbx], 0x12345678u);
    cpu.gpr[x86::rax] = u64 { 1 } << 47;
    expect_fault(execute_write_gs_base(cpu, register_instruction(8, x86::rax)), vector::general_protection, 0);
}

} // namespace anyhyve::soft
