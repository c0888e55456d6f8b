// Bounded reads of kernels, initrds and other boot files.
#include "boot/image_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace anyhyve::boot {

Result<void> ImageSource::read(u64 offset, std::span<u8> to) const
{
    if (offset > m_size || to.size() > m_size - offset)
        return make_error(ENOEXEC, "{}: the file is truncated: {} bytes are needed at offset {}, and it has {} in all", m_name, to.size(), offset, m_size);
    if (to.empty())
        return {};
    return read_checked(offset, to);
}

Result<void> ImageSource::read_into(GuestMemory& memory, u64 offset, u64 length, Gpa to) const
{
    if (length == 0)
        return {};
    u8* const bytes = memory.range(to, length);
    if (!bytes)
        return make_error(ENOMEM, "{}: {} bytes at {:#x} do not fit in the guest's memory of {} MiB", m_name, length, to.value(), memory.size() / MiB);
    u64 const done = offset <= m_size && length <= m_size - offset ? fill(memory, offset, length, to) : 0;
    auto const result = read(offset + done, std::span(bytes + done, length - done));
    memory.written(to, length);
    return result;
}

Result<std::unique_ptr<FileSource>> FileSource::open(std::string const& path)
{
    int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0)
        return Error::from_errno(errno, path);
    struct stat information;
    if (::fstat(file, &information) != 0) {
        Error error = Error::from_errno(errno, path);
        ::close(file);
        return error;
    }
    off_t const size = S_ISBLK(information.st_mode) ? ::lseek(file, 0, SEEK_END) : information.st_size;
    if ((!S_ISREG(information.st_mode) && !S_ISBLK(information.st_mode)) || size < 0) {
        ::close(file);
        return S_ISDIR(information.st_mode) ? Error::from_errno(EISDIR, path) : make_error(EINVAL, "{}: not a file that can be read as an image", path);
    }
    return std::unique_ptr<FileSource>(new FileSource(file, path, static_cast<u64>(size)));
}

FileSource::~FileSource()
{
    ::close(m_file);
}

Result<void> FileSource::read_checked(u64 offset, std::span<u8> to) const
{
    while (!to.empty()) {
        ssize_t const count = ::pread(m_file, to.data(), to.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return Error::from_errno(errno, name());
        if (count == 0)
            return make_error(EIO, "{}: the file became shorter while it was read", name());
        offset += static_cast<u64>(count);
        to = to.subspan(static_cast<std::size_t>(count));
    }
    return {};
}

Result<void> MemorySource::read_checked(u64 offset, std::span<u8> to) const
{
    std::memcpy(to.data(), m_bytes.data() + offset, to.size());
    return {};
}

} // namespace anyhyve::boot
