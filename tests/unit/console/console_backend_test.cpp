// Console back ends on real descriptors: pseudo-terminals, TCP, files; bounded output, back-pressure, escapes.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/console/stream_console.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {
namespace {

using testing::HasSubstr;

// A receiver with a limited appetite.
class Sink {
public:
    void connect(ConsoleBackend& console)
    {
        console.set_receiver([this](std::span<u8 const> bytes) { return take(bytes); }, [this] { ++drained; });
    }
    std::size_t take(std::span<u8 const> bytes)
    {
        std::lock_guard lock(m_mutex);
        std::size_t const count = std::min(bytes.size(), m_room);
        m_got.append(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
        m_room -= count;
        m_changed.notify_all();
        return count;
    }
    void set_room(std::size_t room)
    {
        std::lock_guard lock(m_mutex);
        m_room = room;
    }
    bool wait_for(std::string const& text)
    {
        std::unique_lock lock(m_mutex);
        return m_changed.wait_for(lock, std::chrono::seconds(5), [&] { return m_got == text; });
    }
    std::string got()
    {
        std::lock_guard lock(m_mutex);
        return m_got;
    }
    std::atomic<int> drained { 0 };

private:
    std::mutex m_mutex;
    std::condition_variable m_changed;
    std::string m_got;
    std::size_t m_room = ~std::size_t { 0 };
};

std::span<u8 const> bytes_of(std::string_view text)
{
    // SAFETY: the bytes of a text, as bytes.
    return { reinterpret_cast<u8 const*>(text.data()), text.size() };
}

std::string read_text(int file, std::size_t count)
{
    std::string text;
    pollfd poll_file { file, POLLIN, 0 };
    while (text.size() < count && ::poll(&poll_file, 1, 5000) == 1) {
        char buffer[4096];
        ssize_t const got = ::read(file, buffer, std::min(sizeof buffer, count - text.size()));
        if (got <= 0)
            break;
        text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
}

int connect_to(std::string const& description)
{
    sockaddr_in address {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<u16>(std::stoi(description.substr(description.rfind(':') + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int const client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // SAFETY: the sockets interface takes every address this way.
    EXPECT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return client;
}

struct Pipes {
    int to_console[2];
    int from_console[2];
    Pipes()
    {
        EXPECT_EQ(::pipe2(to_console, O_CLOEXEC | O_NONBLOCK), 0);
        EXPECT_EQ(::pipe2(from_console, O_CLOEXEC | O_NONBLOCK), 0);
    }
    ~Pipes()
    {
        ::close(to_console[1]);
        ::close(from_console[0]);
    }
    StreamConsole::Setup setup() const
    {
        StreamConsole::Setup setup;
        setup.description = "pipes";
        setup.input = to_console[0];
        setup.output = from_console[1];
        return setup;
    }
    void type(std::string_view text) const { EXPECT_EQ(::write(to_console[1], text.data(), text.size()), static_cast<ssize_t>(text.size())); }
};

TEST(StreamConsole, BytesGoBothWays)
{
    Pipes const pipes;
    Sink sink;
    auto console = StreamConsole::create(pipes.setup()).release_value();
    sink.connect(*console);
    console->write(bytes_of("hello "));
    console->write(bytes_of("there\n"));
    EXPECT_EQ(read_text(pipes.from_console[0], 12), "hello there\n");
    pipes.type("keys\1x");
    EXPECT_TRUE(sink.wait_for("keys\1x"));
}

TEST(StreamConsole, InputWaitsForAReceiverWithRoom)
{
    Pipes const pipes;
    Sink sink;
    sink.set_room(3);
    auto console = StreamConsole::create(pipes.setup()).release_value();
    sink.connect(*console);
    pipes.type("abcdefgh");
    EXPECT_TRUE(sink.wait_for("abc"));
    sink.set_room(2);
    console->receiver_ready();
    EXPECT_TRUE(sink.wait_for("abcde"));
    sink.set_room(100);
    console->receiver_ready();
    EXPECT_TRUE(sink.wait_for("abcdefgh"));
}

TEST(StreamConsole, Escapes)
{
    Pipes const pipes;
    Sink sink;
    std::atomic<int> left { 0 };
    auto setup = pipes.setup();
    setup.escape = StreamConsole::Escape::control_a;
    setup.leave = [&] { ++left; };
    auto console = StreamConsole::create(std::move(setup)).release_value();
    sink.connect(*console);
    pipes.type("a\1");
    pipes.type("\1b\1cd\1x");
    EXPECT_TRUE(sink.wait_for("a\1b\1cd"));
    for (int i = 0; i < 500 && left == 0; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(left, 1);
}

TEST(StreamConsole, TheEndOfInputDoesNotSpin)
{
    auto* const pipes = new Pipes;
    auto console = StreamConsole::create(pipes->setup()).release_value();
    ::close(pipes->to_console[1]);
    pipes->to_console[1] = -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    timespec before {}, after {};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    EXPECT_LT((after.tv_sec - before.tv_sec) * 1'000'000'000 + after.tv_nsec - before.tv_nsec, 50'000'000);
    console->write(bytes_of("still here"));
    EXPECT_EQ(read_text(pipes->from_console[0], 10), "still here");
    delete pipes;
}

TEST(StreamConsole, ASlowReaderHoldsTheGuestAndLosesNothing)
{
    Pipes const pipes;
    Sink sink;
    auto console = StreamConsole::create(pipes.setup()).release_value();
    sink.connect(*console);
    std::string sent;
    std::string const piece(100, 'p');
    while (console->has_room() && sent.size() < 10 * MiB) {
        console->write(bytes_of(piece));
        sent += piece;
    }
    // Stuck: the pipe and the ring are full. The ring is bounded.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    while (console->has_room() && sent.size() < 10 * MiB) {
        console->write(bytes_of(piece));
        sent += piece;
    }
    EXPECT_LT(sent.size(), 256 * KiB);
    EXPECT_EQ(read_text(pipes.from_console[0], sent.size()), sent);
    for (int i = 0; i < 500 && sink.drained == 0; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_GE(sink.drained, 1);
    EXPECT_TRUE(console->has_room());
}

TEST(StreamConsole, NobodyReadingAndDroppingKeepsTheNewest)
{
    Pipes const pipes;
    auto setup = pipes.setup();
    setup.when_full = StreamConsole::WhenFull::drop_oldest;
    auto console = StreamConsole::create(std::move(setup)).release_value();
    for (int i = 0; i < 40'000; ++i) {
        EXPECT_TRUE(console->has_room());
        console->write(bytes_of("0123456789"));
    }
    console->write(bytes_of("the end"));
    std::string tail;
    for (;;) {
        std::string const more = read_text(pipes.from_console[0], 1);
        ASSERT_FALSE(more.empty());
        tail += more;
        if (tail.ends_with("the end"))
            break;
    }
    EXPECT_LT(tail.size(), 256 * KiB);
}

TEST(ConsoleBackend, TcpHasOneClientAtATime)
{
    Sink sink;
    auto console = create_console_backend("tcp=127.0.0.1:0").release_value();
    sink.connect(*console);
    console->write(bytes_of("before"));
    int const first = connect_to(console->description());
    EXPECT_EQ(read_text(first, 6), "before");
    ASSERT_EQ(::send(first, "in", 2, 0), 2);
    EXPECT_TRUE(sink.wait_for("in"));
    int const second = connect_to(console->description());
    EXPECT_EQ(read_text(second, 1), ""); // closed at once
    ::close(second);
    ::close(first);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    int const third = connect_to(console->description());
    console->write(bytes_of("again"));
    EXPECT_EQ(read_text(third, 5), "again");
    ::close(third);
}

TEST(ConsoleBackend, PseudoTerminalWithALink)
{
    TemporaryFolder const folder;
    std::string const link = folder.path() + "/pty";
    {
        Sink sink;
        auto created = create_console_backend("autopty=" + link);
        if (!created.ok())
            GTEST_SKIP() << created.error().message();
        auto console = created.release_value();
        sink.connect(*console);
        EXPECT_THAT(console->description(), HasSubstr("/dev/pts/"));
        int const other = ::open(link.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK);
        ASSERT_GE(other, 0);
        console->write(bytes_of("login: \r\n"));
        EXPECT_EQ(read_text(other, 9), "login: \r\n");
        ASSERT_EQ(::write(other, "root\r\1x", 7), 7);
        EXPECT_TRUE(sink.wait_for("root\r\1x"));
        ::close(other);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        int const later = ::open(link.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK);
        console->write(bytes_of("back"));
        EXPECT_EQ(read_text(later, 4), "back");
        ::close(later);
    }
    struct stat status {};
    EXPECT_NE(::lstat(link.c_str(), &status), 0);
}

TEST(ConsoleBackend, ATerminalDeviceIsRawAndRestored)
{
    int const master = ::posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0)
        GTEST_SKIP() << "no pseudo-terminals here";
    char name[64];
    ASSERT_EQ(::ptsname_r(master, name, sizeof name), 0);
    int const slave = ::open(name, O_RDWR | O_NOCTTY);
    termios mode {};
    ASSERT_EQ(::tcgetattr(slave, &mode), 0);
    EXPECT_TRUE(mode.c_lflag & ECHO);
    {
        auto console = create_console_backend(name).release_value();
        ASSERT_EQ(::tcgetattr(slave, &mode), 0);
        EXPECT_FALSE(mode.c_lflag & (ECHO | ICANON | ISIG));
        console->write(bytes_of("x"));
        EXPECT_EQ(read_text(master, 1), "x");
    }
    ASSERT_EQ(::tcgetattr(slave, &mode), 0);
    EXPECT_TRUE(mode.c_lflag & ECHO);
    ::close(slave);
    ::close(master);
}

TEST(ConsoleBackend, FileTakesEverything)
{
    TemporaryFolder const folder;
    std::string const path = folder.path() + "/file";
    std::string sent;
    {
        auto console = create_console_backend("file=" + path).release_value();
        for (int i = 0; i < 20'000; ++i) {
            std::string const text = std::to_string(i) + "\n";
            while (!console->has_room())
                std::this_thread::yield();
            console->write(bytes_of(text));
            sent += text;
        }
    }
    std::ostringstream got;
    got << std::ifstream(path).rdbuf();
    EXPECT_EQ(got.str(), sent);
}

TEST(ConsoleBackend, ErrorsNameTheirObject)
{
    auto const message = [](std::string const& text) {
        auto const created = create_console_backend(text);
        return created.ok() ? std::string("fine") : created.error().message();
    };
    EXPECT_THAT(message("/nonexistent/tty"), HasSubstr("/nonexistent/tty: No such file"));
    EXPECT_THAT(message("/etc/passwd"), HasSubstr("/etc/passwd: not a terminal"));
    EXPECT_THAT(message("tcp="), HasSubstr("tcp=: the port is missing"));
    EXPECT_THAT(message("tcp=::1:5000"), HasSubstr("brackets"));
    EXPECT_THAT(message("tcp=127.0.0.1:notaport"), HasSubstr("tcp=127.0.0.1:notaport"));
    EXPECT_THAT(message("file=/nonexistent/log"), HasSubstr("/nonexistent/log"));
    EXPECT_THAT(message(""), HasSubstr("expected"));
    EXPECT_EQ(message("none"), "fine");
}

} // namespace
} // namespace anyhyve
