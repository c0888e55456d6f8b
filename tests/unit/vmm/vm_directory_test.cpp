// Tests of the VM object: its lifetime, its lock, and what a killed process leaves. Each runs on a tmpfs and on a disk.
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "host/file_io.hpp"
#include "vmm/vm_directory.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {

using Condition = VmDirectory::Condition;

class VmDirectoryTest : public testing::TestWithParam<char const*> {
protected:
    void TearDown() override
    {
        auto directory = open();
        for (auto const& entry : directory.list().value())
            EXPECT_TRUE(directory.destroy(entry.name).ok());
        EXPECT_EQ(shared_files(), m_shared_before) << "something stays in /dev/shm";
    }
    VmDirectory open() { return VmDirectory::open(m_path).release_value(); }
    static int shared_files()
    {
        int count = 0;
        for (auto const& entry : std::filesystem::directory_iterator("/dev/shm"))
            count += entry.path().filename().string().starts_with("vmm.");
        return count;
    }
    static std::string named(char const* name) { return name + std::to_string(getpid()); }

    TemporaryFolder m_folder { GetParam() };
    std::string const& m_path = m_folder.path();
    int m_shared_before = shared_files();
};

TEST_P(VmDirectoryTest, AVmOutlivesItsProcesses)
{
    auto directory = open();
    {
        ConfigTree config;
        ASSERT_TRUE(config.set(vm_key::cpus, "2").ok());
        ASSERT_TRUE(config.set(vm_key::loader, "bhyveload").ok());
        auto created = directory.create("guest", 4 * MiB, std::move(config));
        ASSERT_TRUE(created.ok()) << created.error().message();
        auto vm = created.release_value();
        EXPECT_TRUE(vm->locked());
        auto const memory = vm->open_memory().release_value();
        EXPECT_TRUE(memory->write_value(Gpa(0x1000), u32 { 0x12345678 }));
        EXPECT_FALSE(vm->has_state());
        EXPECT_EQ(vm->load_state().error().code(), ENOENT);
        EXPECT_TRUE(vm->save_state(host::as_bytes("state")).ok());
    }
    auto vm = directory.open_vm("guest").release_value();
    EXPECT_FALSE(vm->locked());
    EXPECT_EQ(vm->memory_size(), 4 * MiB);
    EXPECT_EQ(vm->config().dump(), "cpus=2\nmemory.size=4194304\nname=guest\nvm.loader=bhyveload\n");
    u32 value = 0;
    EXPECT_TRUE(vm->open_memory().value()->read_value(Gpa(0x1000), value));
    EXPECT_EQ(value, 0x12345678u);
    EXPECT_EQ(vm->load_state().value().size(), 5u);
    EXPECT_TRUE(directory.destroy("guest").ok());
    EXPECT_EQ(directory.open_vm("guest").error().code(), ENOENT);
}

TEST_P(VmDirectoryTest, KeepsTheRulesOfExistence)
{
    auto directory = open();
    EXPECT_EQ(directory.open_vm("a").error().code(), ENOENT);
    EXPECT_EQ(directory.open_vm("a").error().message(), "There is no virtual machine 'a' in " + m_path + ".");
    EXPECT_EQ(directory.destroy("a").error().code(), ENOENT);
    ASSERT_TRUE(directory.create("a", MiB).ok());
    EXPECT_EQ(directory.create("a", MiB).error().code(), EEXIST);
    EXPECT_EQ(directory.create("b", 0).error().code(), EINVAL);
    EXPECT_EQ(directory.create("b", 5000).error().code(), EINVAL);
    ASSERT_TRUE(directory.destroy("a").ok());
    ASSERT_TRUE(directory.create("a", MiB).ok());
}

TEST_P(VmDirectoryTest, RefusesNamesThatAreNone)
{
    auto directory = open();
    std::string const longest(VmDirectory::longest_name, 'n');
    for (std::string const& name : { std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a b"), std::string("a\n"), std::string("\x7f"), longest + "n" }) {
        EXPECT_EQ(directory.create(name, MiB).error().code(), EINVAL) << name;
        EXPECT_EQ(directory.open_vm(name).error().code(), EINVAL) << name;
        EXPECT_EQ(directory.destroy(name).error().code(), EINVAL) << name;
    }
    for (std::string const& name : { longest, std::string(".hidden"), std::string("...") , std::string("(new)"), std::string("na\xc3\xafve") }) {
        auto const created = directory.create(name, MiB);
        EXPECT_TRUE(created.ok()) << created.error().message();
    }
}

TEST_P(VmDirectoryTest, OnlyOneProcessUsesAVm)
{
    auto directory = open();
    auto vm = directory.create("guest", MiB).release_value();
    auto other = directory.open_vm("guest").release_value();
    auto const busy = other->lock();
    EXPECT_EQ(busy.error().code(), EBUSY);
    std::string const self = std::to_string(getpid());
    EXPECT_NE(busy.error().message().find("'guest' is in use by process " + self), std::string::npos) << busy.error().message();
    EXPECT_EQ(directory.destroy("guest").error().code(), EBUSY);
    EXPECT_EQ(directory.list().value().at(0).condition, Condition::in_use);
    EXPECT_EQ(directory.list().value().at(0).holder.rfind(self + " (", 0), 0u);
    vm->unlock();
    EXPECT_EQ(directory.list().value().at(0).condition, Condition::stopped);
    EXPECT_TRUE(other->lock().ok());
    EXPECT_TRUE(other->lock().ok());
    EXPECT_EQ(vm->lock().error().code(), EBUSY);
    other.reset();
    EXPECT_TRUE(vm->lock().ok());
}

TEST_P(VmDirectoryTest, AnOldHandleDoesNotReachANewVm)
{
    auto directory = open();
    directory.create("guest", MiB).release_value()->unlock();
    auto old = directory.open_vm("guest").release_value();
    ASSERT_TRUE(directory.destroy("guest").ok());
    EXPECT_EQ(old->lock().error().code(), ENOENT);
    ASSERT_TRUE(directory.create("guest", MiB).ok());
    EXPECT_EQ(old->lock().error().code(), ENOENT);
    EXPECT_FALSE(old->locked());
}

TEST_P(VmDirectoryTest, ReinitialiseZeroesMemoryAndForgetsState)
{
    auto directory = open();
    auto vm = directory.create("guest", 4 * MiB).release_value();
    ASSERT_TRUE(vm->open_memory().value()->write_value(Gpa(0x3000), u64 { 5 }));
    ASSERT_TRUE(vm->save_state(host::as_bytes("state")).ok());
    ConfigTree config;
    ASSERT_TRUE(config.set("cpus", "3").ok());
    ASSERT_TRUE(config.freeze().ok()); // also a frozen one may be given
    ASSERT_TRUE(vm->reinitialise(8 * MiB, config).ok());
    EXPECT_FALSE(vm->has_state());
    auto const memory = vm->open_memory().release_value();
    EXPECT_EQ(memory->size(), 8 * MiB);
    u64 value = 1;
    EXPECT_TRUE(memory->read_value(Gpa(0x3000), value));
    EXPECT_EQ(value, 0u);
    vm->unlock();
    EXPECT_EQ(directory.open_vm("guest").value()->config().raw("cpus"), "3");
    EXPECT_EQ(directory.open_vm("guest").value()->memory_size(), 8 * MiB);
    ASSERT_TRUE(vm->lock().ok());
    EXPECT_EQ(vm->reinitialise(1, {}).error().code(), EINVAL);
    EXPECT_TRUE(vm->allocate_memory().ok());
    EXPECT_TRUE(directory.destroy(std::move(vm)).ok());
}

TEST_P(VmDirectoryTest, MemoryLargerThanTheHostHasIsRefusedAtOnce)
{
    auto directory = open();
    auto const refused = directory.create("guest", 64 * 1024 * GiB);
    EXPECT_EQ(refused.error().code(), ENOSPC);
    EXPECT_NE(refused.error().message().find("there is no room for 67108864 MiB of guest memory"), std::string::npos) << refused.error().message();
    EXPECT_EQ(directory.open_vm("guest").error().code(), ENOENT);
    EXPECT_TRUE(directory.list().value().empty());
}

TEST_P(VmDirectoryTest, DamagedOnesAreNamedReplacedAndDestroyed)
{
    auto directory = open();
    auto const damage = [&](std::string const& name, auto change) {
        directory.create(name, MiB).release_value()->unlock();
        change(m_path + "/" + name);
        EXPECT_EQ(directory.open_vm(name).error().code(), EBADMSG) << name;
    };
    namespace fs = std::filesystem;
    damage("no-config", [](std::string const& path) { fs::remove(path + "/config"); });
    damage("no-memory", [](std::string const& path) { fs::remove(path + "/memory"); });
    damage("bad-config", [](std::string const& path) { std::ofstream(path + "/config") << "\n???\n"; });
    damage("no-size", [](std::string const& path) { std::ofstream(path + "/config") << "name=no-size\n"; });
    damage("odd-size", [](std::string const& path) { std::ofstream(path + "/config") << "memory.size=4097\n"; });
    damage("short", [](std::string const& path) { fs::resize_file(path + "/memory", 4096); });
    damage("elsewhere", [](std::string const& path) { fs::remove(path + "/memory"); fs::create_symlink("/etc/passwd", path + "/memory"); });
    damage("directory", [](std::string const& path) { fs::remove(path + "/memory"); fs::create_directories(path + "/memory/a/b"); });
    for (auto const& entry : directory.list().value())
        EXPECT_EQ(entry.condition, Condition::damaged) << entry.name;
    EXPECT_TRUE(directory.create("no-config", MiB).ok());
    EXPECT_TRUE(directory.open_vm("no-config").ok());
    EXPECT_TRUE(directory.create("directory", MiB).ok());
    // The rest is destroyed, damaged as it is, at the end of the test.
    std::ofstream(m_path + "/file") << "not a VM";
    EXPECT_EQ(directory.open_vm("file").error().code(), ENOENT);
    EXPECT_TRUE(directory.destroy("file").ok());
    fs::create_symlink("/etc", m_path + "/link");
    EXPECT_EQ(directory.open_vm("link").error().code(), ENOENT);
    EXPECT_TRUE(directory.destroy("link").ok());
    EXPECT_TRUE(fs::exists("/etc/passwd"));
}

// A child creates, fills, reinitialises and destroys one VM over and over, and is killed at some moment. Whatever it leaves, the VM
// can be opened, created or destroyed afterwards.
TEST_P(VmDirectoryTest, AKilledProcessLeavesNothingThatIsInTheWay)
{
    auto directory = open();
    std::mt19937 random(7);
    int existing = 0, missing = 0;
    for (int round = 0; round < 60; ++round) {
        pid_t const child = fork();
        if (child == 0) {
            auto mine = open();
            for (;;) {
                auto vm = mine.create("guest", MiB);
                if (!vm.ok())
                    _exit(2);
                (void)vm.value()->save_state(host::as_bytes("state")).ok();
                (void)vm.value()->reinitialise(2 * MiB, {}).ok();
                if (!mine.destroy(vm.release_value()).ok())
                    _exit(3);
            }
        }
        usleep(500 + random() % 6000);
        kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);

        auto const opened = directory.open_vm("guest");
        int const code = opened.ok() ? 0 : opened.error().code();
        ASSERT_TRUE(code == 0 || code == ENOENT || code == EBADMSG) << opened.error().message();
        (code == ENOENT ? missing : existing) += 1;
        auto const created = directory.create("guest", MiB);
        if (code == 0) {
            ASSERT_EQ(created.error().code(), EEXIST);
            ASSERT_TRUE(opened.value()->lock().ok());
            ASSERT_TRUE(opened.value()->reinitialise(MiB, {}).ok());
            opened.value()->unlock();
        } else {
            ASSERT_TRUE(created.ok()) << created.error().message();
            created.value()->unlock();
        }
        auto const destroyed = directory.destroy("guest");
        ASSERT_TRUE(destroyed.ok()) << destroyed.error().message();
        for (auto const& entry : std::filesystem::directory_iterator(m_path))
            ASSERT_EQ(entry.path().filename(), "directory lock");
    }
    RecordProperty("existing", existing);
    RecordProperty("missing", missing);
}

TEST_P(VmDirectoryTest, ADeadHolderIsNoHolder)
{
    auto directory = open();
    directory.create("guest", MiB).release_value()->unlock();
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    pid_t const child = fork();
    if (child == 0) {
        auto mine = open();
        auto vm = mine.open_vm("guest").release_value();
        char const ok = vm->lock().ok();
        (void)!write(ready[1], &ok, 1);
        pause();
        _exit(0);
    }
    char ok = 0;
    ASSERT_EQ(read(ready[0], &ok, 1), 1);
    ASSERT_TRUE(ok);
    auto vm = directory.open_vm("guest").release_value();
    EXPECT_NE(vm->lock().error().message().find("process " + std::to_string(child) + " ("), std::string::npos);
    EXPECT_EQ(directory.destroy("guest").error().code(), EBUSY);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    EXPECT_EQ(vm->holder(), "");
    EXPECT_TRUE(vm->lock().ok());
    close(ready[0]);
    close(ready[1]);
}

TEST_P(VmDirectoryTest, RefusesADirectoryThatOthersMayWrite)
{
    chmod(m_path.c_str(), 0777);
    EXPECT_EQ(VmDirectory::open(m_path).error().code(), EPERM);
    chmod(m_path.c_str(), 0700);
    auto const missing = VmDirectory::open(m_path + "/no/such");
    EXPECT_EQ(missing.error().code(), ENOENT);
    EXPECT_NE(missing.error().message().find("Set VMM_DIR"), std::string::npos);
    std::ofstream(m_path + "/file") << "x";
    EXPECT_EQ(VmDirectory::open(m_path + "/file").error().code(), ENOTDIR);
    EXPECT_TRUE(VmDirectory::open(m_path + "/made").ok());
    std::filesystem::remove_all(m_path + "/made");
    std::filesystem::remove(m_path + "/file");
}

INSTANTIATE_TEST_SUITE_P(Places, VmDirectoryTest, testing::Values("/dev/shm", "/var/tmp"),
    [](auto const& place) { return std::string(place.param).starts_with("/dev") ? "tmpfs" : "disk"; });

TEST(VmDirectoryPathTest, ComesFromTheEnvironment)
{
    setenv("VMM_DIR", "/some/where", 1);
    EXPECT_EQ(VmDirectory::default_path(), "/some/where");
    setenv("VMM_DIR", "", 1);
    setenv("XDG_RUNTIME_DIR", "/run/user/5", 1);
    EXPECT_EQ(VmDirectory::default_path(), geteuid() == 0 ? "/run/vmm" : "/run/user/5/vmm");
    unsetenv("VMM_DIR");
    unsetenv("XDG_RUNTIME_DIR");
    EXPECT_EQ(VmDirectory::default_path(), geteuid() == 0 ? "/run/vmm" : "/dev/shm/vmm-" + std::to_string(geteuid()));
}

} // namespace anyhyve
