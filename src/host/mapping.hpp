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
    enum class Access { read, read_write, read_execute };
    enum class Sharing { shared, copy_on_write };
    // Where it lies: anywhere, where huge pages fit it, or where 31 bits name it.
    enum class Place { anywhere, huge_page, below_2gib };
    static constexpr u64 huge_page_size = 2 * MiB;

    // The first `size` bytes of an open file (which may be closed afterwards). Touching pages beyond its end raises SIGBUS: check its
    // size before. `object` names the file in messages.
    static Result<Mapping> of_file(int file, u64 size, Access access, Sharing sharing, std::string const& object, Place place = Place::anywhere)
    {
        int const protection = access == Access::read ? PROT_READ : access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ | PROT_EXEC;
        return create(file, size, protection, sharing == Sharing::shared ? MAP_SHARED : MAP_PRIVATE, place, object);
    }
    // Fresh zero pages of this process alone.
    static Result<Mapping> anonymous(u64 size, Place place = Place::anywhere)
    {
        return create(-1, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, place, "memory");
    }
    // Addresses without memory, for the owner to map over. `object` names what they are for.
    static Result<Mapping> reserve(u64 size, std::string const& object, Place place = Place::anywhere)
    {
        return create(-1, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, place, object);
    }

    // Puts memory that is in use, and aligned to huge pages in address and size, into huge pages of the host, whatever its settings say
    // (Linux 6.1). False, and nothing changed, where it has none to give. Takes a fraction of a millisecond each.
    static bool make_huge(u8* start, u64 size)
    {
        constexpr int advice_collapse = 25; // MADV_COLLAPSE; the name is missing from some C libraries
        int const old_errno = errno;
        // SAFETY: contents and addresses stay as they are.
        bool const done = madvise(start, size, advice_collapse) == 0;
        errno = old_errno;
        return done;
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

    static Result<Mapping> create(int file, u64 size, int protection, int flags, Place place, std::string const& object)
    {
        Mapping room;
        void* wanted = nullptr;
        if (place == Place::huge_page) {
            room = TRY(reserve(size + huge_page_size, object));
            // SAFETY: an address as a number, only to align it.
            wanted = room.m_start + (-reinterpret_cast<u64>(room.m_start) & (huge_page_size - 1));
            flags |= MAP_FIXED;
        } else if (place == Place::below_2gib)
            flags |= MAP_32BIT;
        // SAFETY: the kernel picks the place, or it lies in `room`; the object that is returned is the mapping's only owner.
        void* start = mmap(wanted, size, protection, flags, file, 0);
        if (start == MAP_FAILED)
            return make_error(errno, "{}: cannot map {} bytes: {}", object, size, std::strerror(errno));
        room.give_back_around(static_cast<u8*>(start), size);
        return Mapping(static_cast<u8*>(start), size);
    }
    // What lies inside is another's from now on.
    void give_back_around(u8* start, u64 size)
    {
        if (!m_start)
            return;
        u8* const end = m_start + m_size;
        if (start != m_start)
            munmap(m_start, static_cast<u64>(start - m_start));
        if (start + size != end)
            munmap(start + size, static_cast<u64>(end - (start + size)));
        m_start = nullptr;
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
