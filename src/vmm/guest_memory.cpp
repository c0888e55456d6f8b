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

// Large enough that a copy that runs over hits them, not another mapping.
static constexpr u64 s_guard = 16 * MiB;
static constexpr u64 s_largest = u64 { 1 } << 46; // half of what a process can address

namespace {

// Addresses for RAM with a guard at both ends; RAM is aligned to huge pages.
Result<host::Mapping> reserve(u64 size, std::string const& name)
{
    static_assert(is_aligned(s_guard, host::Mapping::huge_page_size));
    if (size == 0 || size > s_largest || !is_aligned(size, GuestMemory::page_size))
        return make_error(EINVAL, "{}: {} bytes is no size for guest memory: it must be a multiple of 4096, up to 64 TiB", name, size);
    return host::Mapping::reserve(s_guard + size + s_guard, name, host::Mapping::Place::huge_page);
}

// Maps RAM into the middle of a reservation.
Result<void> map_ram(host::Mapping const& reservation, int file, u64 size, int flags, std::string const& name)
{
    // SAFETY: MAP_FIXED replaces pages of our own reservation, which holds the RAM whole.
    void* ram = mmap(reservation.data() + s_guard, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, file, 0);
    if (ram == MAP_FAILED)
        return make_error(errno, "{}: cannot map {} bytes of guest memory: {}", name, size, std::strerror(errno));
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
    host::Mapping reservation = TRY(reserve(size, name));
    if (static_cast<u64>(status.st_size) < size && ftruncate(file, static_cast<off_t>(size)) != 0)
        return make_error(errno, "{}: cannot grow to {} bytes: {}", name, size, std::strerror(errno));
    TRY(map_ram(reservation, file, size, MAP_SHARED, name));
    // Nothing is lost but speed without a descriptor.
    return std::unique_ptr<GuestMemory>(new GuestMemory(std::move(reservation), size, host::Fd(fcntl(file, F_DUPFD_CLOEXEC, 0))));
}

Result<std::unique_ptr<GuestMemory>> GuestMemory::create_anonymous(u64 size)
{
    std::string const name = "anonymous guest memory";
    host::Mapping reservation = TRY(reserve(size, name));
    TRY(map_ram(reservation, -1, size, MAP_PRIVATE | MAP_ANONYMOUS, name));
    return std::unique_ptr<GuestMemory>(new GuestMemory(std::move(reservation), size, host::Fd()));
}

GuestMemory::GuestMemory(host::Mapping reservation, u64 size, host::Fd file)
    : m_reservation(std::move(reservation))
    , m_base(m_reservation.data() + s_guard)
    , m_size(size)
    , m_low_size(size < low_limit ? size : low_limit)
    , m_file(std::move(file))
    , m_huge_regions(m_base, size)
{
}

u64 GuestMemory::fill(Gpa address, int file, u64 offset, u64 length)
{
    if (!m_file.valid() || !range(address, length) || lseek(m_file.get(), static_cast<off_t>(offset_of(address)), SEEK_SET) < 0)
        return 0;
    u64 done = 0;
    off_t from = static_cast<off_t>(offset);
    while (done < length) {
        ssize_t const count = sendfile(m_file.get(), file, &from, length - done);
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
    if (!m_file.valid())
        return false;
    // SAFETY: the caller gives the pages away; offsets of RAM are offsets in the file.
    if (mmap(to, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, m_file.get(), static_cast<off_t>(offset)) != MAP_FAILED)
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
    if (madvise(start, length, m_file.valid() ? MADV_REMOVE : MADV_DONTNEED) != 0)
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
