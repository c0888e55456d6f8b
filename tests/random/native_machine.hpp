// The half of NativeRunner that lives in the child: enters guest code on the CPU and gets out of it by a signal.
#pragma once

#include "memory_image.hpp"

namespace anyhyve::random_test {

class NativeMachine {
public:
    // Maps the pages and installs the signal handlers; from then on only a few system calls are allowed.
    NativeMachine();
    ~NativeMachine();
    // Gives up after `patience` ticks of the CPU time's clock, of 8 ms each.
    void run(Case const&, Outcome&, unsigned patience);
    u8 const* page(unsigned index) const { return m_memory.page(index); }

private:
    MemoryImage m_image;
    MemoryImage::Copy m_memory;
    u64 m_seed = ~u64 { 0 }; // of what the read-only pages hold
};

} // namespace anyhyve::random_test
