// Waiting with epoll; timers through one timerfd, other threads through an eventfd, signals through a signalfd.
#include "host/event_loop.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>

#include "base/assert.hpp"

namespace anyhyve::host {

// Ids of our own files; callers' begin behind them.
static constexpr u64 s_wake_up = 0, s_timer = 1, s_first_id = 2;

static u32 events_of(EventLoop::Interest interest)
{
    switch (interest) {
    case EventLoop::Interest::read:
        return EPOLLIN | EPOLLRDHUP;
    case EventLoop::Interest::write:
        return EPOLLOUT;
    case EventLoop::Interest::read_write:
        return EPOLLIN | EPOLLRDHUP | EPOLLOUT;
    case EventLoop::Interest::none:
        break;
    }
    return 0;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create()
{
    Fd epoll(epoll_create1(EPOLL_CLOEXEC));
    Fd wake_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!epoll.valid() || !wake_up.valid() || !timer.valid())
        return Error::from_errno(errno, "event loop");
    std::unique_ptr<EventLoop> loop(new EventLoop(std::move(epoll), std::move(wake_up), std::move(timer)));
    TRY(loop->add(loop->m_wake_up.get(), s_wake_up, Interest::read));
    TRY(loop->add(loop->m_timer.get(), s_timer, Interest::read));
    return loop;
}

EventLoop::EventLoop(Fd epoll, Fd wake_up, Fd timer)
    : m_epoll(std::move(epoll))
    , m_wake_up(std::move(wake_up))
    , m_timer(std::move(timer))
    , m_next_id(s_first_id)
{
}

EventLoop::~EventLoop() = default;

Result<void> EventLoop::add(int file, u64 id, Interest interest)
{
    epoll_event event {};
    event.events = events_of(interest);
    event.data.u64 = id;
    if (epoll_ctl(m_epoll.get(), EPOLL_CTL_ADD, file, &event) != 0)
        return make_error(errno, "file descriptor {} cannot be waited for: {}", file, std::strerror(errno));
    return {};
}

Result<void> EventLoop::watch(int file, Interest interest, FileCallback callback)
{
    u64 const id = m_next_id++;
    TRY(add(file, id, interest));
    m_watches.emplace(id, Watch { file, std::make_shared<FileCallback>(std::move(callback)) });
    m_ids.insert_or_assign(file, id);
    return {};
}

void EventLoop::set_interest(int file, Interest interest)
{
    auto const found = m_ids.find(file);
    ASSERT(found != m_ids.end(), "the interest in a file changes that is not watched");
    epoll_event event {};
    event.events = events_of(interest);
    event.data.u64 = found->second;
    epoll_ctl(m_epoll.get(), EPOLL_CTL_MOD, file, &event);
}

void EventLoop::unwatch(int file)
{
    auto const found = m_ids.find(file);
    if (found == m_ids.end())
        return;
    epoll_ctl(m_epoll.get(), EPOLL_CTL_DEL, file, nullptr);
    m_watches.erase(found->second);
    m_ids.erase(found);
}

Result<void> EventLoop::watch_signals(std::vector<int> const& signals, std::function<void(int)> callback)
{
    ASSERT(!m_signals.valid(), "an event loop watches signals twice");
    sigset_t set;
    sigemptyset(&set);
    for (int const signal : signals)
        sigaddset(&set, signal);
    if (int const code = pthread_sigmask(SIG_BLOCK, &set, nullptr); code != 0)
        return Error::from_errno(code, "signals");
    m_signals = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!m_signals.valid())
        return Error::from_errno(errno, "signals");
    return watch(m_signals.get(), Interest::read, [this, call = std::move(callback)](Ready) {
        signalfd_siginfo info {};
        while (read(m_signals.get(), &info, sizeof info) == sizeof info)
            call(static_cast<int>(info.ssi_signo));
    });
}

EventLoop::TimerId EventLoop::call_later(std::chrono::nanoseconds delay, std::function<void()> callback)
{
    TimerId const id = m_next_id++;
    Clock::time_point const deadline = Clock::now() + std::max(delay, std::chrono::nanoseconds(0));
    m_deadlines.emplace(id, deadline);
    m_timers.emplace(std::pair(deadline, id), std::move(callback));
    set_timer();
    return id;
}

void EventLoop::cancel(TimerId id)
{
    auto const found = m_deadlines.find(id);
    if (found == m_deadlines.end())
        return;
    m_timers.erase({ found->second, id });
    m_deadlines.erase(found);
    set_timer();
}

// steady_clock is CLOCK_MONOTONIC in libstdc++, so its times can be given to the timerfd as they are.
void EventLoop::set_timer()
{
    itimerspec time {};
    if (!m_timers.empty()) {
        auto const nanoseconds = m_timers.begin()->first.first.time_since_epoch().count();
        time.it_value.tv_sec = nanoseconds / 1'000'000'000;
        time.it_value.tv_nsec = nanoseconds % 1'000'000'000;
    }
    timerfd_settime(m_timer.get(), TFD_TIMER_ABSTIME, &time, nullptr);
}

void EventLoop::run_timers()
{
    u64 expirations = 0;
    (void)!read(m_timer.get(), &expirations, sizeof expirations);
    // What a callback adds waits for the next round, even when it is due at once.
    Clock::time_point const now = Clock::now();
    TimerId const newest = m_next_id;
    for (auto at = m_timers.begin(); at != m_timers.end() && at->first.first <= now;) {
        if (at->first.second >= newest) {
            ++at;
            continue;
        }
        auto const callback = std::move(at->second);
        m_deadlines.erase(at->first.second);
        m_timers.erase(at);
        callback();
        at = m_timers.begin(); // the callback may have changed the map
    }
    set_timer();
}

void EventLoop::post(std::function<void()> work)
{
    {
        std::lock_guard const lock(m_mutex);
        m_posted.push_back(std::move(work));
    }
    u64 const one = 1;
    (void)!write(m_wake_up.get(), &one, sizeof one);
}

void EventLoop::stop()
{
    {
        std::lock_guard const lock(m_mutex);
        m_stopped = true;
    }
    u64 const one = 1;
    (void)!write(m_wake_up.get(), &one, sizeof one);
}

void EventLoop::run_posted()
{
    u64 count = 0;
    (void)!read(m_wake_up.get(), &count, sizeof count);
    std::vector<std::function<void()>> work;
    {
        std::lock_guard const lock(m_mutex);
        work.swap(m_posted);
    }
    for (auto const& call : work)
        call();
}

void EventLoop::dispatch(u64 id, u32 events)
{
    if (id == s_wake_up)
        return run_posted();
    if (id == s_timer)
        return run_timers();
    auto const found = m_watches.find(id);
    if (found == m_watches.end())
        return; // ended by a callback of this round
    auto const callback = found->second.callback;
    bool const hangup = events & (EPOLLHUP | EPOLLERR);
    (*callback)({ (events & (EPOLLIN | EPOLLRDHUP)) != 0 || hangup, (events & EPOLLOUT) != 0, hangup });
}

Result<void> EventLoop::run_once(std::chrono::milliseconds timeout)
{
    std::array<epoll_event, 32> events {};
    int const count = epoll_wait(m_epoll.get(), events.data(), static_cast<int>(events.size()), static_cast<int>(timeout.count()));
    if (count < 0 && errno != EINTR)
        return Error::from_errno(errno, "event loop");
    for (int i = 0; i < count; ++i)
        dispatch(events[static_cast<std::size_t>(i)].data.u64, events[static_cast<std::size_t>(i)].events);
    return {};
}

Result<void> EventLoop::run()
{
    for (;;) {
        {
            std::lock_guard const lock(m_mutex);
            if (m_stopped) {
                m_stopped = false;
                return {};
            }
        }
        TRY(run_once(std::chrono::milliseconds(-1)));
    }
}

} // namespace anyhyve::host
