// Starting, naming and binding threads.
#include "host/thread.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <charconv>
#include <system_error>

namespace anyhyve::host {

Result<std::thread> start_thread(std::string_view name, std::function<void()> body)
{
    // A thread inherits the mask of its creator, so the mask is set before it exists.
    sigset_t blocked, previous;
    sigfillset(&blocked);
    for (int synchronous : { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP })
        sigdelset(&blocked, synchronous);
    pthread_sigmask(SIG_SETMASK, &blocked, &previous);
    std::thread thread;
    int code = 0;
    try {
        thread = std::thread([thread_name = std::string(name), run = std::move(body)] {
            set_thread_name(thread_name);
            run();
        });
    } catch (std::system_error const& error) {
        code = error.code().value();
    }
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
    if (code != 0)
        return make_error(code, "cannot start the thread '{}': {}", name, std::strerror(code));
    return thread;
}

void set_thread_name(std::string_view name)
{
    pthread_setname_np(pthread_self(), std::string(name.substr(0, 15)).c_str());
}

void set_precise_wakeups()
{
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

Result<void> pin_thread(std::vector<unsigned> const& cpus)
{
    if (cpus.empty())
        return Error("cannot bind a thread to an empty list of host CPUs", EINVAL);
    unsigned const highest = *std::max_element(cpus.begin(), cpus.end());
    cpu_set_t* set = CPU_ALLOC(highest + 1);
    if (!set)
        return Error::from_errno(ENOMEM, "set of host CPUs");
    std::size_t const size = CPU_ALLOC_SIZE(highest + 1);
    CPU_ZERO_S(size, set);
    for (unsigned const cpu : cpus)
        CPU_SET_S(cpu, size, set);
    int const code = pthread_setaffinity_np(pthread_self(), size, set);
    CPU_FREE(set);
    if (code != 0)
        return make_error(code, "cannot bind a thread to host CPU {}{}: {}", cpus.front(), cpus.size() > 1 ? " and others" : "", std::strerror(code));
    return {};
}

Result<std::vector<unsigned>> parse_cpu_list(std::string_view list)
{
    auto const wrong = [&] { return make_error(EINVAL, "'{}' is not a list of CPUs such as 0-3,8", list); };
    std::vector<unsigned> cpus;
    char const* at = list.data();
    char const* const end = at + list.size();
    for (;;) {
        unsigned first = 0, last = 0;
        auto parsed = std::from_chars(at, end, first);
        if (parsed.ec != std::errc {} || first > 65535)
            return wrong();
        last = first;
        if (parsed.ptr != end && *parsed.ptr == '-') {
            parsed = std::from_chars(parsed.ptr + 1, end, last);
            if (parsed.ec != std::errc {} || last > 65535 || last < first)
                return wrong();
        }
        for (unsigned cpu = first; cpu <= last; ++cpu)
            cpus.push_back(cpu);
        if (parsed.ptr == end)
            break;
        if (*parsed.ptr != ',')
            return wrong();
        at = parsed.ptr + 1;
    }
    std::sort(cpus.begin(), cpus.end());
    cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
    return cpus;
}

} // namespace anyhyve::host
