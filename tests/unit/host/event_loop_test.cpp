// Tests of the event loop and of sockets in the file system.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "host/event_loop.hpp"
#include "host/unix_socket.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve::host {

using namespace std::chrono_literals;
using Interest = EventLoop::Interest;

namespace {
struct Pipe {
    Pipe()
    {
        int ends[2];
        EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        reader = Fd(ends[0]);
        writer = Fd(ends[1]);
    }
    void put() { EXPECT_EQ(write(writer.get(), "x", 1), 1); }
    bool take()
    {
        char byte;
        return read(reader.get(), &byte, 1) == 1;
    }
    Fd reader, writer;
};
} // namespace

TEST(EventLoopTest, CallsBackWhenAFileIsReady)
{
    auto const loop = EventLoop::create().release_value();
    Pipe pipe;
    int calls = 0;
    bool hangup = false;
    ASSERT_TRUE(loop->watch(pipe.reader.get(), Interest::read, [&](EventLoop::Ready ready) {
        ++calls;
        hangup = ready.hangup;
        pipe.take();
    }).ok());
    EXPECT_EQ(loop->watch(pipe.reader.get(), Interest::read, [](EventLoop::Ready) {}).error().code(), EEXIST);
    ASSERT_TRUE(loop->run_once(0ms).ok());
    EXPECT_EQ(calls, 0);
    pipe.put();
    ASSERT_TRUE(loop->run_once(1000ms).ok());
    EXPECT_EQ(calls, 1);
    loop->set_interest(pipe.reader.get(), Interest::none);
    pipe.put();
    ASSERT_TRUE(loop->run_once(0ms).ok());
    EXPECT_EQ(calls, 1);
    loop->set_interest(pipe.reader.get(), Interest::read);
    ASSERT_TRUE(loop->run_once(1000ms).ok());
    EXPECT_EQ(calls, 2);
    EXPECT_FALSE(hangup);
    pipe.writer.reset();
    ASSERT_TRUE(loop->run_once(1000ms).ok());
    EXPECT_TRUE(hangup);
    loop->unwatch(pipe.reader.get());
    loop->unwatch(pipe.reader.get());
    ASSERT_TRUE(loop->run_once(0ms).ok());
    EXPECT_EQ(calls, 3);
}

TEST(EventLoopTest, AnEndedWatchIsNotCalledThoughItWasReady)
{
    auto const loop = EventLoop::create().release_value();
    Pipe first, second;
    first.put();
    second.put();
    int calls = 0;
    auto const end_both = [&](EventLoop::Ready) {
        ++calls;
        loop->unwatch(first.reader.get());
        loop->unwatch(second.reader.get());
        // The number of a closed file comes back at once: it must not be taken for the old one.
        second.reader.reset();
        Pipe third;
        loop->unwatch(third.reader.get());
    };
    ASSERT_TRUE(loop->watch(first.reader.get(), Interest::read, end_both).ok());
    ASSERT_TRUE(loop->watch(second.reader.get(), Interest::read, end_both).ok());
    ASSERT_TRUE(loop->run_once(1000ms).ok());
    EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, TimersFireInOrderOnce)
{
    auto const loop = EventLoop::create().release_value();
    std::string order;
    auto const start = std::chrono::steady_clock::now();
    loop->call_later(20ms, [&] {
        order += "c";
        loop->stop();
    });
    loop->call_later(5ms, [&] { order += "a"; });
    auto const cancelled = loop->call_later(7ms, [&] { order += "x"; });
    loop->call_later(10ms, [&] {
        order += "b";
        loop->call_later(0ms, [&] { order += "0"; });
    });
    loop->cancel(cancelled);
    loop->cancel(cancelled);
    loop->cancel(0);
    ASSERT_TRUE(loop->run().ok());
    EXPECT_EQ(order, "ab0c");
    EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);
}

TEST(EventLoopTest, ATimerThatRenewsItselfDoesNotStarveTheRest)
{
    auto const loop = EventLoop::create().release_value();
    Pipe pipe;
    pipe.put();
    std::function<void()> again = [&] { loop->call_later(0ms, again); };
    again();
    ASSERT_TRUE(loop->watch(pipe.reader.get(), Interest::read, [&](EventLoop::Ready) { loop->stop(); }).ok());
    EXPECT_TRUE(loop->run().ok());
}

TEST(EventLoopTest, WorkOfOtherThreadsComesInOrder)
{
    auto const loop = EventLoop::create().release_value();
    std::vector<int> seen;
    std::thread other([&] {
        for (int i = 0; i < 1000; ++i)
            loop->post([&, i] { seen.push_back(i); });
        loop->post([&] { loop->stop(); });
    });
    ASSERT_TRUE(loop->run().ok());
    other.join();
    ASSERT_EQ(seen.size(), 1000u);
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
    loop->stop(); // before run(): counts
    EXPECT_TRUE(loop->run().ok());
}

TEST(EventLoopTest, HearsSignals)
{
    auto const loop = EventLoop::create().release_value();
    std::vector<int> heard;
    ASSERT_TRUE(loop->watch_signals({ SIGUSR1, SIGUSR2 }, [&](int signal) { heard.push_back(signal); }).ok());
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGUSR1);
    ASSERT_TRUE(loop->run_once(1000ms).ok());
    EXPECT_EQ(heard.size(), 2u);
}

TEST(EventLoopTest, APlainFileCannotBeWaitedFor)
{
    auto const loop = EventLoop::create().release_value();
    Fd const file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(loop->watch(file.get(), Interest::read, [](EventLoop::Ready) {}).error().code(), EPERM);
}

class UnixSocketTest : public testing::Test {
protected:
    TemporaryFolder m_folder;
    std::string const& m_path = m_folder.path();
};

TEST_F(UnixSocketTest, ConnectsAndKnowsItsPeer)
{
    auto const listener = listen_unix(m_path + "/s").release_value();
    EXPECT_EQ(accept_client(listener.get()).error().code(), EAGAIN);
    auto const client = connect_unix(m_path + "/s").release_value();
    auto const server = accept_client(listener.get()).release_value();
    EXPECT_EQ(peer_of(server.get()).value().process, getpid());
    EXPECT_EQ(peer_of(server.get()).value().user, geteuid());
    EXPECT_EQ(std::filesystem::status(m_path + "/s").permissions(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    EXPECT_EQ(listen_unix(m_path + "/s").error().code(), EADDRINUSE);
}

TEST_F(UnixSocketTest, ReplacesAStaleSocketButNothingElse)
{
    listen_unix(m_path + "/s").release_value().reset();
    EXPECT_EQ(connect_unix(m_path + "/s").error().code(), ECONNREFUSED);
    EXPECT_TRUE(listen_unix(m_path + "/s").ok());
    Fd const file(open((m_path + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_EQ(listen_unix(m_path + "/file").error().code(), EADDRINUSE);
    EXPECT_EQ(connect_unix(m_path + "/none").error().code(), ENOENT);
    EXPECT_FALSE(listen_unix(m_path + "/no/such/s").ok());
}

TEST_F(UnixSocketTest, PathsMayBeLongerThanTheKernelAllows)
{
    std::string const deep = m_path + "/" + std::string(200, 'd');
    std::filesystem::create_directory(deep);
    auto const directory = Directory::open(deep).release_value();
    auto const listener = listen_unix(directory, "control").release_value();
    EXPECT_TRUE(connect_unix(deep + "/control").ok());
    EXPECT_EQ(listen_unix(directory, "../s").error().code(), EINVAL);
    EXPECT_EQ(listen_unix(directory, std::string(200, 's')).error().code(), ENAMETOOLONG);
}

} // namespace anyhyve::host
