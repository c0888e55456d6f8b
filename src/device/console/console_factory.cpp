// Opens console back ends by their description: "stdio", "tcp=[address:]port", "autopty[=link]", "file=path", "none", a terminal's path.
#include <array>
#include <atomic>
#include <cstdlib>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/console/stream_console.hpp"

namespace anyhyve {

namespace {

using Setup = StreamConsole::Setup;
using Created = Result<std::unique_ptr<ConsoleBackend>>;

Created create_stream(Setup setup)
{
    return std::unique_ptr<ConsoleBackend>(TRY(StreamConsole::create(std::move(setup))));
}

class NullConsole final : public ConsoleBackend {
public:
    void write(std::span<u8 const>) override {}
    bool has_room() override { return true; }
    void set_receiver(Receiver, Drained) override {}
    void receiver_ready() override {}
    std::string description() const override { return "none"; }
};

// An open file description of our own, so that making it non-blocking does not change that of the shell. Only for terminals and pipes:
// a regular file would lose its position.
int reopen(int file, int flags, bool& is_ours)
{
    struct stat status {};
    is_ours = false;
    if (::fstat(file, &status) != 0 || !(S_ISFIFO(status.st_mode) || ::isatty(file)))
        return file;
    int const own = ::open(fmt::format("/proc/self/fd/{}", file).c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    is_ours = own >= 0;
    return is_ours ? own : file;
}

Created create_stdio(LeaveCallback leave)
{
    static std::atomic<bool> s_in_use { false };
    if (s_in_use.exchange(true))
        return make_error(EBUSY, "stdio: another console uses it already");
    Setup setup;
    setup.claim = std::shared_ptr<void>(nullptr, [](void*) { s_in_use = false; });
    setup.description = "stdio";
    bool input_is_ours = false, output_is_ours = false;
    setup.input = reopen(STDIN_FILENO, O_RDONLY, input_is_ours);
    setup.output = reopen(STDOUT_FILENO, O_WRONLY, output_is_ours);
    setup.blocking_output = !output_is_ours;
    setup.leave = std::move(leave);
    // A background job that changed the terminal would be stopped (SIGTTOU).
    if (::isatty(STDIN_FILENO) && ::tcgetpgrp(STDIN_FILENO) == ::getpgrp()) {
        setup.escape = StreamConsole::Escape::control_a;
        setup.terminal = std::make_unique<RawTerminal>();
        TRY(setup.terminal->enter(STDIN_FILENO, "stdio"));
    }
    return create_stream(std::move(setup));
}

Created create_file(std::string const& path)
{
    Setup setup;
    setup.description = path;
    setup.output = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, 0644);
    if (setup.output < 0)
        return Error::from_errno(errno, path);
    return create_stream(std::move(setup));
}

Created create_device(std::string const& path)
{
    Setup setup;
    setup.description = path;
    int const file = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (file < 0)
        return Error::from_errno(errno, path);
    struct stat status {};
    if (::fstat(file, &status) != 0 || !(S_ISCHR(status.st_mode) || S_ISFIFO(status.st_mode))) {
        ::close(file);
        return make_error(ENOTTY, "{}: not a terminal; a file for output only is given as file={}", path, path);
    }
    setup.input = setup.output = file;
    if (::isatty(file)) {
        setup.terminal = std::make_unique<RawTerminal>();
        if (auto entered = setup.terminal->enter(file, path); !entered.ok()) {
            ::close(file);
            return entered.release_error();
        }
    }
    return create_stream(std::move(setup));
}

Result<void> make_link(std::string const& target, std::string const& link)
{
    struct stat status {};
    if (::lstat(link.c_str(), &status) == 0 && !S_ISLNK(status.st_mode))
        return make_error(EEXIST, "{}: exists and is not a symbolic link", link);
    ::unlink(link.c_str());
    if (::symlink(target.c_str(), link.c_str()) != 0)
        return Error::from_errno(errno, link);
    return {};
}

Created create_pseudo_terminal(std::string const& link)
{
    Setup setup;
    setup.when_full = StreamConsole::WhenFull::drop_oldest;
    int const master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    std::array<char, 64> name {};
    if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0 || ::ptsname_r(master, name.data(), name.size()) != 0) {
        int const code = errno;
        ::close(master);
        return Error::from_errno(code, "pseudo-terminal");
    }
    setup.input = setup.output = master;
    setup.description = fmt::format("pseudo-terminal {}", name.data());
    // Held open, so that the master does not report a hang-up whenever nobody uses the other side.
    setup.held_open = ::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    termios mode {};
    if (setup.held_open >= 0 && ::tcgetattr(setup.held_open, &mode) == 0) {
        cfmakeraw(&mode);
        ::tcsetattr(setup.held_open, TCSANOW, &mode);
    }
    if (!link.empty()) {
        if (auto made = make_link(name.data(), link); !made.ok()) {
            ::close(master);
            ::close(setup.held_open);
            return made.release_error();
        }
        setup.link = link;
    }
    return create_stream(std::move(setup));
}

Result<int> listen_at(std::string const& host, std::string const& port, std::string const& text)
{
    addrinfo hints {};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (int const code = ::getaddrinfo(host.empty() ? "127.0.0.1" : host.c_str(), port.c_str(), &hints, &found); code != 0)
        return make_error(EINVAL, "{}: {}", text, ::gai_strerror(code));
    std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> const addresses(found, ::freeaddrinfo);
    int const listener = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int const one = 1;
    if (listener >= 0)
        ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listener < 0 || ::bind(listener, found->ai_addr, found->ai_addrlen) != 0 || ::listen(listener, 1) != 0) {
        int const code = errno;
        if (listener >= 0)
            ::close(listener);
        return Error::from_errno(code, text);
    }
    ::setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ::setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    return listener;
}

// "port", "address:port" or "[IPv6 address]:port".
Created create_tcp(std::string const& place)
{
    std::string const text = fmt::format("tcp={}", place);
    auto const colon = place.rfind(':');
    std::string host = colon == std::string::npos ? std::string {} : place.substr(0, colon);
    std::string const port = colon == std::string::npos ? place : place.substr(colon + 1);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    else if (host.find(':') != std::string::npos)
        return make_error(EINVAL, "{}: an IPv6 address stands in brackets", text);
    if (port.empty())
        return make_error(EINVAL, "{}: the port is missing", text);
    Setup setup;
    setup.when_full = StreamConsole::WhenFull::drop_oldest;
    setup.listener = TRY(listen_at(host, port, text));
    // Port 0 lets the system choose: say what it chose.
    sockaddr_storage address {};
    socklen_t length = sizeof address;
    std::array<char, 64> chosen_host {}, chosen_port {};
    // SAFETY: sockaddr_storage is made to be looked at as any sockaddr (POSIX sys/socket.h).
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::getsockname(setup.listener, any, &length) == 0)
        ::getnameinfo(any, length, chosen_host.data(), chosen_host.size(), chosen_port.data(), chosen_port.size(),
            NI_NUMERICHOST | NI_NUMERICSERV);
    setup.description = fmt::format("tcp={}:{}", chosen_host.data(), chosen_port.data());
    return create_stream(std::move(setup));
}

} // namespace

Created create_console_backend(std::string const& text, LeaveCallback leave)
{
    auto const after = [&](std::string_view prefix) { return text.substr(prefix.size()); };
    if (text == "stdio")
        return create_stdio(std::move(leave));
    if (text == "none" || text == "null")
        return std::unique_ptr<ConsoleBackend>(std::make_unique<NullConsole>());
    if (text == "autopty")
        return create_pseudo_terminal({});
    if (text.starts_with("autopty="))
        return create_pseudo_terminal(after("autopty="));
    if (text.starts_with("file="))
        return create_file(after("file="));
    if (text.starts_with("tcp="))
        return create_tcp(after("tcp="));
    if (text.empty())
        return make_error(EINVAL, "console: expected stdio, tcp=address:port, autopty, file=path, none, or the path of a terminal");
    return create_device(text);
}

} // namespace anyhyve
