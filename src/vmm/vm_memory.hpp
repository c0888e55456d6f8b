// Where the RAM of a VM lies: the file `memory` in its directory when that is a tmpfs with room, else a file in /dev/shm and a link to it.
// Threads: any; callers hold the VM's lock, or the lock of the directory of VMs while they create or destroy.
#pragma once

#include <string>

#include "base/integer.hpp"
#include "base/result.hpp"
#include "host/directory.hpp"
#include "host/fd.hpp"

namespace anyhyve {

class VmMemory {
public:
    // `root` is the directory of VMs, `name` the VM's; together they give the name of the file in /dev/shm.
    static Result<VmMemory> of(host::Directory const& root, std::string const& name);

    // Makes it in the VM's directory, sparse and zero. ENOSPC when the file system has less than `size` bytes free.
    Result<void> create(host::Directory const& vm, u64 size) const;
    // EBADMSG when it is not what create() made.
    Result<host::Fd> open(host::Directory const& vm) const;
    // All zero again, and of this size. No process may have it mapped.
    static Result<void> clear(int file, u64 size, std::string const& object);
    // Takes every page from the file system now, so that none can be missing later. ENOSPC when there are not enough.
    static Result<void> allocate(int file, u64 size, std::string const& object);
    // What lies outside the VM's directory. Nothing there: fine.
    Result<void> remove_outside() const;

private:
    explicit VmMemory(std::string shared_name) : m_shared_name(std::move(shared_name)) {}
    Result<host::Fd> create_file(host::Directory const& vm, u64 size) const;

    std::string m_shared_name;
};

} // namespace anyhyve
