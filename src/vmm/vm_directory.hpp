// The directory of all virtual machines of a user: creating, opening, destroying and listing them.
// A process may be killed at any moment in here: what it leaves is finished, undone or cleared away by the next create or destroy.
// Threads: any.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "host/directory.hpp"
#include "vmm/vm.hpp"

namespace anyhyve {

class VmDirectory {
public:
    static constexpr std::size_t longest_name = 229; // bhyve's limit

    // $VMM_DIR; else /run/vmm for root; else $XDG_RUNTIME_DIR/vmm; else /dev/shm/vmm-UID.
    static std::string default_path();
    // Opens it and makes it (mode 0700) when it is missing. EPERM: another user owns it, or others may write into it.
    static Result<VmDirectory> open(std::string const& path = default_path());
    // EINVAL, with the reason, for what cannot be the name of a VM.
    static Result<void> check_name(std::string_view name);

    std::string const& path() const { return m_root->path(); }

    // A new VM with zero RAM and no state, locked by the caller. EEXIST: there is one of this name, unless it is damaged and nobody uses
    // it: then it is replaced. ENOSPC: no room for the RAM. EINVAL: the name, or the size is not a multiple of 4096.
    Result<std::unique_ptr<Vm>> create(std::string const& name, u64 memory_size, ConfigTree config = {});
    // An existing VM, not locked. ENOENT: there is none. EBADMSG: damaged.
    Result<std::unique_ptr<Vm>> open_vm(std::string const& name) const;
    // Removes it, damaged or not. ENOENT, EBUSY (in use).
    Result<void> destroy(std::string const& name);
    // The same for the caller's own, locked or not.
    Result<void> destroy(std::unique_ptr<Vm> vm);

    enum class Condition { stopped, in_use, damaged };
    struct Entry {
        std::string name;
        Condition condition;
        std::string holder; // "1234 (bhyve)" when in use
    };
    Result<std::vector<Entry>> list() const; // by name

private:
    explicit VmDirectory(std::shared_ptr<host::Directory const> root) : m_root(std::move(root)) {}
    Result<host::Fd> lock_directory() const;
    Result<std::unique_ptr<Vm>> open_damaged_or_not(std::string const& name) const;
    void remove_leftovers() const;
    Result<void> remove_locked(Vm&) const;
    Result<void> fill(Vm&, u64 memory_size, ConfigTree config) const;

    std::shared_ptr<host::Directory const> m_root;
};

} // namespace anyhyve
