// One virtual machine: what stays when no process runs it. Its directory holds
//   config   the configuration tree, with at least `name` and `memory.size` (bytes)
//   memory   the RAM (see vm_memory.hpp)
//   state    vCPUs and devices in the format of snapshot.hpp; missing until a loader has put something in
//   control  the socket of the process that runs it
//   lock     locked by the process that uses it; its text is that process's id and name
// Threads: one at a time.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "host/directory.hpp"
#include "host/fd.hpp"
#include "vmm/config_tree.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/vm_memory.hpp"

namespace anyhyve {

// Keys of `config` that say what the machine is (bhyve's own names), and who put something into it.
namespace vm_key {
constexpr char name[] = "name";
constexpr char memory_size[] = "memory.size"; // bytes
constexpr char cpus[] = "cpus";
constexpr char loader[] = "vm.loader";        // "bhyveload", "grub-bhyve", "bhyve"
} // namespace vm_key

class Vm {
public:
    std::string const& name() const { return m_name; }
    std::string const& path() const { return m_directory.path(); }
    host::Directory const& directory() const { return m_directory; } // for the control socket
    static constexpr char control_socket[] = "control";

    // Makes this process the one that uses the VM, until unlock(), or the end of this object or of the process. EBUSY: another process
    // (the sentence names it) or another Vm of this one has it. ENOENT: destroyed meanwhile. Twice is as good as once.
    Result<void> lock();
    void unlock();
    bool locked() const { return m_lock.valid(); }
    // "1234 (bhyve)" of the process that has the lock; empty when none has.
    std::string holder() const;

    // As it was when the VM was opened, or as save_config() made it.
    ConfigTree const& config() const { return m_config; }
    // Sets `name` and `memory.size` to the VM's own. Needs the lock.
    Result<void> save_config(ConfigTree config);
    u64 memory_size() const { return m_memory_size; }

    // Maps the RAM. Needs no lock: a tool may look at a running VM.
    Result<std::unique_ptr<GuestMemory>> open_memory() const;
    // Takes all of it from the host now (memory.wired). Needs the lock.
    Result<void> allocate_memory();

    // All need the lock, but has_state() and load_state(). load_state(): ENOENT when nothing has been loaded into the VM.
    bool has_state() const;
    Result<std::vector<u8>> load_state() const;
    Result<void> save_state(std::span<u8 const> bytes);
    Result<void> remove_state();

    // Back to how create() made it: no state, zero RAM of `memory_size` bytes, this configuration. Needs the lock.
    Result<void> reinitialise(u64 memory_size, ConfigTree config);

private:
    friend class VmDirectory;
    Vm(std::string name, std::shared_ptr<host::Directory const> root, host::Directory directory, VmMemory memory);
    // Reads `config`, checks `memory`. EBADMSG: damaged.
    Result<void> load();
    Result<void> take_lock(host::Fd);

    std::string m_name;
    std::shared_ptr<host::Directory const> m_root;
    host::Directory m_directory;
    VmMemory m_memory;
    ConfigTree m_config;
    u64 m_memory_size = 0;
    host::Fd m_lock;
};

} // namespace anyhyve
