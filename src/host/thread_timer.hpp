// A timer that interrupts one thread with a signal, wherever the thread is: for looking at what it does.
#pragma once

#include <csignal>
#include <ctime>

namespace anyhyve::host {

class ThreadTimer {
public:
    using Handler = void (*)(int signal, siginfo_t*, void* context);

    // Of the calling thread, and not set off yet. The signal is let in until this ends, on the thread's signal stack where it has one; system calls that it
    // interrupts go on. `handler` is the process's for this signal from now on; a signal may still reach it when the timer is gone.
    ThreadTimer(int signal, Handler handler);
    ~ThreadTimer();
    ThreadTimer(ThreadTimer const&) = delete;
    ThreadTimer& operator=(ThreadTimer const&) = delete;

    // False: the host has no timer left, and nothing will ever come.
    bool exists() const { return m_exists; }
    // From now on; async-signal-safe. What was set before is forgotten.
    void fire_once(long nanoseconds) { set(nanoseconds, 0); }
    void fire_every(long nanoseconds) { set(nanoseconds, nanoseconds); }

private:
    void set(long first, long interval);

    timer_t m_timer {};
    bool m_exists;
    sigset_t m_previous_mask;
};

} // namespace anyhyve::host
