// The child process that runs cases natively, and how batches go to it and back: see native_runner.hpp.
#include "native_runner.hpp"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native_machine.hpp"

namespace anyhyve::random_test {

namespace {

constexpr unsigned patience_in_batch = 2, patience_alone = 60;

void futex_wait(std::atomic<u32>& word, u32 while_it_is)
{
    timespec const moment = { 0, 100'000'000 };
    // SAFETY: futex(2) on the atomic's own 32 bits, shared between the processes.
    syscall(SYS_futex, reinterpret_cast<u32*>(&word), FUTEX_WAIT, while_it_is, &moment, nullptr, 0);
}
void futex_wake(std::atomic<u32>& word)
{
    // SAFETY: as above.
    syscall(SYS_futex, reinterpret_cast<u32*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Also when it is gone already.
void die_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(2);
}

} // namespace

NativeRunner::NativeRunner()
{
    void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        std::perror("random_instructions: shared memory");
        std::exit(2);
    }
    // SAFETY: fresh zeroed memory of the right size, shared with the children; the type has no constructor that does more than zero.
    m_shared = static_cast<Shared*>(memory);
    pid_t const parent = getpid();
    m_keeper = fork();
    if (m_keeper == 0) {
        die_with(parent);
        keep_child();
    }
    if (m_keeper < 0) {
        std::perror("random_instructions: fork");
        std::exit(2);
    }
}

NativeRunner::~NativeRunner()
{
    kill(m_keeper, SIGKILL);
    waitpid(m_keeper, nullptr, 0);
    munmap(m_shared, sizeof(Shared));
}

// In a process that maps nothing but what is there from the start, so that every child has the same memory.
void NativeRunner::keep_child()
{
    pid_t const keeper = getpid();
    for (;;) {
        pid_t const child = fork();
        if (child == 0) {
            die_with(keeper);
            serve();
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child)
            _exit(2);
        note_death(status);
    }
}

// The next child goes on behind the case that the last one has died of.
void NativeRunner::note_death(int status)
{
    u32 const running = m_shared->running.exchange(0);
    if (running == 0)
        _exit(2);
    Batch& batch = m_shared->batches[running - 1];
    Outcome& outcome = batch.outcomes[batch.done++];
    outcome = {};
    outcome.ending = Ending::crash;
    outcome.vector = static_cast<u64>(status);
}

void NativeRunner::serve()
{
    m_machine = std::make_unique<NativeMachine>();
    for (;;) {
        u32 const before = m_shared->submitted.load();
        bool any = false;
        for (u32 n = 0; n < std::size(m_shared->batches); ++n) {
            if (m_shared->batches[n].state.load() != 1)
                continue;
            m_shared->running.store(n + 1);
            run_batch(m_shared->batches[n]);
            m_shared->running.store(0);
            any = true;
        }
        if (!any && m_shared->submitted.load() == before)
            futex_wait(m_shared->submitted, before);
    }
}

void NativeRunner::run_batch(Batch& batch)
{
    while (batch.done < batch.count) {
        u32 const n = batch.done;
        m_machine->run(batch.cases[n], batch.outcomes[n], batch.keep_memory ? patience_alone : patience_in_batch);
        batch.done = n + 1;
        for (unsigned i = 0; batch.keep_memory && i < layout::page_count; ++i)
            std::memcpy(m_shared->memory + i * layout::page, m_machine->page(i), layout::page);
    }
    batch.state.store(0);
    futex_wake(batch.state);
}

void NativeRunner::submit(unsigned slot, std::span<Case const> cases)
{
    Batch& batch = m_shared->batches[slot];
    std::copy(cases.begin(), cases.end(), batch.cases);
    batch.count = static_cast<u32>(cases.size());
    batch.done = 0;
    batch.keep_memory = slot == 2;
    batch.state.store(1);
    m_shared->submitted.fetch_add(1);
    futex_wake(m_shared->submitted);
}

std::span<Outcome const> NativeRunner::finish(unsigned slot)
{
    Batch& batch = m_shared->batches[slot];
    while (batch.state.load() == 1) {
        futex_wait(batch.state, 1);
        if (batch.state.load() == 1 && waitpid(m_keeper, nullptr, WNOHANG) == m_keeper) {
            std::fputs("random_instructions: the child process fails outside of guest code\n", stderr);
            std::exit(2);
        }
    }
    return { batch.outcomes, batch.count };
}

Outcome NativeRunner::run(Case const& c, std::vector<u8>& memory_after)
{
    submit(2, { &c, 1 });
    Outcome const outcome = finish(2)[0];
    memory_after.assign(m_shared->memory, m_shared->memory + sizeof m_shared->memory);
    return outcome;
}

} // namespace anyhyve::random_test
