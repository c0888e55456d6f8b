// File names that cannot lead out of their directory.
#include "host/directory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include <algorithm>
#include <memory>

#include "host/file_io.hpp"

namespace anyhyve::host {

static constexpr unsigned s_deepest_tree = 16;

Result<Directory> Directory::open(std::string const& path)
{
    int const descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return Error::from_errno(errno, path);
    return Directory(Fd(descriptor), path);
}

Result<Directory> Directory::ensure(std::string const& path, mode_t mode)
{
    if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST)
        return make_error(errno, "{}: cannot make this directory: {}", path, std::strerror(errno));
    return open(path);
}

Result<std::string> Directory::component(std::string_view name) const
{
    if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos)
        return make_error(EINVAL, "{}: '{}' is not the name of something in this directory", m_path, name);
    return std::string(name);
}

Result<Fd> Directory::open_component(std::string_view name, int flags, mode_t mode) const
{
    std::string const checked = TRY(component(name));
    int const descriptor = openat(m_descriptor.get(), checked.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode);
    if (descriptor < 0)
        return Error::from_errno(errno, full(name));
    return Fd(descriptor);
}

Result<Fd> Directory::open_file(std::string_view name, int flags, mode_t mode) const
{
    // Non-blocking while it opens: a FIFO that someone put there must not hang us.
    Fd file = TRY(open_component(name, flags | O_NONBLOCK | O_NOCTTY, mode));
    if (!(flags & O_NONBLOCK))
        fcntl(file.get(), F_SETFL, fcntl(file.get(), F_GETFL) & ~O_NONBLOCK);
    return file;
}

Result<Directory> Directory::open_directory(std::string_view name) const
{
    Fd descriptor = TRY(open_component(name, O_RDONLY | O_DIRECTORY, 0));
    return Directory(std::move(descriptor), full(name));
}

Result<void> Directory::make_directory(std::string_view name, mode_t mode) const
{
    std::string const checked = TRY(component(name));
    if (mkdirat(m_descriptor.get(), checked.c_str(), mode) != 0)
        return Error::from_errno(errno, full(name));
    return {};
}

Result<struct stat> Directory::status(std::string_view name) const
{
    std::string const checked = TRY(component(name));
    struct stat status {};
    if (fstatat(m_descriptor.get(), checked.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return Error::from_errno(errno, full(name));
    return status;
}

Result<void> Directory::remove_file(std::string_view name) const
{
    std::string const checked = TRY(component(name));
    if (unlinkat(m_descriptor.get(), checked.c_str(), 0) != 0 && errno != ENOENT)
        return Error::from_errno(errno, full(name));
    return {};
}

Result<void> Directory::remove_tree(std::string_view name, unsigned depth) const
{
    std::string const checked = TRY(component(name));
    if (unlinkat(m_descriptor.get(), checked.c_str(), 0) == 0 || errno == ENOENT)
        return {};
    if (errno != EISDIR && errno != EPERM)
        return Error::from_errno(errno, full(name));
    if (depth >= s_deepest_tree)
        return make_error(ELOOP, "{}: directories are nested too deep to remove them", full(name));
    {
        Directory const inner = TRY(open_directory(name));
        for (auto const& entry : TRY(inner.entries()))
            TRY(inner.remove_tree(entry.name, depth + 1));
    }
    if (unlinkat(m_descriptor.get(), checked.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
        return Error::from_errno(errno, full(name));
    return {};
}

Result<void> Directory::rename(std::string_view from, std::string_view to, Existing existing) const
{
    std::string const source = TRY(component(from)), target = TRY(component(to));
    unsigned const flags = existing == Existing::keep ? RENAME_NOREPLACE : 0;
    if (renameat2(m_descriptor.get(), source.c_str(), m_descriptor.get(), target.c_str(), flags) != 0)
        return Error::from_errno(errno, full(to));
    return {};
}

Result<std::vector<u8>> Directory::read_file(std::string_view name, u64 most) const
{
    Fd const file = TRY(open_file(name, O_RDONLY));
    return read_to_end(file.get(), most, full(name));
}

Result<void> Directory::replace_file(std::string_view name, std::span<u8 const> bytes, mode_t mode) const
{
    std::string const temporary = std::string(name) + ".new";
    TRY(remove_file(temporary)); // of a writer that died
    Fd const file = TRY(open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, mode));
    auto const written = write_all(file.get(), bytes, full(name));
    if (!written.ok()) {
        (void)remove_file(temporary).ok();
        return written;
    }
    return rename(temporary, name, Existing::replace);
}

Result<std::string> Directory::read_link(std::string_view name) const
{
    std::string const checked = TRY(component(name));
    std::string target(4096, '\0');
    ssize_t const length = readlinkat(m_descriptor.get(), checked.c_str(), target.data(), target.size());
    if (length < 0)
        return Error::from_errno(errno, full(name));
    target.resize(static_cast<std::size_t>(length));
    return target;
}

Result<void> Directory::make_link(std::string_view name, std::string const& target) const
{
    std::string const checked = TRY(component(name));
    if (symlinkat(target.c_str(), m_descriptor.get(), checked.c_str()) != 0)
        return Error::from_errno(errno, full(name));
    return {};
}

static Directory::EntryType entry_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return Directory::EntryType::file;
    case S_IFDIR:
        return Directory::EntryType::directory;
    case S_IFLNK:
        return Directory::EntryType::symlink;
    default:
        return Directory::EntryType::other;
    }
}

Result<std::vector<Directory::Entry>> Directory::entries() const
{
    // Opened anew: reading a directory moves the position of the open file.
    int const descriptor = openat(m_descriptor.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return Error::from_errno(errno, m_path);
    std::unique_ptr<DIR, int (*)(DIR*)> const stream(fdopendir(descriptor), closedir);
    if (!stream) {
        int const code = errno;
        ::close(descriptor);
        return Error::from_errno(code, m_path);
    }
    std::vector<Entry> list;
    errno = 0;
    while (dirent const* entry = readdir(stream.get())) {
        std::string const name = entry->d_name;
        if (name == "." || name == "..")
            continue;
        struct stat status {};
        if (fstatat(m_descriptor.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0)
            list.push_back({ name, entry_type(status.st_mode) });
        errno = 0;
    }
    if (errno != 0)
        return Error::from_errno(errno, m_path);
    std::sort(list.begin(), list.end(), [](Entry const& a, Entry const& b) { return a.name < b.name; });
    return list;
}

Result<Fd> Directory::open_beneath(std::string_view relative, int flags) const
{
    std::vector<std::string> parts;
    for (std::size_t at = 0; at <= relative.size();) {
        std::size_t const end = std::min(relative.find('/', at), relative.size());
        std::string const part(relative.substr(at, end - at));
        if (part == ".." || part.find('\0') != part.npos)
            return make_error(EACCES, "{}: '{}' leads out of this directory", m_path, relative);
        if (!part.empty() && part != ".")
            parts.push_back(part);
        at = end + 1;
    }
    std::string joined;
    for (auto const& part : parts)
        joined += (joined.empty() ? "" : "/") + part;
    if (joined.empty())
        joined = ".";

    open_how how {};
    how.flags = static_cast<u64>(flags | O_CLOEXEC | O_NOCTTY);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    int descriptor = static_cast<int>(syscall(SYS_openat2, m_descriptor.get(), joined.c_str(), &how, sizeof how));
    if (descriptor < 0 && errno != ENOSYS && errno != EPERM)
        return Error::from_errno(errno, full(relative));
    if (descriptor >= 0)
        return Fd(descriptor);

    // Kernels before 5.6, or filters that do not know the call: one component after the other, without any links.
    Fd at(openat(m_descriptor.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (std::size_t i = 0; i < parts.size() && at.valid(); ++i) {
        int const step = i + 1 == parts.size() ? flags | O_NOCTTY : O_RDONLY | O_DIRECTORY;
        at = Fd(openat(at.get(), parts[i].c_str(), step | O_NOFOLLOW | O_CLOEXEC));
    }
    if (!at.valid())
        return Error::from_errno(errno, full(relative));
    return at;
}

} // namespace anyhyve::host
