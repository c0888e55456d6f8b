// Log lines and their rate limit.
#include "base/log.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace anyhyve::log {

static std::atomic<Level> s_level { Level::info };

void set_level(Level level)
{
    s_level.store(level, std::memory_order_relaxed);
}

bool enabled(Level level)
{
    return level <= s_level.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view message)
{
    if (!enabled(level))
        return;
    // One call, so that lines of several threads do not mix.
    std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
}

// A virtual clock of "spent" time: each message costs 1/per_second; up to `burst` messages may be owed.
bool RateLimit::allow()
{
    constexpr u64 second = 1'000'000'000;
    u64 const cost = second / m_per_second;
    u64 const now = static_cast<u64>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
    u64 spent = m_spent_until_ns.load(std::memory_order_relaxed);
    for (;;) {
        u64 const start = std::max(spent, now > m_burst * cost ? now - m_burst * cost : 0);
        if (start + cost > now)
            return false;
        if (m_spent_until_ns.compare_exchange_weak(spent, start + cost, std::memory_order_relaxed))
            return true;
    }
}

} // namespace anyhyve::log
