// Memory of the host that unmaps itself: a file, or fresh pages.
#pragma once

#include <sys/mman.h>

#include <span>
#include <string>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::host {

class Mapping {
public:
    enum class Access { read, read_write };
    enum class Sharing { shared, copy_on_write };

    // The first `size` bytes of an open file (which may be closed afterwards). Touching pages beyond its end raises SIGBUS: check its
    // size before. `object` names the file in messages.
    static Result<Mapping> of_file(int file, u64 size, Access access, Sharing sharing, std::string const& object)
    {
        int const protection = access == Access::read ? PROT_READ : PROT_READ | PROT_WRITE;
        return create(file, size, protection, sharing == Sharing::shared ? MAP_SHARED : MAP_PRIVATE, object);
    }
    // Fresh zero pages of this process alone.
    static Result<Mapping> anonymous(u64 size)
    {
        return create(-1, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, "memory");
    }

    Mapping() = default;
    Mapping(Mapping&& other) noexcept : m_start(std::exchange(other.m_start, nullptr)), m_size(std::exchange(other.m_size, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept
    {
        if (this != &other) {
            unmap();
            m_start = std::exchange(other.m_start, nullptr);
            m_size = std::exchange(other.m_size, 0);
        }
        return *this;
    }
    Mapping(Mapping const&) = delete;
    Mapping& operator=(Mapping const&) = delete;
    ~Mapping() { unmap(); }

    u8* data() const { return m_start; }
    u64 size() const { return m_size; }
    std::span<u8> bytes() const { return { m_start, m_size }; }

private:
    Mapping(u8* start, u64 size) : m_start(start), m_size(size) {}

    static Result<Mapping> create(int file, u64 size, int protection, int flags, std::string const& object)
    {
        // SAFETY: the kernel picks the place; the object that is returned is the mapping's only owner.
        void* start = mmap(nullptr, size, protection, flags, file, 0);
        if (start == MAP_FAILED)
            return make_error(errno, "{}: cannot map {} bytes: {}", object, size, std::strerror(errno));
        return Mapping(static_cast<u8*>(start), size);
    }
    void unmap()
    {
        if (m_start)
            munmap(m_start, m_size);
    }

    u8* m_start = nullptr;
    u64 m_size = 0;
};

} // namespace anyhyve::host
