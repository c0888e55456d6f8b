// One thread that waits for many things: files, signals, delays, and work that other threads hand over (epoll(7)).
// Threads: run() and all callbacks on one; post() and stop() from any; the rest from the thread of run(), or before it starts.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"
#include "host/fd.hpp"

namespace anyhyve::host {

class EventLoop {
public:
    enum class Interest { none, read, write, read_write };
    struct Ready {
        bool read;   // data, the end of it, or an error that the next read() tells
        bool write;
        bool hangup; // the other side is gone, or the file has failed
    };
    using FileCallback = std::function<void(Ready)>;
    using TimerId = u64; // never 0

    static Result<std::unique_ptr<EventLoop>> create();
    ~EventLoop();
    EventLoop(EventLoop const&) = delete;
    EventLoop& operator=(EventLoop const&) = delete;

    // Calls back as long as the file is ready. The file stays the caller's; unwatch() it before closing it. EEXIST: already watched.
    // EPERM: a plain file, which is always ready.
    Result<void> watch(int file, Interest, FileCallback);
    void set_interest(int file, Interest);
    // From then on its callback is not called, also for what is ready already. May be called by it.
    void unwatch(int file);

    // Takes these signals out of the calling thread's hands (threads started later inherit that) and calls back with their number.
    // Call it before other threads start. Once per loop.
    Result<void> watch_signals(std::vector<int> const& signals, std::function<void(int)> callback);

    // Calls back once, `delay` from now or a little later.
    TimerId call_later(std::chrono::nanoseconds delay, std::function<void()> callback);
    void cancel(TimerId); // one that is over: fine

    // Calls `work` on the loop's thread, in the order of posting.
    void post(std::function<void()> work);

    // Until stop(); one that came before counts.
    Result<void> run();
    // One round: waits up to `timeout` (negative: for ever) and calls what is ready.
    Result<void> run_once(std::chrono::milliseconds timeout);
    void stop();

private:
    struct Watch {
        int file;
        std::shared_ptr<FileCallback> callback; // shared with the call that runs: it may end the watch
    };
    using Clock = std::chrono::steady_clock;

    EventLoop(Fd epoll, Fd wake_up, Fd timer);
    Result<void> add(int file, u64 id, Interest);
    void dispatch(u64 id, u32 events);
    void run_posted();
    void run_timers();
    void set_timer();

    Fd m_epoll, m_wake_up, m_timer, m_signals;
    u64 m_next_id;
    std::unordered_map<u64, Watch> m_watches;  // an epoll event carries the id: a number that is never used again, unlike the file's
    std::unordered_map<int, u64> m_ids;
    std::map<std::pair<Clock::time_point, TimerId>, std::function<void()>> m_timers;
    std::unordered_map<TimerId, Clock::time_point> m_deadlines;

    std::mutex m_mutex; // protects m_posted and m_stopped
    std::vector<std::function<void()>> m_posted;
    bool m_stopped = false;
};

} // namespace anyhyve::host
