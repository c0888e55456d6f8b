// Entry, exit and call-outs of generated code: see thunks.hpp.
#include "engine/soft/thunks.hpp"

#include <cstddef>

#include "engine/soft/runtime.hpp"

namespace anyhyve::soft {

void emit_save_flags(Assembler& a, HostRegister temporary)
{
    a.mov(temporary, x86::rax);
    a.lahf();
    a.seto_al();
    a.gs_store16(flags_offset(), x86::rax);
    a.mov(x86::rax, temporary);
}

void emit_restore_flags(Assembler& a, HostRegister temporary)
{
    a.mov(temporary, x86::rax);
    a.gs_load_zero16(x86::rax, flags_offset());
    a.add_al(0x7f); // OF again when AL was 1
    a.sahf();
    a.mov(x86::rax, temporary);
}

namespace {

class Generator {
public:
    static constexpr u64 most_code = 8192;
    explicit Generator(CodeCache& cache) : m_cache(cache), m_start(cache.code_space(most_code)), m_asm(m_start, m_start + most_code) {}
    Thunks generate();

private:
    u8* here() { return m_cache.executable(m_asm.position()); }
    void store_registers()
    {
        for (unsigned n = 0; n < resident_registers; ++n)
            m_asm.gs_store(true, gpr_offset(n), static_cast<HostRegister>(n));
    }
    void load_registers()
    {
        for (unsigned n = 0; n < resident_registers; ++n)
            m_asm.gs_load(true, static_cast<HostRegister>(n), gpr_offset(n));
    }
    // rdi = Cpu, on the host's stack; rax (and rdx) are the result.
    template<typename Function>
    void call(Function* function)
    {
        m_asm.gs_load(true, x86::rsp, host_rsp_offset());
        m_asm.gs_load(true, x86::rdi, self_offset());
        // SAFETY: a function address as a number, for the generated call.
        m_asm.mov_imm(x86::rax, reinterpret_cast<std::uintptr_t>(function));
        m_asm.call_register(x86::rax);
    }
    void resume_at_rax()
    {
        m_asm.mov(scratch_a, x86::rax);
        load_registers();
        m_asm.jump_register(scratch_a);
    }
    template<typename Site>
    u8* access(AccessResult (*function)(Cpu*, u64, Site const*));
    u8* stack_misses(TlbIndex);

    CodeCache& m_cache;
    u8* m_start;
    Assembler m_asm;
};

template<typename Site>
u8* Generator::access(AccessResult (*function)(Cpu*, u64, Site const*))
{
    u8* const start = here();
    store_registers();
    m_asm.mov(x86::rsi, address_register);
    m_asm.mov(x86::rdx, scratch_b);
    call(function);
    m_asm.mov(address_register, x86::rax);
    m_asm.mov(scratch_a, x86::rdx);
    load_registers();
    m_asm.jump_register(scratch_a);
    return start;
}

// The stack's page becomes the one that a run's bytes lie in, if the look-aside table knows it to be writable.
u8* Generator::stack_misses(TlbIndex index)
{
    u8* const start = here();
    m_asm.gs_store(true, scratch_offset(2), scratch_b);
    m_asm.load_sign_extended32(address_register, HostMemory(scratch_b, HostMemory::no_register, offsetof(StackSite, begin)));
    m_asm.arithmetic(Arithmetic::add, true, address_register, x86::rsp);
    m_asm.load(4, scratch_a, HostMemory(scratch_b, HostMemory::no_register, offsetof(StackSite, last)));
    m_asm.arithmetic(Arithmetic::add, true, scratch_a, address_register);
    m_asm.mov32(scratch_b, address_register);
    m_asm.shr(false, scratch_b, 7);
    m_asm.arithmetic_imm(Arithmetic::and_, false, scratch_b, (tlb_entries - 1) << 5);
    m_asm.arithmetic_imm(Arithmetic::and_, true, scratch_a, -4096);
    m_asm.gs_arithmetic(Arithmetic::cmp, true, scratch_a, tlb_write_tag_offset(index), scratch_b);
    JumpSite const unknown = m_asm.jump_forward(Condition::not_equal);
    m_asm.gs_store(true, stack_page_offset(index), scratch_a);
    m_asm.gs_load(true, scratch_a, tlb_addend_offset(index), scratch_b);
    m_asm.gs_store(true, stack_addend_offset(index), scratch_a);
    m_asm.gs_load(true, scratch_b, scratch_offset(2));
    m_asm.load(8, scratch_b, HostMemory(scratch_b, HostMemory::no_register, offsetof(StackSite, resume)));
    m_asm.jump_register(scratch_b);
    m_asm.bind(unknown);
    store_registers();
    m_asm.gs_load(true, x86::rsi, scratch_offset(2));
    call(runtime_stack_miss);
    resume_at_rax();
    return start;
}

Thunks Generator::generate()
{
    constexpr HostRegister callee_saved[] = { x86::rbx, x86::rbp, x86::r12, x86::r13, x86::r14, x86::r15 };
    Thunks thunks;

    // SAFETY: generated code with the C calling convention: rdi = Cpu (already the GS base), rsi = entry.
    thunks.enter = reinterpret_cast<void (*)(Cpu*, u8*)>(here());
    for (HostRegister reg : callee_saved)
        m_asm.push(reg);
    m_asm.arithmetic_imm(Arithmetic::sub, true, x86::rsp, 8); // calls from here on are 16-byte aligned
    m_asm.gs_store(true, host_rsp_offset(), x86::rsp);
    m_asm.mov(scratch_a, x86::rsi);
    load_registers();
    m_asm.jump_register(scratch_a);

    // Only reached through a result of the runtime: registers are in the Cpu already.
    thunks.leave = here();
    m_asm.gs_load(true, x86::rsp, host_rsp_offset());
    m_asm.arithmetic_imm(Arithmetic::add, true, x86::rsp, 8);
    for (unsigned i = std::size(callee_saved); i-- > 0;)
        m_asm.pop(callee_saved[i]);
    m_asm.ret();

    thunks.dispatch_host = here();
    emit_save_flags(m_asm, scratch_a);
    thunks.dispatch_memory = here();
    store_registers();
    call(runtime_dispatch);
    resume_at_rax();

    thunks.faulted = here();
    store_registers();
    call(runtime_faulted);
    resume_at_rax();

    thunks.access = access(runtime_access);
    thunks.access_segmented = access(runtime_access_segmented);
    thunks.site_misses = access(runtime_site_misses);
    thunks.find_page = access(runtime_find_page);

    for (u8 index = 0; index < tlb_index_count; ++index)
        thunks.stack_misses[index] = stack_misses(static_cast<TlbIndex>(index));

    thunks.commit = here();
    m_asm.mov(scratch_a, x86::rax);
    m_asm.lahf();
    m_asm.seto_al();
    m_asm.gs_store16(scratch_offset(3), x86::rax);
    m_asm.mov(x86::rax, scratch_a);
    store_registers();
    m_asm.mov(x86::rsi, scratch_b);
    call(runtime_commit);
    m_asm.mov(scratch_a, x86::rax);
    m_asm.gs_load_zero16(x86::rax, scratch_offset(3));
    m_asm.add_al(0x7f);
    m_asm.sahf();
    load_registers();
    m_asm.jump_register(scratch_a);

    thunks.operation_host = here();
    emit_save_flags(m_asm, scratch_a);
    thunks.operation_memory = here();
    store_registers();
    m_asm.mov(x86::rsi, scratch_b);
    call(runtime_operation);
    resume_at_rax();

    thunks.link_host = here();
    emit_save_flags(m_asm, scratch_a);
    thunks.link_memory = here();
    store_registers();
    m_asm.mov(x86::rsi, scratch_b);
    call(runtime_link);
    resume_at_rax();

    thunks.jump_miss = here();
    store_registers();
    m_asm.mov(x86::rsi, address_register);
    call(runtime_jump);
    resume_at_rax();

    thunks.jump_from = here();
    store_registers();
    m_asm.mov(x86::rsi, address_register);
    m_asm.mov(x86::rdx, scratch_b);
    call(runtime_jump_from);
    resume_at_rax();

    ASSERT(!m_asm.overflowed(), "the thunks fit their space");
    m_cache.commit_code(m_asm.position());
    return thunks;
}

} // namespace

Thunks Thunks::generate(CodeCache& cache)
{
    Thunks thunks = Generator(cache).generate();
    thunks.strings = StringThunks::generate(cache, thunks.operation_memory);
    cache.keep_code_so_far();
    return thunks;
}

} // namespace anyhyve::soft
