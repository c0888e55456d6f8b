// Making, finding, clearing and removing the file that holds a VM's RAM.
#include "vmm/vm_memory.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.hpp"

namespace anyhyve {

static constexpr char s_file[] = "memory";
static constexpr char s_shared_directory[] = "/dev/shm";

static bool is_in_ram(int file)
{
    struct statfs status {};
    return fstatfs(file, &status) == 0 && (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC || status.f_type == HUGETLBFS_MAGIC);
}

static u64 megabytes(u64 bytes)
{
    return bytes / MiB;
}

// A tmpfs without a limit says that it has no blocks at all.
static u64 room_in(int file)
{
    struct statvfs status {};
    if (fstatvfs(file, &status) != 0 || status.f_blocks == 0)
        return ~u64 { 0 };
    return u64 { status.f_bavail } * status.f_frsize;
}

static Result<void> check_room(int file, u64 size, std::string const& object)
{
    u64 const room = room_in(file);
    if (room < size)
        return make_error(ENOSPC, "{}: there is no room for {} MiB of guest memory: its file system has {} MiB free", object, megabytes(size), megabytes(room));
    return {};
}

Result<VmMemory> VmMemory::of(host::Directory const& root, std::string const& name)
{
    struct stat status {};
    if (fstat(root.descriptor(), &status) != 0)
        return Error::from_errno(errno, root.path());
    // /dev/shm is one for all users and directories: FNV-1a keeps VMs of the same name in two directories apart.
    u64 hash = 0xcbf29ce484222325;
    for (u64 const part : { u64 { geteuid() }, u64 { status.st_dev }, u64 { status.st_ino } })
        for (unsigned i = 0; i < 8; ++i)
            hash = (hash ^ ((part >> (8 * i)) & 0xff)) * 0x100000001b3;
    return VmMemory(fmt::format("vmm.{:016x}.{}", hash, name));
}

// The first with room: the VM's directory when it is in memory, /dev/shm, and the VM's directory on a disk. (/run may be a tenth of the
// host's memory, and /dev/shm of a container 64 MiB.)
Result<host::Fd> VmMemory::create_file(host::Directory const& vm, u64 size) const
{
    constexpr int flags = O_RDWR | O_CREAT | O_EXCL;
    bool const in_ram = is_in_ram(vm.descriptor());
    if (in_ram && room_in(vm.descriptor()) >= size)
        return vm.open_file(s_file, flags);
    auto shared = host::Directory::open(s_shared_directory);
    bool const shared_in_ram = shared.ok() && is_in_ram(shared.value().descriptor());
    if (!shared_in_ram || room_in(shared.value().descriptor()) < size) {
        if (!in_ram)
            log::warning("{}: guest memory lies on a disk here, since {} is {}: it may be slow.", vm.path(), s_shared_directory,
                shared_in_ram ? "too small" : "not a tmpfs");
        return vm.open_file(s_file, flags);
    }
    // One of this name belongs to a VM whose directory is gone. In the sticky /dev/shm only its owner can remove it.
    TRY(shared.value().remove_file(m_shared_name));
    host::Fd file = TRY(shared.value().open_file(m_shared_name, flags));
    TRY(vm.make_link(s_file, fmt::format("{}/{}", s_shared_directory, m_shared_name)));
    return file;
}

Result<void> VmMemory::create(host::Directory const& vm, u64 size) const
{
    host::Fd const file = TRY(create_file(vm, size));
    TRY(check_room(file.get(), size, vm.path()));
    if (ftruncate(file.get(), static_cast<off_t>(size)) != 0)
        return make_error(errno, "{}: cannot make {} MiB of guest memory: {}", vm.path(), megabytes(size), std::strerror(errno));
    return {};
}

Result<host::Fd> VmMemory::open(host::Directory const& vm) const
{
    auto const damaged = [&](char const* what) { return make_error(EBADMSG, "{}: its memory is damaged: {}", vm.path(), what); };
    auto const there = vm.status(s_file);
    if (!there.ok())
        return damaged("the file is missing");
    host::Fd file;
    if (S_ISLNK(there.value().st_mode)) {
        if (TRY(vm.read_link(s_file)) != fmt::format("{}/{}", s_shared_directory, m_shared_name))
            return damaged("its link leads elsewhere");
        auto const shared = TRY(host::Directory::open(s_shared_directory));
        auto opened = shared.open_file(m_shared_name, O_RDWR);
        if (!opened.ok())
            return opened.error().code() == ENOENT ? damaged("the file in /dev/shm is missing") : opened.error();
        file = opened.release_value();
    } else if (S_ISREG(there.value().st_mode)) {
        file = TRY(vm.open_file(s_file, O_RDWR));
    }
    struct stat status {};
    if (!file.valid() || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return damaged("it is not a file");
    if (status.st_uid != geteuid() && geteuid() != 0)
        return damaged("it belongs to another user");
    return file;
}

Result<void> VmMemory::clear(int file, u64 size, std::string const& object)
{
    // Cutting the file to nothing frees its pages at once, also where holes cannot be punched.
    if (ftruncate(file, 0) != 0)
        return make_error(errno, "{}: cannot clear its memory: {}", object, std::strerror(errno));
    TRY(check_room(file, size, object));
    if (ftruncate(file, static_cast<off_t>(size)) != 0)
        return make_error(errno, "{}: cannot make {} MiB of guest memory: {}", object, megabytes(size), std::strerror(errno));
    return {};
}

Result<void> VmMemory::allocate(int file, u64 size, std::string const& object)
{
    int code;
    do
        code = posix_fallocate(file, 0, static_cast<off_t>(size));
    while (code == EINTR);
    if (code != 0)
        return make_error(code, "{}: cannot reserve {} MiB of guest memory: {}", object, megabytes(size), std::strerror(code));
    return {};
}

Result<void> VmMemory::remove_outside() const
{
    auto const shared = host::Directory::open(s_shared_directory);
    if (!shared.ok() || !shared.value().has(m_shared_name))
        return {};
    return shared.value().remove_file(m_shared_name);
}

} // namespace anyhyve
