// The files of one virtual machine.
#include "vmm/vm.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "host/file_io.hpp"
#include "host/file_lock.hpp"

namespace anyhyve {

static constexpr char s_config_file[] = "config";
static constexpr char s_state_file[] = "state";
static constexpr char s_lock_file[] = "lock";
static constexpr u64 s_longest_config = 4 * MiB;
static constexpr u64 s_longest_state = 1 * GiB; // a machine's devices need some MiB

Vm::Vm(std::string name, std::shared_ptr<host::Directory const> root, host::Directory directory, VmMemory memory)
    : m_name(std::move(name))
    , m_root(std::move(root))
    , m_directory(std::move(directory))
    , m_memory(std::move(memory))
{
}

Result<void> Vm::load()
{
    auto const damaged = [&](std::string const& why) { return make_error(EBADMSG, "The virtual machine '{}' is damaged ({}). Destroy it, or create it again.", m_name, why); };
    auto const bytes = m_directory.read_file(s_config_file, s_longest_config);
    if (!bytes.ok() && bytes.error().code() != ENOENT)
        return bytes.error();
    if (!bytes.ok())
        return damaged("it has no configuration");
    ConfigTree config;
    auto const parsed = config.load_text(std::string(bytes.value().begin(), bytes.value().end()), path() + "/" + s_config_file);
    if (!parsed.ok())
        return damaged(parsed.error().message());
    auto const size = config.size_or(vm_key::memory_size, 0);
    if (!size.ok() || size.value() == 0 || !is_aligned(size.value(), GuestMemory::page_size))
        return damaged("its configuration has no memory.size");
    auto const file = m_memory.open(m_directory);
    if (!file.ok())
        return file.error().code() == EBADMSG ? damaged(file.error().message()) : file.error();
    struct stat status {};
    if (fstat(file.value().get(), &status) != 0 || static_cast<u64>(status.st_size) != size.value())
        return damaged("its memory does not have the size that its configuration says");
    m_config = std::move(config);
    m_memory_size = size.value();
    return {};
}

// The lock file's text is only for people: who has the lock is known to the kernel alone.
Result<void> Vm::take_lock(host::Fd file)
{
    std::string const object = path() + "/" + s_lock_file;
    TRY(host::try_lock_file(file.get(), object));
    std::string const text = fmt::format("{} ({})\n", getpid(), program_invocation_short_name);
    if (ftruncate(file.get(), 0) == 0)
        TRY(host::write_all(file.get(), host::as_bytes(text), object));
    m_lock = std::move(file);
    return {};
}

Result<void> Vm::lock()
{
    if (m_lock.valid())
        return {};
    auto const taken = take_lock(TRY(m_directory.open_file(s_lock_file, O_RDWR | O_CREAT)));
    if (!taken.ok()) {
        if (taken.error().code() != EWOULDBLOCK)
            return taken;
        std::string const who = holder();
        return make_error(EBUSY, "The virtual machine '{}' is in use by {}.", m_name, who.empty() ? "another process" : "process " + who);
    }
    // Between open and lock somebody may have destroyed the VM, and even made another of its name.
    struct stat ours {};
    auto const there = m_root->status(m_name);
    if (!there.ok() || fstat(m_directory.descriptor(), &ours) != 0 || ours.st_ino != there.value().st_ino || ours.st_dev != there.value().st_dev) {
        m_lock.reset();
        return make_error(ENOENT, "The virtual machine '{}' has been destroyed.", m_name);
    }
    // What was read without the lock may have changed since.
    auto const loaded = load();
    if (!loaded.ok())
        m_lock.reset();
    return loaded;
}

void Vm::unlock()
{
    if (m_lock.valid() && ftruncate(m_lock.get(), 0) == 0)
        host::unlock_file(m_lock.get());
    m_lock.reset();
}

std::string Vm::holder() const
{
    auto const file = m_directory.open_file(s_lock_file, O_RDONLY);
    if (!file.ok() || !host::file_is_locked(file.value().get()))
        return {};
    auto const bytes = host::read_to_end(file.value().get(), 4096, path());
    std::string text = bytes.ok() ? std::string(bytes.value().begin(), bytes.value().end()) : "";
    text.erase(std::min(text.find('\n'), text.size()));
    return text.empty() ? "of unknown number" : text;
}

Result<void> Vm::save_config(ConfigTree config)
{
    ASSERT(locked(), "the configuration of a VM is written without its lock");
    if (config.frozen()) {
        ConfigTree copy;
        TRY(copy.load_text(config.dump(), m_name));
        config = std::move(copy);
    }
    TRY(config.set(vm_key::name, m_name));
    TRY(config.set(vm_key::memory_size, std::to_string(m_memory_size)));
    TRY(m_directory.replace_file(s_config_file, host::as_bytes(config.dump())));
    m_config = std::move(config);
    return {};
}

Result<std::unique_ptr<GuestMemory>> Vm::open_memory() const
{
    host::Fd const file = TRY(m_memory.open(m_directory));
    return GuestMemory::map_file(file.get(), m_memory_size, fmt::format("the memory of '{}'", m_name));
}

Result<void> Vm::allocate_memory()
{
    ASSERT(locked(), "the memory of a VM is reserved without its lock");
    host::Fd const file = TRY(m_memory.open(m_directory));
    return VmMemory::allocate(file.get(), m_memory_size, path());
}

bool Vm::has_state() const
{
    return m_directory.has(s_state_file);
}

Result<std::vector<u8>> Vm::load_state() const
{
    auto bytes = m_directory.read_file(s_state_file, s_longest_state);
    if (!bytes.ok() && bytes.error().code() == ENOENT)
        return make_error(ENOENT, "Nothing has been loaded into the virtual machine '{}'.", m_name);
    return bytes;
}

Result<void> Vm::save_state(std::span<u8 const> bytes)
{
    ASSERT(locked(), "the state of a VM is written without its lock");
    return m_directory.replace_file(s_state_file, bytes);
}

Result<void> Vm::remove_state()
{
    ASSERT(locked(), "the state of a VM is removed without its lock");
    return m_directory.remove_file(s_state_file);
}

// In this order a crash leaves a VM without state whose configuration and memory fit, or one that load() calls damaged.
Result<void> Vm::reinitialise(u64 memory_size, ConfigTree config)
{
    ASSERT(locked(), "a VM is reinitialised without its lock");
    if (memory_size == 0 || !is_aligned(memory_size, GuestMemory::page_size))
        return make_error(EINVAL, "{}: {} bytes is no size for guest memory: it must be a multiple of 4096", m_name, memory_size);
    TRY(remove_state());
    host::Fd const file = TRY(m_memory.open(m_directory));
    TRY(VmMemory::clear(file.get(), memory_size, path()));
    m_memory_size = memory_size;
    return save_config(std::move(config));
}

} // namespace anyhyve
