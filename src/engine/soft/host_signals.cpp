// Signal handling of vCPU threads: see host_signals.hpp.
#include "engine/soft/host_signals.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <optional>

#include <asm/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/soft/activity.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/thunks.hpp"
#include "host/thread_timer.hpp"

namespace anyhyve::soft {

namespace {

constexpr long sampling_interval = 1'000'000; // nanoseconds
constexpr int handled_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
struct sigaction s_previous[std::size(handled_signals)];
thread_local Cpu* t_cpu = nullptr;

void pass_on(int signal, siginfo_t* info, void* context)
{
    for (unsigned i = 0; i < std::size(handled_signals); ++i) {
        if (handled_signals[i] != signal)
            continue;
        auto const& previous = s_previous[i];
        if ((previous.sa_flags & SA_SIGINFO) && previous.sa_sigaction)
            return previous.sa_sigaction(signal, info, context);
        if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
            return previous.sa_handler(signal);
    }
    // Nobody else's either: die of it.
    ::signal(signal, SIG_DFL);
}

TrapPoint const* find_trap_point(Block const& block, u32 offset)
{
    for (u32 i = 0; i < block.trap_point_count; ++i) {
        if (offset >= block.trap_points[i].host_begin && offset < block.trap_points[i].host_end)
            return &block.trap_points[i];
    }
    return nullptr;
}

// Host trap number -> guest exception. False: not something a guest's instruction may do.
bool describe_fault(Cpu& cpu, greg_t trap)
{
    switch (static_cast<u8>(trap)) {
    case x86::vector::divide_error:
    case x86::vector::x87_error:
    case x86::vector::invalid_opcode:
        cpu.fault = { .vector = static_cast<u8>(trap) };
        return true;
    case x86::vector::simd_error:
        cpu.fault = { .vector = cpu.cr4 & x86::cr4::osxmmexcpt ? x86::vector::simd_error : x86::vector::invalid_opcode };
        return true;
    case x86::vector::general_protection: // misaligned; the address itself has been translated
        cpu.fault = { .vector = x86::vector::general_protection, .has_error_code = true };
        return true;
    default:
        return false;
    }
}

// A masked instruction wanted what is not there (GuardArea). The address is the guest's where the host's lay.
bool describe_missing_operand(Cpu& cpu, u64 address)
{
    auto const& operand = cpu.operand;
    if (operand.kind != Cpu::OperandBounce::Kind::guarded || !cpu.guard_area.contains(address))
        return false;
    // SAFETY: the difference of two addresses in the guard area.
    u64 const offset = address - reinterpret_cast<std::uintptr_t>(operand.data);
    cpu.fault = operand.missing[offset < operand.first_size ? 0 : 1];
    if (cpu.fault.vector == x86::vector::page_fault)
        cpu.fault.address = operand.linear + offset;
    return true;
}

// Hot code keeps other registers in memory than the thunks expect (Translator::RegisterPlan).
void take_usual_registers(Cpu& cpu, gregset_t& registers, u16 in_memory)
{
    constexpr int host[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    for (unsigned i = 0; i < 16; ++i) {
        bool const is_in_memory = in_memory >> i & 1;
        if (i >= first_spilled && !is_in_memory)
            cpu.gpr[i] = static_cast<u64>(registers[host[i]]);
        else if (i < first_spilled && is_in_memory)
            registers[host[i]] = static_cast<greg_t>(cpu.gpr[i]);
    }
}

void on_signal(int signal, siginfo_t* info, void* context)
{
    Cpu* const cpu = t_cpu;
    // SAFETY: the third argument of an SA_SIGINFO handler is the ucontext of this signal.
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    // SAFETY: the interrupted instruction's address, only compared.
    auto const* const pc = reinterpret_cast<u8 const*>(registers[REG_RIP]);
    CodeCache* const cache = cpu ? &cpu->mmu->cache() : nullptr;
    if (!cache || !cache->contains(pc))
        return pass_on(signal, info, context);
    Block* block = nullptr;
    {
        VcpuLock lock(*cpu, *cache, Presence::in_device);
        block = cache->block_at(pc);
    }
    TrapPoint const* const point = block ? find_trap_point(*block, static_cast<u32>(pc - block->code_begin)) : nullptr;
    bool const missing = registers[REG_TRAPNO] == x86::vector::page_fault && describe_missing_operand(*cpu, static_cast<u64>(registers[REG_CR2]));
    if (!point || (!missing && !describe_fault(*cpu, registers[REG_TRAPNO])))
        return pass_on(signal, info, context);
    take_usual_registers(*cpu, registers, point->in_memory);
    cpu->rip = block->rip + point->guest_offset;
    cpu->next_rip = cpu->rip + point->length;
    if (!point->flags_in_memory)
        cpu->arithmetic_flags = image_from_flags(static_cast<u64>(registers[REG_EFL]));
    // SAFETY: an address of the thunks, where the thread goes on when the handler returns.
    registers[REG_RIP] = reinterpret_cast<greg_t>(cpu->thunks->faulted);
}

thread_local host::ThreadTimer* t_sampler = nullptr;

// A thousand times a second, while guest code runs: where is it?
void on_sample(int, siginfo_t*, void* context)
{
    int const kept_errno = errno;
    Cpu* const cpu = t_cpu;
    if (!cpu)
        return;
    // SAFETY: the third argument of an SA_SIGINFO handler is the ucontext; the address is only compared.
    auto const* const pc = reinterpret_cast<u8 const*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    if (cpu->halted) {
        cpu->sampled.store(false, std::memory_order_relaxed); // nothing to see; resume_sampling() starts it again
        return;
    }
    cpu->samples.fetch_add(1, std::memory_order_relaxed);
    if (cpu->mmu->cache().contains(pc)) {
        cpu->sample.store(pc, std::memory_order_relaxed);
        cpu->events.fetch_or(Cpu::event_sample, std::memory_order_relaxed);
        cpu->poll.store(1, std::memory_order_relaxed);
    }
    t_sampler->fire_once(sampling_interval);
    errno = kept_errno;
}

void install_handlers()
{
    for (unsigned i = 0; i < std::size(handled_signals); ++i) {
        struct sigaction action = {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(handled_signals[i], &action, &s_previous[i]);
    }
}

} // namespace

void resume_sampling(Cpu& cpu)
{
    if (cpu.sampled.load(std::memory_order_relaxed))
        return;
    cpu.sampled.store(true, std::memory_order_relaxed);
    t_sampler->fire_once(sampling_interval);
}

struct SignalScope::Kept {
    stack_t stack;
    sigset_t mask;
    void* memory;
    std::size_t size;
    std::optional<host::ThreadTimer> sampler;
};

SignalScope::SignalScope(Cpu& cpu) : m_kept(new Kept)
{
    static std::once_flag installed;
    std::call_once(installed, install_handlers);
    m_kept->size = 128 * KiB; // AVX-512 and later states make a frame of several KiB
    m_kept->memory = mmap(nullptr, m_kept->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    constexpr unsigned autodisarm = 1u << 31; // SS_AUTODISARM, sigaltstack(2)
    stack_t stack = {};
    stack.ss_sp = m_kept->memory;
    stack.ss_size = m_kept->size;
    stack.ss_flags = static_cast<int>(autodisarm);
    sigaltstack(&stack, &m_kept->stack);

    sigset_t blocked;
    sigfillset(&blocked);
    for (int signal : handled_signals)
        sigdelset(&blocked, signal);
    sigdelset(&blocked, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &blocked, &m_kept->mask);
    m_kept->sampler.emplace(SIGPROF, on_sample);
    t_sampler = &*m_kept->sampler;
    cpu.sampled.store(!t_sampler->exists(), std::memory_order_relaxed); // without a timer nothing is ever found hot, and all goes on as before
    t_cpu = &cpu;
    // SAFETY: the C library does not use GS on x86-64; generated code finds the Cpu there.
    syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu);
}

SignalScope::~SignalScope()
{
    t_cpu = nullptr;
    m_kept->sampler.reset();
    pthread_sigmask(SIG_SETMASK, &m_kept->mask, nullptr);
    stack_t off = m_kept->stack;
    if (!off.ss_sp)
        off.ss_flags = SS_DISABLE;
    sigaltstack(&off, nullptr);
    munmap(m_kept->memory, m_kept->size);
    delete m_kept;
}

} // namespace anyhyve::soft
