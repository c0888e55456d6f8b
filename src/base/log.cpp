// Log lines and their rate limit.
#include "base/log.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

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

// Set once, by whoever starts; -1: the standard error output.
static std::atomic<int> s_file { -1 };

int set_file(char const* path)
{
    int const file = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (file < 0)
        return errno;
    int const before = s_file.exchange(file);
    if (before >= 0)
        ::close(before);
    return 0;
}

void write(Level level, std::string_view message)
{
    if (!enabled(level))
        return;
    int const file = s_file.load(std::memory_order_relaxed);
    // One call, so that lines of several threads do not mix.
    if (file < 0) {
        std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
        return;
    }
    std::string const line = fmt::format("{}\n", message);
    static_cast<void>(!::write(file, line.data(), line.size())); // where a log cannot be written, nobody can be told
}

void write_limited(RateLimit& limit, std::string message)
{
    if (u64 const dropped = limit.take_dropped())
        message += fmt::format(" ({} messages like this were dropped before it)", dropped);
    write(Level::warning, message);
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
        if (start + cost > now) {
            m_dropped.fetch_add(1, std::memory_order_relaxed);
            return false;
        }
        if (m_spent_until_ns.compare_exchange_weak(spent, start + cost, std::memory_order_relaxed))
            return true;
    }
}

} // namespace anyhyve::log
