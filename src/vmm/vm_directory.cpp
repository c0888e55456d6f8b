// Creating and destroying are atomic: a VM is filled under another name and then renamed, and renamed before it is taken apart. The
// other names hold a space, which no VM's name does. Both happen under one lock for the whole directory, so whatever has such a name
// while the lock is free was left by a process that died.
#include "vmm/vm_directory.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/bits.hpp"
#include "base/log.hpp"
#include "host/file_lock.hpp"

namespace anyhyve {

using host::Directory;

static constexpr char s_lock_file[] = "directory lock";
static constexpr char s_new[] = " (new)", s_old[] = " (old)";
static constexpr unsigned s_lock_timeout_ms = 10'000;

std::string VmDirectory::default_path()
{
    auto const variable = [](char const* name) {
        char const* value = std::getenv(name);
        return std::string(value ? value : "");
    };
    if (auto const path = variable("VMM_DIR"); !path.empty())
        return path;
    if (geteuid() == 0)
        return "/run/vmm";
    if (auto const path = variable("XDG_RUNTIME_DIR"); !path.empty())
        return path + "/vmm";
    return fmt::format("/dev/shm/vmm-{}", geteuid());
}

Result<VmDirectory> VmDirectory::open(std::string const& path)
{
    auto opened = Directory::ensure(path, 0700);
    if (!opened.ok())
        return make_error(opened.error().code(), "{} cannot hold virtual machines: {}. Set VMM_DIR to a directory that can.", path, std::strerror(opened.error().code()));
    struct stat status {};
    if (fstat(opened.value().descriptor(), &status) != 0)
        return Error::from_errno(errno, path);
    // Whoever can write here could hand us a machine of theirs: /dev/shm is open to all.
    if ((status.st_uid != geteuid() && status.st_uid != 0) || (status.st_mode & S_IWOTH))
        return make_error(EPERM, "{} cannot hold virtual machines: it belongs to another user, or all users may write to it. Set VMM_DIR to a directory of yours.", path);
    if (faccessat(opened.value().descriptor(), ".", W_OK | X_OK, AT_EACCESS) != 0)
        return make_error(errno, "{} cannot hold virtual machines: {}. Set VMM_DIR to a directory that can.", path, std::strerror(errno));
    return VmDirectory(std::make_shared<Directory const>(opened.release_value()));
}

Result<void> VmDirectory::check_name(std::string_view name)
{
    if (name.empty())
        return Error("The name of a virtual machine must not be empty.", EINVAL);
    if (name.size() > longest_name)
        return make_error(EINVAL, "The name of a virtual machine must not be longer than {} bytes; this one has {}.", longest_name, name.size());
    if (name == "." || name == "..")
        return make_error(EINVAL, "'{}' cannot be the name of a virtual machine.", name);
    for (char const c : name) {
        auto const byte = static_cast<unsigned char>(c);
        if (byte <= 0x20 || byte == 0x7f || c == '/')
            return make_error(EINVAL, "The name of a virtual machine must not hold spaces, control characters or '/'; byte {:#04x} is one.", byte);
    }
    return {};
}

Result<host::Fd> VmDirectory::lock_directory() const
{
    host::Fd file = TRY(m_root->open_file(s_lock_file, O_RDWR | O_CREAT));
    auto const taken = host::lock_file(file.get(), s_lock_timeout_ms, path());
    if (!taken.ok() && taken.error().code() == ETIMEDOUT)
        return make_error(EBUSY, "{}: another process has been creating or destroying a virtual machine for {} s.", path(), s_lock_timeout_ms / 1000);
    TRY(taken);
    return file;
}

// Under the directory's lock.
void VmDirectory::remove_leftovers() const
{
    auto const entries = m_root->entries();
    if (!entries.ok())
        return;
    for (auto const& entry : entries.value()) {
        if (!entry.name.ends_with(s_new) && !entry.name.ends_with(s_old))
            continue;
        std::string const name = entry.name.substr(0, entry.name.size() - (sizeof s_new - 1));
        // Its memory outside, unless a VM of that name has taken it over.
        if (!m_root->has(name))
            if (auto memory = VmMemory::of(*m_root, name); memory.ok())
                (void)memory.value().remove_outside().ok();
        if (auto const removed = m_root->remove_tree(entry.name); !removed.ok())
            log::warning("A half-made virtual machine is in the way: {}.", removed.error().message());
    }
}

Result<std::unique_ptr<Vm>> VmDirectory::open_damaged_or_not(std::string const& name) const
{
    TRY(check_name(name));
    auto directory = m_root->open_directory(name);
    if (!directory.ok()) {
        int const code = directory.error().code();
        if (code == ENOENT || code == ENOTDIR || code == ELOOP)
            return make_error(ENOENT, "There is no virtual machine '{}' in {}.", name, path());
        return directory.error();
    }
    VmMemory memory = TRY(VmMemory::of(*m_root, name));
    return std::unique_ptr<Vm>(new Vm(name, m_root, directory.release_value(), std::move(memory)));
}

Result<std::unique_ptr<Vm>> VmDirectory::open_vm(std::string const& name) const
{
    auto vm = TRY(open_damaged_or_not(name));
    TRY(vm->load());
    return vm;
}

// Gives a new directory all that belongs into it, `config` last: load() takes what has one for whole.
Result<void> VmDirectory::fill(Vm& vm, u64 memory_size, ConfigTree config) const
{
    TRY(vm.take_lock(TRY(vm.directory().open_file("lock", O_RDWR | O_CREAT))));
    TRY(vm.m_memory.create(vm.directory(), memory_size));
    vm.m_memory_size = memory_size;
    return vm.save_config(std::move(config));
}

Result<std::unique_ptr<Vm>> VmDirectory::create(std::string const& name, u64 memory_size, ConfigTree config)
{
    TRY(check_name(name));
    if (memory_size == 0 || !is_aligned(memory_size, GuestMemory::page_size))
        return make_error(EINVAL, "{}: {} bytes is no size for guest memory: it must be a multiple of 4096", name, memory_size);
    host::Fd const lock = TRY(lock_directory());
    remove_leftovers();
    if (m_root->has(name)) {
        auto const existing = open_vm(name);
        if (existing.ok() || existing.error().code() != EBADMSG)
            return make_error(EEXIST, "There already is a virtual machine '{}' in {}.", name, path());
        auto damaged = TRY(open_damaged_or_not(name));
        if (!damaged->holder().empty())
            return make_error(EEXIST, "There already is a virtual machine '{}' in {}, damaged, and process {} uses it.", name, path(), damaged->holder());
        log::warning("{} It is replaced.", existing.error().message());
        TRY(remove_locked(*damaged));
    }
    std::string const temporary = name + s_new;
    TRY(m_root->make_directory(temporary, 0700));
    VmMemory memory = TRY(VmMemory::of(*m_root, name));
    auto vm = std::unique_ptr<Vm>(new Vm(name, m_root, TRY(m_root->open_directory(temporary)), std::move(memory)));
    auto made = fill(*vm, memory_size, std::move(config));
    if (made.ok())
        made = m_root->rename(temporary, name, Directory::Existing::keep);
    if (!made.ok()) {
        remove_leftovers();
        return made.error();
    }
    // Opened anew for its path; the lock moves over.
    auto whole = TRY(open_damaged_or_not(name));
    TRY(whole->load());
    whole->m_lock = std::move(vm->m_lock);
    return whole;
}

// Takes a VM apart that nobody else uses. Under the directory's lock.
Result<void> VmDirectory::remove_locked(Vm& vm) const
{
    std::string const temporary = vm.name() + s_old;
    TRY(m_root->remove_tree(temporary));
    TRY(m_root->rename(vm.name(), temporary, Directory::Existing::keep));
    TRY(vm.m_memory.remove_outside());
    return m_root->remove_tree(temporary);
}

Result<void> VmDirectory::destroy(std::unique_ptr<Vm> vm)
{
    host::Fd const lock = TRY(lock_directory());
    if (!vm->locked()) {
        auto const taken = vm->lock();
        // A damaged one is removed as well, but not one that another process is using, or has removed.
        if (!taken.ok() && taken.error().code() != EBADMSG)
            return taken;
        if (std::string const who = taken.ok() ? "" : vm->holder(); !who.empty())
            return make_error(EBUSY, "The virtual machine '{}' is in use by process {}.", vm->name(), who);
    }
    TRY(remove_locked(*vm));
    remove_leftovers();
    return {};
}

Result<void> VmDirectory::destroy(std::string const& name)
{
    TRY(check_name(name));
    auto vm = open_damaged_or_not(name);
    if (!vm.ok()) {
        // Something that is not a directory of ours, but has the name.
        auto const there = m_root->status(name);
        if (vm.error().code() != ENOENT || !there.ok() || S_ISDIR(there.value().st_mode))
            return vm.error();
        return m_root->remove_file(name);
    }
    return destroy(vm.release_value());
}

Result<std::vector<VmDirectory::Entry>> VmDirectory::list() const
{
    std::vector<Entry> list;
    for (auto const& entry : TRY(m_root->entries())) {
        if (entry.type != Directory::EntryType::directory || !check_name(entry.name).ok())
            continue;
        auto vm = open_damaged_or_not(entry.name);
        if (!vm.ok())
            continue; // destroyed meanwhile
        std::string holder = vm.value()->holder();
        Condition condition = holder.empty() ? Condition::stopped : Condition::in_use;
        if (!vm.value()->load().ok())
            condition = Condition::damaged;
        list.push_back({ entry.name, condition, std::move(holder) });
    }
    return list;
}

} // namespace anyhyve
