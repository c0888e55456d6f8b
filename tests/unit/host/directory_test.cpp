// Tests of directories that are never left, file locks, and whole reads and writes.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "host/directory.hpp"
#include "host/file_io.hpp"
#include "host/file_lock.hpp"
#include "host/mapping.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve::host {

class DirectoryTest : public testing::Test {
protected:
    Directory open() { return Directory::open(m_path).release_value(); }
    TemporaryFolder m_folder;
    std::string const& m_path = m_folder.path();
};

TEST_F(DirectoryTest, TakesSingleComponentsOnly)
{
    auto const directory = open();
    for (std::string_view name : { "", ".", "..", "a/b", "/etc/passwd", "../x" }) {
        EXPECT_EQ(directory.open_file(name, O_RDONLY).error().code(), EINVAL) << name;
        EXPECT_EQ(directory.remove_tree(name).error().code(), EINVAL) << name;
        EXPECT_EQ(directory.make_directory(name, 0700).error().code(), EINVAL) << name;
        EXPECT_EQ(directory.rename(name, "x", Directory::Existing::keep).error().code(), EINVAL) << name;
    }
    EXPECT_EQ(directory.open_file(std::string_view("a\0b", 3), O_RDONLY).error().code(), EINVAL);
    EXPECT_EQ(directory.open_file("missing", O_RDONLY).error().message(), m_path + "/missing: No such file or directory");
}

TEST_F(DirectoryTest, DoesNotFollowLinks)
{
    auto const directory = open();
    ASSERT_TRUE(directory.make_link("link", "/etc/passwd").ok());
    ASSERT_TRUE(directory.make_link("up", "/etc").ok());
    EXPECT_EQ(directory.open_file("link", O_RDONLY).error().code(), ELOOP);
    EXPECT_FALSE(directory.open_directory("up").ok());
    EXPECT_EQ(directory.read_link("link").value(), "/etc/passwd");
    EXPECT_TRUE(directory.remove_tree("up").ok());
    EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
}

TEST_F(DirectoryTest, ReplacesFilesWhole)
{
    auto const directory = open();
    ASSERT_TRUE(directory.replace_file("f", as_bytes("one")).ok());
    ASSERT_TRUE(directory.replace_file("f.new", as_bytes("of a writer that died")).ok());
    ASSERT_TRUE(directory.replace_file("f", as_bytes("two")).ok());
    auto const bytes = directory.read_file("f", 3).release_value();
    EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "two");
    EXPECT_EQ(directory.read_file("f", 2).error().code(), EFBIG);
    EXPECT_FALSE(directory.has("f.new"));
}

TEST_F(DirectoryTest, ListsAndRemovesTrees)
{
    auto const directory = open();
    std::filesystem::create_directories(m_path + "/tree/a/b/c");
    ASSERT_TRUE(directory.open_directory("tree").value().replace_file("file", as_bytes("x")).ok());
    ASSERT_TRUE(directory.make_link("link", "tree").ok());
    auto const entries = directory.entries().release_value();
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].name, "link");
    EXPECT_EQ(entries[0].type, Directory::EntryType::symlink);
    EXPECT_EQ(entries[1].type, Directory::EntryType::directory);
    EXPECT_TRUE(directory.remove_tree("tree").ok());
    EXPECT_TRUE(directory.remove_tree("tree").ok());
    EXPECT_FALSE(directory.has("tree"));
}

TEST_F(DirectoryTest, RenamesAndKeepsWhatIsThere)
{
    auto const directory = open();
    ASSERT_TRUE(directory.replace_file("a", as_bytes("a")).ok());
    ASSERT_TRUE(directory.replace_file("b", as_bytes("b")).ok());
    EXPECT_EQ(directory.rename("a", "b", Directory::Existing::keep).error().code(), EEXIST);
    EXPECT_TRUE(directory.rename("a", "b", Directory::Existing::replace).ok());
    EXPECT_FALSE(directory.has("a"));
}

TEST_F(DirectoryTest, OpensPathsBeneathAsIfItWereTheRoot)
{
    auto const directory = open();
    std::filesystem::create_directories(m_path + "/boot/kernel");
    ASSERT_TRUE(directory.open_directory("boot").value().replace_file("loader.conf", as_bytes("x")).ok());
    EXPECT_TRUE(directory.open_beneath("boot/loader.conf", O_RDONLY).ok());
    EXPECT_TRUE(directory.open_beneath("/boot//./loader.conf", O_RDONLY).ok());
    EXPECT_TRUE(directory.open_beneath("", O_RDONLY | O_DIRECTORY).ok());
    EXPECT_EQ(directory.open_beneath("boot/../boot/loader.conf", O_RDONLY).error().code(), EACCES);
    EXPECT_EQ(directory.open_beneath("..", O_RDONLY).error().code(), EACCES);
    std::filesystem::create_symlink("../../../../../../etc/passwd", m_path + "/boot/out");
    std::filesystem::create_symlink("/etc/passwd", m_path + "/boot/absolute");
    EXPECT_FALSE(directory.open_beneath("boot/out", O_RDONLY).ok());
    EXPECT_FALSE(directory.open_beneath("boot/absolute", O_RDONLY).ok());
    EXPECT_FALSE(directory.open_beneath("etc/passwd", O_RDONLY).ok());
}

TEST_F(DirectoryTest, AFifoDoesNotHangIt)
{
    auto const directory = open();
    ASSERT_EQ(mkfifo((m_path + "/fifo").c_str(), 0600), 0);
    EXPECT_TRUE(directory.open_file("fifo", O_RDONLY).ok());
}

TEST_F(DirectoryTest, EnsureMakesTheLastComponent)
{
    EXPECT_TRUE(Directory::ensure(m_path + "/new", 0700).ok());
    EXPECT_TRUE(Directory::ensure(m_path + "/new", 0700).ok());
    EXPECT_EQ(Directory::ensure(m_path + "/no/such", 0700).error().code(), ENOENT);
}

TEST_F(DirectoryTest, LocksConflictBetweenOpensAndEndWithTheirHolder)
{
    auto const directory = open();
    Fd first = directory.open_file("lock", O_RDWR | O_CREAT).release_value();
    Fd second = directory.open_file("lock", O_RDWR).release_value();
    Fd const looker = directory.open_file("lock", O_RDONLY).release_value();
    EXPECT_FALSE(file_is_locked(looker.get()));
    EXPECT_TRUE(try_lock_file(first.get(), "lock").ok());
    EXPECT_TRUE(try_lock_file(first.get(), "lock").ok());
    EXPECT_TRUE(file_is_locked(looker.get()));
    EXPECT_EQ(try_lock_file(second.get(), "lock").error().code(), EWOULDBLOCK);
    EXPECT_EQ(lock_file(second.get(), 10, "lock").error().code(), ETIMEDOUT);
    looker.get();
    { Fd const other = directory.open_file("lock", O_RDWR).release_value(); } // closing another open drops nothing
    EXPECT_TRUE(file_is_locked(looker.get()));
    first.reset();
    EXPECT_TRUE(try_lock_file(second.get(), "lock").ok());
    unlock_file(second.get());
    EXPECT_FALSE(file_is_locked(looker.get()));

    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    pid_t const child = fork();
    if (child == 0) {
        Fd const mine = directory.open_file("lock", O_RDWR).release_value();
        char const ok = try_lock_file(mine.get(), "lock").ok();
        (void)!write(ready[1], &ok, 1);
        pause();
        _exit(0);
    }
    char ok = 0;
    ASSERT_EQ(read(ready[0], &ok, 1), 1);
    EXPECT_TRUE(ok);
    EXPECT_TRUE(file_is_locked(looker.get()));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    EXPECT_FALSE(file_is_locked(looker.get()));
    close(ready[0]);
    close(ready[1]);
}

TEST_F(DirectoryTest, MapsFiles)
{
    auto const directory = open();
    ASSERT_TRUE(directory.replace_file("f", as_bytes("hello")).ok());
    Fd const file = directory.open_file("f", O_RDWR).release_value();
    {
        auto shared = Mapping::of_file(file.get(), 5, Mapping::Access::read_write, Mapping::Sharing::shared, "f").release_value();
        auto const copy = Mapping::of_file(file.get(), 5, Mapping::Access::read_write, Mapping::Sharing::copy_on_write, "f").release_value();
        copy.data()[0] = 'X';
        shared.data()[4] = '!';
        Mapping const moved = std::move(shared);
        EXPECT_EQ(moved.bytes()[4], '!');
    }
    auto const bytes = directory.read_file("f", 10).release_value();
    EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "hell!");
    EXPECT_EQ(Mapping::of_file(-1, 5, Mapping::Access::read, Mapping::Sharing::shared, "f").error().code(), EBADF);
    EXPECT_EQ(Mapping::anonymous(4096).value().bytes()[4095], 0);
}

TEST(FdTest, ClosesOnceAndMoves)
{
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    Fd a(ends[0]);
    Fd b = std::move(a);
    EXPECT_FALSE(a.valid());
    EXPECT_EQ(b.get(), ends[0]);
    b = Fd(ends[1]);
    EXPECT_EQ(fcntl(ends[0], F_GETFD), -1); // closed by the assignment
    int const kept = b.release();
    b.reset();
    EXPECT_NE(fcntl(kept, F_GETFD), -1);
    close(kept);
}

} // namespace anyhyve::host
