// An open directory, and what may be done below it without ever leaving it. Threads: any (the object itself is not changed by any call).
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <span>
#include <string_view>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"
#include "host/fd.hpp"

namespace anyhyve::host {

class Directory {
public:
    enum class EntryType { file, directory, symlink, other };
    struct Entry {
        std::string name;
        EntryType type;
    };
    enum class Existing { replace, keep };

    // Opens a directory the user names; symbolic links in `path` are followed.
    static Result<Directory> open(std::string const& path);
    // The same, and makes its last component when it is missing.
    static Result<Directory> ensure(std::string const& path, mode_t mode);

    std::string const& path() const { return m_path; } // as it was opened, for messages
    int descriptor() const { return m_descriptor.get(); }

    // In all of these `name` is one component: EINVAL when it is empty, ".", "..", or holds '/' or NUL. A symbolic link of that name is
    // never followed (ELOOP).
    Result<Fd> open_file(std::string_view name, int flags, mode_t mode = 0600) const;
    Result<Directory> open_directory(std::string_view name) const;
    Result<void> make_directory(std::string_view name, mode_t mode) const;
    Result<struct stat> status(std::string_view name) const;
    bool has(std::string_view name) const { return status(name).ok(); }
    Result<void> remove_file(std::string_view name) const;                   // nothing there: fine
    // With all that is in it, up to 16 levels deep. Nothing there: fine. Links are removed, not followed.
    Result<void> remove_tree(std::string_view name) const { return remove_tree(name, 0); }
    Result<void> rename(std::string_view from, std::string_view to, Existing) const; // EEXIST with `keep`
    Result<std::vector<u8>> read_file(std::string_view name, u64 most) const;
    // Through "NAME.new" and a rename: a reader, and a crash, see the old bytes or the new ones.
    Result<void> replace_file(std::string_view name, std::span<u8 const> bytes, mode_t mode = 0600) const;
    Result<std::string> read_link(std::string_view name) const;
    Result<void> make_link(std::string_view name, std::string const& target) const;

    Result<std::vector<Entry>> entries() const; // without "." and "..", sorted by name

    // Opens "a/b/c" as if this directory were the root of the file system: absolute links stay inside, ".." in `relative` is refused
    // (EACCES). For what a guest or a loader script names.
    Result<Fd> open_beneath(std::string_view relative, int flags) const;

private:
    Directory(Fd descriptor, std::string path) : m_descriptor(std::move(descriptor)), m_path(std::move(path)) {}
    Result<std::string> component(std::string_view name) const;
    Result<Fd> open_component(std::string_view name, int flags, mode_t mode) const;
    Result<void> remove_tree(std::string_view name, unsigned depth) const;
    std::string full(std::string_view name) const { return m_path + "/" + std::string(name); }

    Fd m_descriptor;
    std::string m_path;
};

} // namespace anyhyve::host
