// Do a machine's virtual CPUs want more host CPUs than there are? Then one that waits in a loop takes the time of the one it waits for.
// Virtual CPUs that may run on the same host CPUs form a group: all of them, unless they are pinned.
// Threads: join() with a virtual CPU's own thread, outside run(); the rest from any.
#pragma once

#include <atomic>
#include <list>
#include <mutex>

#include <sched.h>

#include "base/integer.hpp"

namespace anyhyve::soft {

class Crowd {
public:
    struct Group {
        cpu_set_t host_cpus;
        u32 count = 1;               // of host_cpus
        std::atomic<u32> busy { 0 }; // virtual CPUs that run, or wait without sleeping

        bool is_crowded() const { return busy.load(std::memory_order_relaxed) > count; }
    };

    // The group of the calling thread, as it is bound to host CPUs now. It lives as long as the crowd.
    Group& join();
    Group& join(cpu_set_t const& host_cpus);

private:
    std::mutex m_mutex;
    std::list<Group> m_groups;
};

// One more virtual CPU of the group is busy.
class [[nodiscard]] BusyScope {
public:
    explicit BusyScope(Crowd::Group& group) : m_group(group) { m_group.busy.fetch_add(1, std::memory_order_relaxed); }
    ~BusyScope() { m_group.busy.fetch_sub(1, std::memory_order_relaxed); }
    BusyScope(BusyScope const&) = delete;
    BusyScope& operator=(BusyScope const&) = delete;

private:
    Crowd::Group& m_group;
};

// One that was busy sleeps.
class [[nodiscard]] IdleScope {
public:
    explicit IdleScope(Crowd::Group& group) : m_group(group) { m_group.busy.fetch_sub(1, std::memory_order_relaxed); }
    ~IdleScope() { m_group.busy.fetch_add(1, std::memory_order_relaxed); }
    IdleScope(IdleScope const&) = delete;
    IdleScope& operator=(IdleScope const&) = delete;

private:
    Crowd::Group& m_group;
};

} // namespace anyhyve::soft
