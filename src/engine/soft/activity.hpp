// How one vCPU gets the others of its machine to stand still, and how each says what it is about.
// A vCPU that runs cannot be waited for while it waits for the cache's lock or in a device, so it says so first; and it becomes running
// again only when nobody wants the others to stand.
#pragma once

#include <mutex>

#include "engine/soft/code_cache.hpp"

namespace anyhyve::soft {

// cpu.presence
enum class Presence : u8 {
    outside,   // uses no look-aside entry and holds no reference into the code cache
    in_device, // uses no look-aside entry, but will return to the code it came from
    running,
};

inline void become_running(Cpu& cpu, CodeCache& cache, Presence meanwhile)
{
    for (;;) {
        cpu.presence.store(static_cast<u8>(Presence::running), std::memory_order_seq_cst);
        if (!cache.standstill_wanted())
            return;
        cpu.presence.store(static_cast<u8>(meanwhile), std::memory_order_seq_cst);
        std::lock_guard wait(cache.lock()); // held by whoever wants it, until it is over
    }
}

// From outside: while one exists, this vCPU runs, and nobody else touches what it has of pages and code.
class [[nodiscard]] RunningScope {
public:
    RunningScope(Cpu& cpu, CodeCache& cache) : m_cpu(cpu) { become_running(cpu, cache, Presence::outside); }
    ~RunningScope() { m_cpu.presence.store(static_cast<u8>(Presence::outside), std::memory_order_seq_cst); }
    RunningScope(RunningScope const&) = delete;
    RunningScope& operator=(RunningScope const&) = delete;

private:
    Cpu& m_cpu;
};

// Between blocks: stands still when another vCPU wants it.
inline void stand_if_wanted(Cpu& cpu, CodeCache& cache)
{
    if (__builtin_expect(cache.standstill_wanted(), 0)) {
        cpu.presence.store(static_cast<u8>(Presence::outside), std::memory_order_seq_cst);
        become_running(cpu, cache, Presence::outside);
    }
}

// The cache's lock, as a vCPU takes it.
class [[nodiscard]] VcpuLock {
public:
    VcpuLock(Cpu& cpu, CodeCache& cache, Presence meanwhile) : m_cache(cache)
    {
        if (m_cache.lock().try_lock())
            return;
        cpu.presence.store(static_cast<u8>(meanwhile), std::memory_order_seq_cst);
        m_cache.lock().lock();
        cpu.presence.store(static_cast<u8>(Presence::running), std::memory_order_seq_cst);
    }
    ~VcpuLock()
    {
        if (!m_kept)
            m_cache.lock().unlock();
    }
    // Somebody else will unlock it.
    void keep() { m_kept = true; }
    VcpuLock(VcpuLock const&) = delete;
    VcpuLock& operator=(VcpuLock const&) = delete;

private:
    CodeCache& m_cache;
    bool m_kept = false;
};

// Around calls of devices, which may wait for other threads.
class [[nodiscard]] DeviceScope {
public:
    DeviceScope(Cpu& cpu, CodeCache& cache) : m_cpu(cpu), m_cache(cache) { m_cpu.presence.store(static_cast<u8>(Presence::in_device), std::memory_order_seq_cst); }
    ~DeviceScope() { become_running(m_cpu, m_cache, Presence::in_device); }
    DeviceScope(DeviceScope const&) = delete;
    DeviceScope& operator=(DeviceScope const&) = delete;

private:
    Cpu& m_cpu;
    CodeCache& m_cache;
};

} // namespace anyhyve::soft
