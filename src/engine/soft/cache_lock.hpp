// The lock of the code cache. It is taken while guest vector registers are live, which the C library's mutex leaves alone;
// ThreadSanitizer's does not, so in such a build they are put away around it.
#pragma once

#include <mutex>

#ifdef ANYHYVE_THREAD_SANITIZER
#include "engine/soft/host_vector_unit.hpp"
#include "vmm/cpu_state.hpp"
#endif

namespace anyhyve::soft {

#ifdef ANYHYVE_THREAD_SANITIZER
class [[nodiscard]] KeptVectorState {
public:
    [[gnu::always_inline]] KeptVectorState()
    {
        for (unsigned i = 0; i < xsave_image::header_size; ++i)
            m_image[xsave_image::legacy_size + i] = 0;
        asm volatile("xsave64 %0" : "+m"(m_image) : "a"(static_cast<u32>(host_vector_unit().mask)), "d"(0u) : "memory");
    }
    [[gnu::always_inline]] ~KeptVectorState()
    {
        asm volatile("xrstor64 %0" : : "m"(m_image), "a"(static_cast<u32>(host_vector_unit().mask)), "d"(0u) : "memory");
    }
    KeptVectorState(KeptVectorState const&) = delete;
    KeptVectorState& operator=(KeptVectorState const&) = delete;

private:
    alignas(64) volatile u8 m_image[CpuState::xsave_size];
};
#else
struct [[maybe_unused]] KeptVectorState {};
#endif

class CacheLock {
public:
    void lock()
    {
        [[maybe_unused]] KeptVectorState const kept;
        m_mutex.lock();
    }
    bool try_lock()
    {
        [[maybe_unused]] KeptVectorState const kept;
        return m_mutex.try_lock();
    }
    void unlock()
    {
        [[maybe_unused]] KeptVectorState const kept;
        m_mutex.unlock();
    }

private:
    std::mutex m_mutex;
};

} // namespace anyhyve::soft
