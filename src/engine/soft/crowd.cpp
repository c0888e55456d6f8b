// Groups of virtual CPUs: see crowd.hpp.
#include "engine/soft/crowd.hpp"

#include <algorithm>

namespace anyhyve::soft {

Crowd::Group& Crowd::join()
{
    cpu_set_t host_cpus;
    CPU_ZERO(&host_cpus);
    // On a host of more CPUs than the set has room for this fails: the set stays empty, and counts as one that is never crowded.
    static_cast<void>(sched_getaffinity(0, sizeof host_cpus, &host_cpus));
    return join(host_cpus);
}

Crowd::Group& Crowd::join(cpu_set_t const& host_cpus)
{
    std::lock_guard const lock(m_mutex);
    auto const known = std::find_if(m_groups.begin(), m_groups.end(), [&](Group const& group) { return CPU_EQUAL(&group.host_cpus, &host_cpus); });
    if (known != m_groups.end())
        return *known;
    Group& group = m_groups.emplace_back();
    group.host_cpus = host_cpus;
    int const count = CPU_COUNT(&host_cpus);
    group.count = count > 0 ? static_cast<u32>(count) : ~u32 { 0 };
    return group;
}

} // namespace anyhyve::soft
