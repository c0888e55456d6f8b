// Guest RAM as one mapping between two guard regions.
#include "vmm/guest_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/bits.hpp"

namespace anyhyve {

// Huge pages want 2 MiB alignment; the guards are large enough that a copy that runs over hits them, not another mapping.
static constexpr u64 s_alignment = 2 * MiB;
static constexpr u64 s_guard = 16 * MiB;
static constexpr u64 s_largest = u64 { 1 } << 46; // half of what a process can address

namespace {

struct Reservation {
    u8* start;
    u64 size;
    u8* base; // aligned; `guard` bytes or more lie before it and behind the RAM
};

Result<Reservation> reserve(u64 size, std::string const& name)
{
    if (size == 0 || size > s_largest || !is_aligned(size, GuestMemory::page_size))
        return make_error(EINVAL, "{}: {} bytes is no size for guest memory: it must be a multiple of 4096, up to 64 TiB", name, size);
    u64 const total = s_guard + s_alignment + size + s_guard;
    // SAFETY: a fresh reservation without access rights; only its middle is ever mapped over.
    void* start = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return make_error(errno, "{}: no room in the address space for {} bytes of guest memory: {}", name, size, std::strerror(errno));
    // SAFETY: an address as a number, only to align it.
    u64 const address = reinterpret_cast<u64>(start);
    u64 const aligned = align_up(address + s_guard, s_alignment);
    return Reservation { static_cast<u8*>(start), total, static_cast<u8*>(start) + (aligned - address) };
}

// Maps RAM into the middle of a reservation; gives the reservation back when that fails.
Result<void> map_ram(Reservation const& reservation, int file, u64 size, int flags, std::string const& name)
{
    // SAFETY: MAP_FIXED replaces pages of our own reservation, which holds base..base+size whole.
    void* ram = mmap(reservation.base, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, file, 0);
    if (ram == MAP_FAILED) {
        Error error = make_error(errno, "{}: cannot map {} bytes of guest memory: {}", name, size, std::strerror(errno));
        munmap(reservation.start, reservation.size);
        return error;
    }
    // Advice: where the kernel does not follow it, nothing is lost but speed or disk space for a core file.
    madvise(ram, size, MADV_HUGEPAGE);
    madvise(ram, size, MADV_DONTDUMP);
    return {};
}

} // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::map_file(int file, u64 size, std::string const& name)
{
    struct stat status {};
    if (fstat(file, &status) != 0)
        return Error::from_errno(errno, name);
    Reservation const reservation = TRY(reserve(size, name));
    if (static_cast<u64>(status.st_size) < size && ftruncate(file, static_cast<off_t>(size)) != 0) {
        int const code = errno;
        munmap(reservation.start, reservation.size);
        return make_error(code, "{}: cannot grow to {} bytes: {}", name, size, std::strerror(code));
    }
    TRY(map_ram(reservation, file, size, MAP_SHARED, name));
    // Nothing is lost but speed without a descriptor.
    return std::unique_ptr<GuestMemory>(new GuestMemory(reservation.start, reservation.size, reservation.base, size, fcntl(file, F_DUPFD_CLOEXEC, 0)));
}

Result<std::unique_ptr<GuestMemory>> GuestMemory::create_anonymous(u64 size)
{
    std::string const name = "anonymous guest memory";
    Reservation const reservation = TRY(reserve(size, name));
    TRY(map_ram(reservation, -1, size, MAP_PRIVATE | MAP_ANONYMOUS, name));
    return std::unique_ptr<GuestMemory>(new GuestMemory(reservation.start, reservation.size, reservation.base, size, -1));
}

GuestMemory::GuestMemory(u8* reservation, u64 reservation_size, u8* base, u64 size, int file)
    : m_reservation(reservation)
    , m_reservation_size(reservation_size)
    , m_base(base)
    , m_size(size)
    , m_low_size(size < low_limit ? size : low_limit)
    , m_file(file)
    , m_huge_regions(base, size)
{
}

GuestMemory::~GuestMemory()
{
    munmap(m_reservation, m_reservation_size);
    if (m_file >= 0)
        close(m_file);
}

u64 GuestMemory::fill(Gpa address, int file, u64 offset, u64 length)
{
    if (m_file < 0 || !range(address, length) || lseek(m_file, static_cast<off_t>(offset_of(address)), SEEK_SET) < 0)
        return 0;
    u64 done = 0;
    off_t from = static_cast<off_t>(offset);
    while (done < length) {
        ssize_t const count = sendfile(m_file, file, &from, length - done);
        if (count <= 0)
            break;
        done += static_cast<u64>(count);
    }
    if (done != 0)
        written(address, done);
    return done;
}

u8* GuestMemory::high_range(Gpa address, u64 length) const
{
    u64 const a = address.value();
    if (a < high_base || length == 0)
        return nullptr;
    u64 const offset = a - high_base;
    u64 const size = m_size - m_low_size;
    if (offset >= size || length > size - offset)
        return nullptr;
    return m_base + low_limit + offset;
}

bool GuestMemory::read(Gpa address, void* to, u64 length) const
{
    if (length == 0)
        return true;
    u8 const* from = range(address, length);
    if (from)
        std::memcpy(to, from, length);
    return from != nullptr;
}

bool GuestMemory::write(Gpa address, void const* from, u64 length)
{
    if (length == 0)
        return true;
    u8* to = range(address, length);
    if (!to)
        return false;
    std::memcpy(to, from, length);
    written(address, length);
    return true;
}

bool GuestMemory::map_pages(u64 offset, u64 length, u8* to) const
{
    if (m_file < 0)
        return false;
    // SAFETY: the caller gives the pages away; offsets of RAM are offsets in the file.
    if (mmap(to, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, m_file, static_cast<off_t>(offset)) != MAP_FAILED)
        return true;
    // A call that fails late leaves a hole, into which somebody else's memory must not come.
    // SAFETY: still the caller's pages.
    mmap(to, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return false;
}

void GuestMemory::clear_range(Gpa address, u64 length)
{
    u8* const start = range(address, length);
    if (!start)
        return;
    // SAFETY: our own mapping; only its contents go. RAM of a machine is a shared file, of a file system that may know no holes.
    if (madvise(start, length, m_file >= 0 ? MADV_REMOVE : MADV_DONTNEED) != 0)
        std::memset(start, 0, length);
    written(address, length);
}

void GuestMemory::clear()
{
    clear_range(Gpa(0), low_size());
    clear_range(Gpa(high_base), high_size());
    m_huge_regions.forget();
}

} // namespace anyhyve
