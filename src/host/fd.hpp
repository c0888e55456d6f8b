// A file descriptor that closes itself.
#pragma once

#include <unistd.h>

#include <utility>

namespace anyhyve::host {

class Fd {
public:
    Fd() = default;
    explicit Fd(int descriptor) : m_descriptor(descriptor) {}
    Fd(Fd&& other) noexcept : m_descriptor(std::exchange(other.m_descriptor, -1)) {}
    Fd& operator=(Fd&& other) noexcept
    {
        if (this != &other)
            close(std::exchange(m_descriptor, std::exchange(other.m_descriptor, -1)));
        return *this;
    }
    Fd(Fd const&) = delete;
    Fd& operator=(Fd const&) = delete;
    ~Fd() { close(m_descriptor); }

    bool valid() const { return m_descriptor >= 0; }
    int get() const { return m_descriptor; } // -1: none
    int release() { return std::exchange(m_descriptor, -1); }
    void reset() { close(std::exchange(m_descriptor, -1)); }

private:
    static void close(int descriptor)
    {
        if (descriptor >= 0)
            ::close(descriptor);
    }

    int m_descriptor = -1;
};

} // namespace anyhyve::host
