// Messages for the person who runs the program. Threads: any. Lines go to stderr, or to a file when one is set.
#pragma once

#include <atomic>
#include <string_view>

#include <fmt/core.h>

#include "base/integer.hpp"

namespace anyhyve::log {

enum class Level { error, warning, info, debug };

// Messages above this level are dropped. Default: info.
void set_level(Level);
// From now on lines go to this file, at its end. 0, or the errno value: then they go where they went before.
int set_file(char const* path);
bool enabled(Level);
void write(Level, std::string_view message);

template<typename... Arguments>
void error(fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    write(Level::error, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template<typename... Arguments>
void warning(fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    write(Level::warning, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template<typename... Arguments>
void info(fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    write(Level::info, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template<typename... Arguments>
void debug(fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    if (enabled(Level::debug))
        write(Level::debug, fmt::format(format, std::forward<Arguments>(arguments)...));
}

// One per place that a guest can reach: lets through a burst, then a few a second, and counts what it dropped.
class RateLimit {
public:
    explicit constexpr RateLimit(u32 burst = 10, u32 per_second = 2) : m_burst(burst), m_per_second(per_second) {}
    // True when a message may be written now.
    bool allow();
    // How many were not, since this was asked last.
    u64 take_dropped() { return m_dropped.exchange(0, std::memory_order_relaxed); }

private:
    u32 m_burst;
    u32 m_per_second;
    std::atomic<u64> m_spent_until_ns { 0 };
    std::atomic<u64> m_dropped { 0 };
};

// The message, and behind it how many like it were dropped before.
void write_limited(RateLimit&, std::string message);

// A guest did something odd: at most a burst of these, then `per_second`.
template<typename... Arguments>
void guest(RateLimit& limit, fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    if (limit.allow())
        write_limited(limit, fmt::format(format, std::forward<Arguments>(arguments)...));
}

} // namespace anyhyve::log
