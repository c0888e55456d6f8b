// Timers of one thread, by timer_create(2).
#include "host/thread_timer.hpp"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace anyhyve::host {

ThreadTimer::ThreadTimer(int signal, Handler handler)
{
    // SAFETY: what a handler may do is its author's care.
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigaction(signal, &action, nullptr);
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, signal);
    pthread_sigmask(SIG_UNBLOCK, &wanted, &m_previous_mask);
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid)); // sigev_notify_thread_id, which glibc 2.36 does not name
    m_exists = timer_create(CLOCK_MONOTONIC, &event, &m_timer) == 0;
}

ThreadTimer::~ThreadTimer()
{
    if (m_exists)
        timer_delete(m_timer);
    pthread_sigmask(SIG_SETMASK, &m_previous_mask, nullptr);
}

void ThreadTimer::set(long first, long interval)
{
    itimerspec const times { .it_interval = { .tv_sec = 0, .tv_nsec = interval }, .it_value = { .tv_sec = 0, .tv_nsec = first } };
    if (m_exists)
        timer_settime(m_timer, 0, &times, nullptr);
}

} // namespace anyhyve::host
