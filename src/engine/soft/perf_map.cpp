// Names of translated code: see perf_map.hpp.
#include "engine/soft/perf_map.hpp"

#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.hpp"

namespace anyhyve::soft {

Result<std::unique_ptr<PerfMap>> PerfMap::create(std::string path)
{
    if (path.empty())
        path = fmt::format("/tmp/perf-{}.map", getpid());
    // Anyone may have put something of this name into /tmp.
    int const file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return Error::from_errno(errno, path);
    std::unique_ptr<PerfMap> map(new PerfMap(path, file));
    struct stat status {};
    if (fstat(file, &status) != 0)
        return Error::from_errno(errno, path);
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid())
        return make_error(EPERM, "{}: not a file of this user", path);
    if (ftruncate(file, 0) != 0)
        return Error::from_errno(errno, path);
    TRY(map->grow());
    return map;
}

PerfMap::~PerfMap()
{
    if (m_text)
        munmap(m_text, m_size);
    // A file that keeps its tail of zeros is still understood.
    static_cast<void>(ftruncate(m_file, static_cast<off_t>(m_used)));
    close(m_file);
}

Result<void> PerfMap::grow()
{
    u64 const size = m_size + step;
    if (int const error = posix_fallocate(m_file, 0, static_cast<off_t>(size)); error != 0)
        return Error::from_errno(error, m_path);
    // SAFETY: a mapping of our own file, whose space has been allocated.
    void* const text = m_text ? mremap(m_text, m_size, size, MREMAP_MAYMOVE) : mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, m_file, 0);
    if (text == MAP_FAILED)
        return Error::from_errno(errno, m_path);
    m_text = static_cast<char*>(text);
    m_size = size;
    return {};
}

void PerfMap::add(void const* start, u64 size, std::string_view name)
{
    if (!m_text)
        return;
    // SAFETY: the address as a number.
    std::string const line = fmt::format("{:x} {:x} {}\n", reinterpret_cast<std::uintptr_t>(start), size, name);
    u64 const length = line.size();
    if (m_used + length > m_size) {
        if (auto const grown = grow(); !grown.ok()) {
            log::warning("{}: code translated from now on has no names", grown.error().message());
            munmap(m_text, m_size);
            m_text = nullptr;
            return;
        }
    }
    std::memcpy(m_text + m_used, line.data(), length);
    m_used += length;
}

void PerfMap::drop()
{
    if (m_text)
        std::memset(m_text + m_floor, 0, m_used - m_floor);
    m_used = m_floor;
}

} // namespace anyhyve::soft
