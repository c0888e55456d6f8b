// Runs cases on the host CPU, in a child process that has little else in its address space and may make no system calls.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include <sys/types.h>

#include "test_case.hpp"

namespace anyhyve::random_test {

class NativeRunner {
public:
    static constexpr unsigned most_cases = 256;

    // Forks: best before anything else is mapped.
    NativeRunner();
    ~NativeRunner();
    NativeRunner(NativeRunner const&) = delete;
    NativeRunner& operator=(NativeRunner const&) = delete;

    // Two batches may be under way: `slot` 0 and 1. The cases are copied.
    void submit(unsigned slot, std::span<Case const>);
    // Waits for them, in the order they were submitted.
    std::span<Outcome const> finish(unsigned slot);
    // One case, and what memory holds after it (layout::pages one after the other).
    Outcome run(Case const&, std::vector<u8>& memory_after);

private:
    struct Batch {
        std::atomic<u32> state; // 0: the parent's, 1: the child's
        u32 count;
        u32 done;               // cases finished
        bool keep_memory;
        Case cases[most_cases];
        Outcome outcomes[most_cases];
    };
    struct Shared {
        Batch batches[3];
        std::atomic<u32> submitted; // counts, so that the child can wait for more
        std::atomic<u32> running;   // which batch the child has in hand, counted from 1; 0: none
        u8 memory[layout::page_count * layout::page];
    };

    [[noreturn]] void keep_child();
    [[noreturn]] void serve();
    void run_batch(Batch&);
    void note_death(int status);

    Shared* m_shared;
    pid_t m_keeper = 0; // starts the child, and another one when a case has killed it
    std::unique_ptr<class NativeMachine> m_machine;
};

} // namespace anyhyve::random_test
