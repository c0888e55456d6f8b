// Small pieces of guest code through the translator: registers, memory, stack, control flow, in each code size.
#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

TEST(Translator, RunsRegisterArithmetic)
{
    GuestMachine m;
    // mov eax,5; mov ecx,7; add rax,rcx; imul r13,rax,3; lea r15,[r13+rax*2+1]
    auto s = m.run(m.long_mode(), { 0xb8, 5, 0, 0, 0, 0xb9, 7, 0, 0, 0, 0x48, 0x01, 0xc8, 0x4c, 0x6b, 0xe8, 3, 0x4d, 0x8d, 0x7c, 0x45, 1 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(s.gpr[rax], 12u);
    EXPECT_EQ(s.gpr[r13], 36u);
    EXPECT_EQ(s.gpr[r15], 61u);
}

// INC and DEC of one byte are REX prefixes on the host, and leave CF alone.
TEST(Translator, RunsShortIncrements)
{
    GuestMachine m;
    auto s = m.protected_mode();
    s.gpr[rcx] = 0x7fffffff;
    s.gpr[rdx] = 0x1234ffff;
    s.gpr[rsi] = 1;
    // stc; inc ecx; seto al; setc ah; mov [0x200000],eax; inc dx; setz bl; setc bh; dec esi; setz al; dec edi; sets ah; setc [0x200004]
    auto e = m.run(s, { 0xf9, 0x41, 0x0f, 0x90, 0xc0, 0x0f, 0x92, 0xc4, 0xa3, 0, 0, 0x20, 0, 0x66, 0x42, 0x0f, 0x94, 0xc3, 0x0f, 0x92, 0xc7, 0x4e, 0x0f, 0x94, 0xc0,
                             0x4f, 0x0f, 0x98, 0xc4, 0x0f, 0x92, 0x05, 4, 0, 0x20, 0 });
    EXPECT_EQ(m.get<u32>(GuestMachine::data) & 0xffff, 0x0101u);
    EXPECT_EQ(e.gpr[rcx], 0x80000000u);
    EXPECT_EQ(e.gpr[rdx], 0x12340000u);
    EXPECT_EQ(e.gpr[rbx] & 0xffff, 0x0101u);
    EXPECT_EQ(e.gpr[rsi], 0u);
    EXPECT_EQ(e.gpr[rdi], 0xffffffffu);
    EXPECT_EQ(e.gpr[rax] & 0xffff, 0x0101u);
    EXPECT_EQ(m.get<u8>(GuestMachine::data + 4), 1u);
}

TEST(Translator, PushesFlags)
{
    GuestMachine m;
    auto s = m.long_mode();
    s.rflags |= rflags::df;
    // mov eax,0x7fffffff; add eax,1; pushfq; pop rbx; stc; pushfq; pop r14; cld; xor eax,eax; pushfq; pop r13
    auto e = m.run(s, { 0xb8, 0xff, 0xff, 0xff, 0x7f, 0x83, 0xc0, 1, 0x9c, 0x5b, 0xf9, 0x9c, 0x41, 0x5e, 0xfc, 0x31, 0xc0, 0x9c, 0x41, 0x5d });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rbx], 0xc96u); // OF DF SF AF PF
    EXPECT_EQ(e.gpr[r14], 0xc97u);
    EXPECT_EQ(e.gpr[r13] & ~rflags::af, 0x46u);
    EXPECT_EQ(e.gpr[rsp], GuestMachine::stack_top);
}

TEST(Translator, ReadsSelectors)
{
    GuestMachine m;
    auto s = m.long_mode();
    s.gpr[rcx] = s.gpr[rbx] = s.gpr[r13] = s.gpr[r14] = ~u64 { 0 };
    // mov ecx,ds; mov bx,cs; mov r14w,cs; mov r13,ss
    auto e = m.run(s, { 0x8c, 0xd9, 0x66, 0x8c, 0xcb, 0x66, 0x41, 0x8c, 0xce, 0x49, 0x8c, 0xd5 });
    EXPECT_EQ(e.gpr[rcx], 0x10u);
    EXPECT_EQ(e.gpr[rbx], ~u64 { 0xffff } | 8);
    EXPECT_EQ(e.gpr[r14], ~u64 { 0xffff } | 8);
    EXPECT_EQ(e.gpr[r13], 0x10u);
}

TEST(Translator, ReadsAndWritesSegmentBases)
{
    GuestMachine m;
    auto s = m.long_mode();
    s.cr4 |= cr4::fsgsbase;
    s.gpr[rbx] = 0xffff'8234'5678'9abc;
    s.gpr[r14] = 0x7fff'8234'5678;
    s.gpr[rsi] = ~u64 { 0 };
    // stc; wrfsbase rbx; rdfsbase rax; rdfsbase esi; wrgsbase r14; rdgsbase r13; setc dl; wrgsbase ebx; rdgsbase rdi
    auto e = m.run(s, { 0xf9, 0xf3, 0x48, 0x0f, 0xae, 0xd3, 0xf3, 0x48, 0x0f, 0xae, 0xc0, 0xf3, 0x0f, 0xae, 0xc6, 0xf3, 0x49, 0x0f, 0xae, 0xde,
                             0xf3, 0x49, 0x0f, 0xae, 0xcd, 0x0f, 0x92, 0xc2, 0xf3, 0x0f, 0xae, 0xdb, 0xf3, 0x48, 0x0f, 0xae, 0xcf });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], s.gpr[rbx]);
    EXPECT_EQ(e.segments[4].base, s.gpr[rbx]);
    EXPECT_EQ(e.gpr[rsi], 0x56789abcu);
    EXPECT_EQ(e.gpr[r13], s.gpr[r14]);
    EXPECT_EQ(e.gpr[rdx] & 0xff, 1u);
    EXPECT_EQ(e.gpr[rdi], 0x56789abcu);
    s.gpr[rbx] = 0x8000'0000'0000; // not canonical
    m.run(s, { 0xf3, 0x48, 0x0f, 0xae, 0xd3 });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
    s.gpr[rbx] = 0;
    s.cr4 &= ~cr4::fsgsbase;
    m.run(s, { 0xf3, 0x48, 0x0f, 0xae, 0xd3 });
    EXPECT_EQ(m.last_exit, RunExit::triple_fault);
}

TEST(Translator, LoadsAndStores)
{
    GuestMachine m;
    m.put<u64>(GuestMachine::data + 8, 0x1122334455667788);
    auto s = m.long_mode();
    s.gpr[rbx] = GuestMachine::data;
    s.gpr[r14] = GuestMachine::data + 16;
    // mov rax,[rbx+8]; mov [r14],rax; mov r14,[r14]; mov [rbx+32],ah; mov r13b,[rbx+8]; xchg rax,[rbx]
    auto e = m.run(s, { 0x48, 0x8b, 0x43, 8, 0x49, 0x89, 0x06, 0x4d, 0x8b, 0x36, 0x88, 0x63, 32, 0x44, 0x8a, 0x6b, 8, 0x48, 0x87, 0x03 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(m.get<u64>(GuestMachine::data + 16), 0x1122334455667788u);
    EXPECT_EQ(e.gpr[r14], 0x1122334455667788u);
    EXPECT_EQ(m.get<u8>(GuestMachine::data + 32), 0x77u);
    EXPECT_EQ(e.gpr[r13] & 0xff, 0x88u);
    EXPECT_EQ(m.get<u64>(GuestMachine::data), 0x1122334455667788u);
    EXPECT_EQ(e.gpr[rax], 0u);
}

TEST(Translator, CrossesPages)
{
    GuestMachine m;
    auto s = m.long_mode();
    s.gpr[rbx] = GuestMachine::data + 0x1ffc; // 2 MiB pages: host-contiguous
    s.gpr[rax] = 0x0102030405060708;
    auto e = m.run(s, { 0x48, 0x89, 0x03, 0x48, 0x01, 0x03, 0x48, 0x8b, 0x0b });
    EXPECT_EQ(e.gpr[rcx], 0x020406080a0c0e10u);
}

// Behind the last address of the lower half nothing follows, least of all the first page of the upper half.
TEST(Translator, RunsNoInstructionThatEndsBeyondCanonicalAddresses)
{
    constexpr u64 idt = 0x9000, handler = GuestMachine::code, last = 0x0000'7fff'ffff'ffff, last_large_page = 0x600000;
    GuestMachine m;
    CpuState s = m.long_mode();
    m.put<u64>(GuestMachine::page_tables + 255 * 8, (GuestMachine::page_tables + 0x1000) | 7);
    m.put<u64>(GuestMachine::page_tables + 256 * 8, (GuestMachine::page_tables + 0x1000) | 7);
    m.put<u64>(GuestMachine::page_tables + 0x1000 + 511 * 8, (GuestMachine::page_tables + 0x2000) | 7);
    m.put<u64>(GuestMachine::page_tables + 0x2000 + 511 * 8, last_large_page | 0x87);
    m.put<u8>(last_large_page + 2 * MiB - 1, 0xb8); // mov eax,...
    m.load(0, { 1, 2, 3, 4, 0xf4 });
    m.put<u64>(GuestMachine::gdt + 8, 0x00af9b000000ffff);
    m.put<u64>(idt + vector::general_protection * 16, (handler & 0xffff) | 0x08 << 16 | u64 { 0x8e00 } << 32 | (handler >> 16) << 48);
    m.load(handler, { 0xf4 });
    s.gdtr = { GuestMachine::gdt, 0x17 };
    s.idtr = { idt, 0xfff };
    s.rip = last;
    m.vcpu->set_state(s);
    EXPECT_EQ(m.vcpu->run(), RunExit::halted);
    EXPECT_EQ(m.vcpu->state().rip, handler + 1);
    EXPECT_EQ(m.get<u64>(GuestMachine::stack_top - 48), 0u); // error code
    EXPECT_EQ(m.get<u64>(GuestMachine::stack_top - 40), last);
}

TEST(Translator, CallsAndReturns)
{
    GuestMachine m;
    auto s = m.long_mode();
    // xor eax,eax; mov ecx,1000; L: call f; loop L; hlt; f: inc rax; push rbx; pop rdx; ret
    auto e = m.run(s, { 0x31, 0xc0, 0xb9, 0xe8, 3, 0, 0, 0xe8, 3, 0, 0, 0, 0xe2, 0xf9, 0xf4, 0x48, 0xff, 0xc0, 0x53, 0x5a, 0xc3 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], 1000u);
    EXPECT_EQ(e.gpr[rsp], GuestMachine::stack_top);
}

TEST(Translator, KeepsFlagsAcrossMemoryAccesses)
{
    GuestMachine m;
    auto s = m.long_mode();
    s.gpr[rbx] = GuestMachine::data;
    // stc; mov rax,[rbx]; mov [rbx+8],rax; adc ecx,ecx; cmp eax,eax; push rax; pop rax; sete dl; setb dh
    auto e = m.run(s, { 0xf9, 0x48, 0x8b, 0x03, 0x48, 0x89, 0x43, 8, 0x11, 0xc9, 0x39, 0xc0, 0x50, 0x58, 0x0f, 0x94, 0xc2, 0x0f, 0x92, 0xc6 });
    EXPECT_EQ(e.gpr[rcx], 1u);
    EXPECT_EQ(e.gpr[rdx] & 0xffff, 1u);
}

TEST(Translator, RunsSelfModifyingCode)
{
    GuestMachine m;
    auto s = m.long_mode();
    // mov byte [rip+1],7 ; mov al,0 -> becomes mov al,7
    auto e = m.run(s, { 0xc6, 0x05, 1, 0, 0, 0, 7, 0xb0, 0 });
    EXPECT_EQ(e.gpr[rax] & 0xff, 7u);
}

TEST(Translator, KeepsFlagsWhenCodeRewritesItself)
{
    GuestMachine m;
    auto s = m.long_mode();
    // sub eax,eax (ZF, PF); mov byte [rip+1],7; mov al,0 -> mov al,7; sete dl; setp dh
    auto e = m.run(s, { 0x29, 0xc0, 0xc6, 0x05, 1, 0, 0, 0, 7, 0xb0, 0, 0x0f, 0x94, 0xc2, 0x0f, 0x9a, 0xc6 });
    EXPECT_EQ(e.gpr[rax] & 0xff, 7u);
    EXPECT_EQ(e.gpr[rdx] & 0xffff, 0x0101u);
}

TEST(Translator, KeepsFlagsThatTheCodeItRewritesWouldLose)
{
    GuestMachine m;
    auto s = m.long_mode();
    // sub eax,eax (ZF, PF); mov word [rip],9090h; or cl,dl -> nop, nop; sete dl; setp dh
    auto e = m.run(s, { 0x29, 0xc0, 0x66, 0xc7, 0x05, 0, 0, 0, 0, 0x90, 0x90, 0x08, 0xd1, 0x0f, 0x94, 0xc2, 0x0f, 0x9a, 0xc6 });
    EXPECT_EQ(e.gpr[rdx] & 0xffff, 0x0101u);
}

TEST(Translator, RunsVectorCode)
{
    GuestMachine m;
    auto s = m.long_mode();
    s.gpr[rbx] = GuestMachine::data;
    m.put<double>(GuestMachine::data, 1.5);
    // movsd xmm1,[rbx]; addsd xmm1,[rbx]; movsd [rbx+8],xmm1; vpaddd ymm2,ymm2,[rbx]
    m.run(s, { 0xf2, 0x0f, 0x10, 0x0b, 0xf2, 0x0f, 0x58, 0x0b, 0xf2, 0x0f, 0x11, 0x4b, 8, 0xc5, 0xed, 0xfe, 0x13 });
    EXPECT_EQ(m.get<double>(GuestMachine::data + 8), 3.0);
}

TEST(Translator, RunsProtectedModeCode)
{
    GuestMachine m;
    auto s = m.protected_mode();
    // mov ecx,100; xor eax,eax; L: add eax,ecx; push eax; pop edx; dec ecx; jnz L; mov [0x200000],eax; mov ebx,[0x200000]
    auto e = m.run(s, { 0xb9, 100, 0, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0x50, 0x5a, 0x49, 0x75, 0xf9, 0xa3, 0, 0, 0x20, 0, 0x8b, 0x1d, 0, 0, 0x20, 0 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax], 5050u);
    EXPECT_EQ(e.gpr[rdx], 5050u);
    EXPECT_EQ(e.gpr[rbx], 5050u);
}

TEST(Translator, RunsRealModeCode)
{
    GuestMachine m;
    auto s = m.real_mode();
    // mov ax,0x1000; mov es,ax; mov cx,5; xor di,di; mov al,0x41; cld; rep stosb; mov bx,[es:0]; mov si,0x10; call +1; nop...
    auto e = m.run(s, { 0xb8, 0x00, 0x10, 0x8e, 0xc0, 0xb9, 5, 0, 0x31, 0xff, 0xb0, 0x41, 0xfc, 0xf3, 0xaa, 0x26, 0x8b, 0x1e, 0, 0 });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(m.get<u32>(0x10000), 0x41414141u);
    EXPECT_EQ(e.gpr[rbx] & 0xffff, 0x4141u);
}

// RET, JMP and CALL themselves fault when their target is beyond the limit, with the stack as it was.
TEST(Translator, FaultsAtJumpsBeyondTheLimit)
{
    constexpr u64 handler = 0x1000, code = 0x7c00, stack = 0x7000;
    std::vector<u8> const jumps[] = { { 0x66, 0xc3 }, { 0x66, 0xc2, 0x08, 0x00 }, { 0x66, 0xff, 0xe0 }, { 0x66, 0xff, 0xd0 } }; // ret, ret 8, jmp eax, call eax
    for (auto const& jump : jumps) {
        GuestMachine m;
        CpuState s = m.real_mode();
        s.gpr[rax] = 0x17c02;
        m.put<u32>(stack, 0x17c02);
        m.put<u32>(vector::general_protection * 4, handler);
        m.put<u8>(handler, 0xf4);
        auto const e = m.run(s, jump);
        EXPECT_EQ(m.last_exit, RunExit::halted);
        EXPECT_EQ(e.rip, handler + 1);
        EXPECT_EQ(e.gpr[rsp], stack - 6);
        EXPECT_EQ(m.get<u16>(stack - 6), code);
    }
}

TEST(Translator, SystemRegistersAndSwitchToLongModeWork)
{
    GuestMachine m;
    auto s = m.long_mode();
    // mov rax,cr4; mov cr4,rax; mov rax,cr3; mov cr3,rax; cpuid(0); rdtsc; pushfq; pop rax; cli; sti... 
    s.gpr[rcx] = 0;
    auto e = m.run(s, { 0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x31, 0xc0, 0x0f, 0xa2, 0x9c, 0x58, 0xfa });
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(e.gpr[rax] & 2, 2u);
}

} // namespace
} // namespace anyhyve::soft
