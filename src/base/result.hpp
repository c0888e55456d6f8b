// A value, or the sentence that says why there is none: how host trouble travels upward.
#pragma once

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include <fmt/core.h>

namespace anyhyve {

// What went wrong, as a sentence that names the object, and the errno value behind it (0: none).
class Error {
public:
    explicit Error(std::string message, int code = 0) : m_message(std::move(message)), m_code(code) {}

    // "OBJECT: No such file or directory", from an errno value.
    static Error from_errno(int code, std::string_view object)
    {
        return Error(fmt::format("{}: {}", object, std::strerror(code)), code);
    }

    std::string const& message() const { return m_message; }
    int code() const { return m_code; }

private:
    std::string m_message;
    int m_code;
};

template<typename T>
class [[nodiscard]] Result {
public:
    Result(T value) : m_value(std::move(value)) {}
    Result(Error error) : m_error(std::move(error)) {}

    bool ok() const { return m_value.has_value(); }
    T& value() & { return *m_value; }
    T const& value() const& { return *m_value; }
    T value() && { return std::move(*m_value); } // by value, so that `for (auto& x : list().value())` does not dangle
    T release_value() { return std::move(*m_value); }
    Error const& error() const& { return *m_error; }
    Error error() && { return std::move(*m_error); }
    Error release_error() { return std::move(*m_error); }

private:
    std::optional<T> m_value;
    std::optional<Error> m_error;
};

template<>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : m_error(std::move(error)) {}

    bool ok() const { return !m_error.has_value(); }
    void release_value() {}
    Error const& error() const& { return *m_error; }
    Error error() && { return std::move(*m_error); }
    Error release_error() { return std::move(*m_error); }

private:
    std::optional<Error> m_error;
};

template<typename... Arguments>
Error make_error(int code, fmt::format_string<Arguments...> format, Arguments&&... arguments)
{
    return Error(fmt::format(format, std::forward<Arguments>(arguments)...), code);
}

} // namespace anyhyve

// TRY(expression): the value of a Result, or return its error from this function. The counter keeps one TRY inside another apart.
#define TRY(expression) ANYHYVE_TRY_COUNTED(__COUNTER__, expression)
#define ANYHYVE_TRY_COUNTED(number, expression) ANYHYVE_TRY_NUMBERED(number, expression)
#define ANYHYVE_TRY_NUMBERED(number, expression) ANYHYVE_TRY_NAMED(try_result_##number, expression)
#define ANYHYVE_TRY_NAMED(name, expression)                                                                           \
    __extension__({                                                                                                   \
        auto name = (expression);                                                                                     \
        if (!name.ok())                                                                                               \
            return name.release_error();                                                                              \
        name.release_value();                                                                                         \
    })
