// The machine clock on the host's TSC, and the thread that fires its timers.
#include "vmm/clock.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "host/thread.hpp"
#include "host/tsc.hpp"

namespace anyhyve {

namespace {

// Machine time from ticks: a multiplication by 10^9/frequency in fixed point. 50 bits of fraction keep 2^64 ticks within 128 bits.
class Rate {
public:
    explicit Rate(u64 frequency)
        : m_frequency(frequency)
        , m_multiplier(static_cast<u64>((u128 { 1'000'000'000 } << s_shift) / frequency))
    {
    }
    u64 frequency() const { return m_frequency; }
    u64 to_nanoseconds(u64 ticks) const { return static_cast<u64>((u128 { ticks } * m_multiplier) >> s_shift); }
    u64 to_ticks(u64 nanoseconds) const { return static_cast<u64>(u128 { nanoseconds } * m_frequency / 1'000'000'000); }

private:
    static constexpr unsigned s_shift = 50;
    u64 m_frequency;
    u64 m_multiplier;
};

// The time itself: host TSC plus an offset while it runs, a remembered value while it stands. Readers take no lock: a sequence
// count, odd during a change, tells them when what they read does not belong together.
class TickCounter {
public:
    explicit TickCounter(u64 ticks) : m_offset(ticks - host::read_tsc()) {}

    u64 read() const
    {
        for (;;) {
            u64 const sequence = m_sequence.load(std::memory_order_acquire);
            bool const running = m_running.load(std::memory_order_acquire);
            u64 const frozen = m_frozen.load(std::memory_order_acquire);
            u64 const offset = m_offset.load(std::memory_order_acquire);
            u64 const ticks = running ? host::read_tsc() + offset : frozen;
            if ((sequence & 1) == 0 && m_sequence.load(std::memory_order_relaxed) == sequence)
                return ticks;
        }
    }
    u64 offset() const { return m_offset.load(std::memory_order_acquire); }
    bool running() const { return m_running.load(std::memory_order_acquire); }

    // Both: one thread at a time.
    void stop()
    {
        m_sequence.fetch_add(1, std::memory_order_acq_rel);
        m_frozen.store(host::read_tsc() + offset(), std::memory_order_release);
        m_running.store(false, std::memory_order_release);
        m_sequence.fetch_add(1, std::memory_order_acq_rel);
    }
    void start()
    {
        m_sequence.fetch_add(1, std::memory_order_acq_rel);
        m_offset.store(m_frozen.load(std::memory_order_relaxed) - host::read_tsc(), std::memory_order_release);
        m_running.store(true, std::memory_order_release);
        m_sequence.fetch_add(1, std::memory_order_acq_rel);
    }

private:
    std::atomic<u64> m_sequence { 0 };
    std::atomic<bool> m_running { true };
    std::atomic<u64> m_frozen { 0 };
    std::atomic<u64> m_offset;
};

class HostTimer;

// Armed timers, earliest first: a binary heap in which each timer knows its place, so that arming and cancelling never search.
// It allocates only in reserve().
class TimerHeap {
public:
    void reserve(std::size_t timers) { m_heap.reserve(timers); }
    HostTimer* first() const { return m_heap.empty() ? nullptr : m_heap.front(); }
    void insert(HostTimer&);
    void remove(HostTimer&);

private:
    void place(std::size_t index, HostTimer&);
    void sift(std::size_t index);
    std::vector<HostTimer*> m_heap;
};

// What timers and clock share; it lives until the last of them is gone.
struct TimerQueue {
    std::mutex mutex; // protects all below, and the fields of every timer. No callback is called with it held.
    std::condition_variable wake;        // the timer thread sleeps on it
    std::condition_variable callback_done;
    TimerHeap heap;
    std::size_t timers = 0;
    HostTimer* running = nullptr;        // whose callback is being called
    std::thread::id thread;
    u64 sleeping_until = Clock::never;
    bool paused = false;
    bool ending = false;

    // Until the callback of `timer` (any, when null) has returned; at once on the timer thread itself.
    void wait_for_callback(std::unique_lock<std::mutex>& lock, HostTimer const* timer)
    {
        if (std::this_thread::get_id() != thread)
            callback_done.wait(lock, [&] { return timer ? running != timer : running == nullptr; });
    }
};

class HostTimer final : public Clock::Timer {
public:
    HostTimer(std::shared_ptr<TimerQueue> queue, std::function<void()> callback)
        : m_queue(std::move(queue))
        , m_callback(std::make_shared<std::function<void()>>(std::move(callback)))
    {
        std::lock_guard const lock(m_queue->mutex);
        m_queue->heap.reserve(++m_queue->timers);
    }
    ~HostTimer() override
    {
        cancel();
        std::lock_guard const lock(m_queue->mutex);
        --m_queue->timers;
        if (m_queue->running == this)
            m_queue->running = nullptr; // destroyed by its own callback
    }

    void arm(Clock::Nanoseconds deadline) override
    {
        std::lock_guard const lock(m_queue->mutex);
        m_queue->heap.remove(*this);
        m_deadline = deadline;
        if (deadline == Clock::never)
            return;
        m_queue->heap.insert(*this);
        if (deadline < m_queue->sleeping_until && !m_queue->paused) {
            m_queue->sleeping_until = deadline; // one wake-up is enough for several earlier deadlines
            m_queue->wake.notify_one();
        }
    }

    void cancel() override
    {
        std::unique_lock lock(m_queue->mutex);
        m_queue->heap.remove(*this);
        m_queue->wait_for_callback(lock, this);
        m_queue->heap.remove(*this); // the callback may have armed it again
    }

private:
    friend class TimerHeap;
    friend class HostClock;
    static constexpr std::size_t s_not_armed = ~std::size_t { 0 };

    std::shared_ptr<TimerQueue> m_queue;
    std::shared_ptr<std::function<void()>> m_callback; // shared with the call that runs: it may destroy this timer
    Clock::Nanoseconds m_deadline = Clock::never;
    std::size_t m_index = s_not_armed;
};

void TimerHeap::place(std::size_t index, HostTimer& timer)
{
    m_heap[index] = &timer;
    timer.m_index = index;
}

void TimerHeap::sift(std::size_t index)
{
    HostTimer& timer = *m_heap[index];
    for (; index > 0 && timer.m_deadline < m_heap[(index - 1) / 2]->m_deadline; index = (index - 1) / 2)
        place(index, *m_heap[(index - 1) / 2]);
    for (;;) {
        std::size_t child = 2 * index + 1;
        if (child + 1 < m_heap.size() && m_heap[child + 1]->m_deadline < m_heap[child]->m_deadline)
            ++child;
        if (child >= m_heap.size() || timer.m_deadline <= m_heap[child]->m_deadline)
            break;
        place(index, *m_heap[child]);
        index = child;
    }
    place(index, timer);
}

void TimerHeap::insert(HostTimer& timer)
{
    m_heap.push_back(&timer);
    timer.m_index = m_heap.size() - 1;
    sift(timer.m_index);
}

void TimerHeap::remove(HostTimer& timer)
{
    std::size_t const index = timer.m_index;
    if (index == HostTimer::s_not_armed)
        return;
    timer.m_index = HostTimer::s_not_armed;
    HostTimer& last = *m_heap.back();
    m_heap.pop_back();
    if (&last != &timer) {
        place(index, last);
        sift(index);
    }
}

class HostClock final : public Clock {
public:
    explicit HostClock(Nanoseconds start)
        : m_rate(host::tsc_frequency().hertz)
        , m_ticks(m_rate.to_ticks(start))
        , m_queue(std::make_shared<TimerQueue>())
    {
        auto thread = host::start_thread("clock", [this] { fire_timers(); });
        ASSERT(thread.ok(), "the timer thread of the machine clock does not start");
        m_thread = thread.release_value();
    }
    ~HostClock() override
    {
        {
            std::lock_guard const lock(m_queue->mutex);
            m_queue->ending = true;
            m_queue->wake.notify_one();
        }
        m_thread.join();
    }

    Nanoseconds now() override { return m_rate.to_nanoseconds(m_ticks.read()); }
    u64 tsc() override { return m_ticks.read(); }
    u64 tsc_frequency() const override { return m_rate.frequency(); }
    u64 tsc_offset() const override { return m_ticks.offset(); }
    Nanoseconds from_tsc(u64 tsc) const override { return m_rate.to_nanoseconds(tsc); }

    std::unique_ptr<Timer> create_timer(std::function<void()> callback) override
    {
        return std::make_unique<HostTimer>(m_queue, std::move(callback));
    }

    void pause() override
    {
        std::unique_lock lock(m_queue->mutex);
        if (!m_queue->paused) {
            m_queue->paused = true;
            m_ticks.stop();
        }
        m_queue->wait_for_callback(lock, nullptr);
    }
    void resume() override
    {
        std::lock_guard const lock(m_queue->mutex);
        if (!m_queue->paused)
            return;
        m_queue->paused = false;
        m_ticks.start();
        m_queue->wake.notify_one();
    }

private:
    void fire_timers();
    void call(HostTimer&, std::unique_lock<std::mutex>&);
    void sleep_until(Nanoseconds deadline, std::unique_lock<std::mutex>&);

    Rate m_rate;
    TickCounter m_ticks;
    std::shared_ptr<TimerQueue> m_queue;
    std::thread m_thread;
};

void HostClock::fire_timers()
{
    host::set_precise_wakeups();
    TimerQueue& queue = *m_queue;
    std::unique_lock lock(queue.mutex);
    queue.thread = std::this_thread::get_id();
    while (!queue.ending) {
        HostTimer* timer = queue.paused ? nullptr : queue.heap.first();
        if (timer && timer->m_deadline <= now())
            call(*timer, lock);
        else
            sleep_until(timer ? timer->m_deadline : never, lock);
    }
}

void HostClock::call(HostTimer& timer, std::unique_lock<std::mutex>& lock)
{
    m_queue->heap.remove(timer);
    m_queue->running = &timer;
    auto const callback = timer.m_callback;
    lock.unlock();
    (*callback)();
    lock.lock();
    m_queue->running = nullptr;
    m_queue->callback_done.notify_all();
}

// Returns at the deadline, when something changed, or earlier for no reason: the caller looks again.
void HostClock::sleep_until(Nanoseconds deadline, std::unique_lock<std::mutex>& lock)
{
    m_queue->sleeping_until = deadline;
    if (deadline == never) {
        m_queue->wake.wait(lock);
    } else {
        Nanoseconds const time = now();
        // A day at most: far deadlines do not overflow the host's clock, and its rate may differ a little from the TSC's.
        Nanoseconds const distance = std::min<Nanoseconds>(deadline > time ? deadline - time : 0, 86'400'000'000'000);
        m_queue->wake.wait_until(lock, std::chrono::steady_clock::now() + std::chrono::nanoseconds(distance));
    }
    m_queue->sleeping_until = 0; // awake: nobody needs to wake it
}

} // namespace

std::unique_ptr<Clock> create_host_clock(Clock::Nanoseconds start)
{
    if (!host::tsc_is_invariant())
        log::warning("The host's TSC is not invariant: time in the guest may run unevenly.");
    return std::make_unique<HostClock>(start);
}

} // namespace anyhyve
