// Guest code on the host CPU: state in, jump, and out by the exception that every case ends with.
#include "native_machine.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <asm/prctl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/soft/host_vector_unit.hpp"

namespace anyhyve::random_test {

namespace {

constexpr u16 user_code32 = 0x23, user_data = 0x2b; // Linux' selectors

struct FarPointer {
    u32 offset;
    u16 selector;
};

} // namespace

// What the entry code reads. Offsets are in its text.
struct alignas(64) NativeEntryState {
    u64 gpr[16];            // 0
    u64 flags;              // 128
    u64 target;             // 136
    FarPointer far_target;  // 144
    u64 host_stack;         // 152
    u64 gs_base;            // 160
    u64 is_long;            // 168
    u64 mask;               // 176
    u64 host_fs_base;       // 184: the C library's; guest code has 0
    std::array<u8, xsave_bytes> xsave; // 192
};
static_assert(offsetof(NativeEntryState, xsave) == 192);

extern "C" {
NativeEntryState native_entry_state;
void native_enter();
void native_leave();
void native_signal_entry(int, siginfo_t*, void*);
[[gnu::used]] void native_signal(int, siginfo_t*, void*);
}

// SAFETY: native_enter() is left through native_leave(), on the stack and with the registers it kept. The signal entry drops AC, which a
// guest may have set, and gives the C library its FS base back, before compiled code runs.
asm(R"(
    .text
native_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    lea native_entry_state(%rip), %rbx
    mov %rsp, 152(%rbx)
    mov $0x2b, %eax
    mov %eax, %ds
    mov %eax, %es
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov 160(%rbx), %rax
    wrgsbase %rax
    xor %eax, %eax
    wrfsbase %rax
    mov 176(%rbx), %eax
    xor %edx, %edx
    xrstor64 192(%rbx)
    push 128(%rbx)
    popfq
    mov (%rbx), %rax
    mov 8(%rbx), %rcx
    mov 16(%rbx), %rdx
    mov 32(%rbx), %rsp
    mov 40(%rbx), %rbp
    mov 48(%rbx), %rsi
    mov 56(%rbx), %rdi
    mov 64(%rbx), %r8
    mov 72(%rbx), %r9
    mov 80(%rbx), %r10
    mov 88(%rbx), %r11
    mov 96(%rbx), %r12
    mov 104(%rbx), %r13
    mov 112(%rbx), %r14
    mov 120(%rbx), %r15
    mov 24(%rbx), %rbx
    xchg %rcx, 168+native_entry_state(%rip)
    jrcxz 1f
    mov 8+native_entry_state(%rip), %rcx
    jmp *136+native_entry_state(%rip)
1:  mov 8+native_entry_state(%rip), %rcx
    ljmp *144+native_entry_state(%rip)

native_leave:
    mov 152+native_entry_state(%rip), %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

native_signal_entry:
    pushfq
    andl $~0x40400, (%rsp)
    popfq
    mov 184+native_entry_state(%rip), %rax
    wrfsbase %rax
    jmp native_signal
)");

namespace {

volatile bool s_in_guest = false;
Outcome* s_outcome = nullptr;
unsigned volatile s_ticks = 0, s_most_ticks = 0;
constexpr u32 frame_magic = 0x46505853; // FP_XSTATE_MAGIC1 of the kernel's <asm/sigcontext.h>

void keep_vector_state(void const* frame)
{
    auto const* const bytes = static_cast<u8 const*>(frame);
    u32 magic = 0;
    std::memcpy(&magic, bytes + 464, sizeof magic);
    std::memcpy(s_outcome->xsave.data(), bytes, magic == frame_magic ? xsave_bytes : 512);
}

[[noreturn]] void leave_guest()
{
    s_in_guest = false;
    native_leave();
    __builtin_unreachable();
}

} // namespace

void native_signal(int signal, siginfo_t*, void* context)
{
    // SAFETY: the third argument of an SA_SIGINFO handler is the ucontext of this signal.
    auto const& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
    if (signal == SIGVTALRM) {
        s_ticks = s_ticks + 1;
        if (!s_in_guest || s_ticks < s_most_ticks)
            return;
        s_outcome->ending = Ending::time_out;
        leave_guest();
    }
    if (!s_in_guest)
        _exit(3);
    auto const& g = machine.gregs;
    constexpr int order[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    for (unsigned n = 0; n < 16; ++n)
        s_outcome->gpr[n] = static_cast<u64>(g[order[n]]);
    s_outcome->rip = static_cast<u64>(g[REG_RIP]);
    s_outcome->flags = static_cast<u64>(g[REG_EFL]);
    s_outcome->vector = static_cast<u64>(g[REG_TRAPNO]);
    s_outcome->error_code = static_cast<u64>(g[REG_ERR]);
    s_outcome->fault_address = static_cast<u64>(g[REG_CR2]);
    s_outcome->ending = Ending::exception;
    keep_vector_state(machine.fpregs);
    leave_guest();
}

namespace {

std::array<u8*, layout::page_count> map_pages()
{
    std::array<u8*, layout::page_count> pages {};
    for (unsigned n = 0; n < layout::page_count; ++n) {
        auto const& page = layout::pages[n];
        int const rights = PROT_READ | PROT_WRITE | (page.rights == layout::Rights::read_write_execute ? PROT_EXEC : 0);
        // SAFETY: an address of our choice below 4 GiB, where this program has nothing else.
        void* const at = mmap(reinterpret_cast<void*>(page.linear), layout::page, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (at == MAP_FAILED) {
            std::perror("random_instructions: guest page");
            std::exit(2);
        }
        pages[n] = static_cast<u8*>(at);
        std::memset(pages[n], 1, layout::page);
    }
    return pages;
}

// The native side's copy: read-only pages are opened while they are loaded.
void protect(unsigned n, int rights)
{
    // SAFETY: pages that map_pages() has mapped.
    mprotect(reinterpret_cast<void*>(layout::pages[n].linear), layout::page, rights);
}

void install_handlers()
{
    constexpr std::size_t stack_size = 256 * 1024;
    stack_t stack = {};
    stack.ss_sp = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack.ss_size = stack_size;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = native_signal_entry;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int signal : { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGVTALRM })
        sigaction(signal, &action, nullptr);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    itimerval const tick = { { 0, 8'000 }, { 0, 8'000 } };
    setitimer(ITIMER_VIRTUAL, &tick, nullptr);
}

// What guest code might call by accident kills the child; the parent notices.
void forbid_system_calls()
{
    sock_filter const program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog const filter = { sizeof program / sizeof *program, const_cast<sock_filter*>(program) };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

} // namespace

NativeMachine::NativeMachine() : m_memory(map_pages())
{
    asm volatile("rdfsbase %0" : "=r"(native_entry_state.host_fs_base));
    install_handlers();
    forbid_system_calls();
}

NativeMachine::~NativeMachine() = default;

void NativeMachine::run(Case const& c, Outcome& outcome, unsigned patience)
{
    bool const new_data = c.memory_seed != m_seed;
    m_image.prepare(c);
    if (new_data) {
        for (unsigned n = 0; n < layout::page_count; ++n)
            protect(n, PROT_READ | PROT_WRITE | PROT_EXEC);
    }
    m_memory.load(m_image);
    if (new_data) {
        for (unsigned n = 0; n < layout::page_count; ++n) {
            auto const rights = layout::pages[n].rights;
            protect(n, PROT_READ | (rights == layout::Rights::read_only ? 0 : PROT_WRITE) | (rights == layout::Rights::read_write_execute ? PROT_EXEC : 0));
        }
        m_seed = c.memory_seed;
    }
    auto& state = native_entry_state;
    std::copy(c.gpr.begin(), c.gpr.end(), state.gpr);
    state.flags = c.flags;
    state.target = c.start();
    state.far_target = { static_cast<u32>(c.start()), user_code32 };
    state.gs_base = c.gs_base;
    state.is_long = c.long_mode;
    state.mask = soft::host_vector_unit().mask;
    fill_vector_state(c, state.xsave);
    outcome = {};
    s_outcome = &outcome;
    s_ticks = 0;
    s_most_ticks = patience;
    s_in_guest = true;
    native_enter();
    outcome.memory_hash = m_memory.hash(m_image);
    normalise_vector_state(outcome.xsave);
}

} // namespace anyhyve::random_test
