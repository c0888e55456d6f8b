// Listening and connecting by directory and name.
#include "host/unix_socket.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

namespace anyhyve::host {

static Result<sockaddr_un> address_of(Directory const& directory, std::string_view name)
{
    if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos)
        return make_error(EINVAL, "{}: '{}' cannot be the name of a socket", directory.path(), name);
    sockaddr_un address {};
    address.sun_family = AF_UNIX;
    std::string path = directory.path() + "/" + std::string(name);
    if (path.size() >= sizeof address.sun_path)
        path = fmt::format("/proc/self/fd/{}/{}", directory.descriptor(), name);
    if (path.size() >= sizeof address.sun_path)
        return make_error(ENAMETOOLONG, "{}: '{}' is too long for the name of a socket", directory.path(), name);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

static sockaddr const* generic(sockaddr_un const& address)
{
    // SAFETY: sockets take every family's address through this type.
    return reinterpret_cast<sockaddr const*>(&address);
}

Result<Fd> connect_unix(Directory const& directory, std::string_view name)
{
    sockaddr_un const address = TRY(address_of(directory, name));
    Fd socket_file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket_file.valid() || connect(socket_file.get(), generic(address), sizeof address) != 0)
        return make_error(errno, "{}/{}: cannot connect: {}", directory.path(), name, std::strerror(errno));
    return socket_file;
}

static Result<void> remove_stale(Directory const& directory, std::string_view name)
{
    auto const there = directory.status(name);
    if (!there.ok())
        return {};
    if (!S_ISSOCK(there.value().st_mode) || connect_unix(directory, name).ok())
        return make_error(EADDRINUSE, "{}/{}: {}", directory.path(), name, S_ISSOCK(there.value().st_mode) ? "another process listens on it" : "it is not a socket");
    return directory.remove_file(name);
}

Result<Fd> listen_unix(Directory const& directory, std::string_view name)
{
    sockaddr_un const address = TRY(address_of(directory, name));
    TRY(remove_stale(directory, name));
    Fd socket_file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // The mode is that of the file which bind() makes: no moment in which others could connect.
    if (!socket_file.valid() || fchmod(socket_file.get(), 0600) != 0 || bind(socket_file.get(), generic(address), sizeof address) != 0
        || listen(socket_file.get(), 16) != 0)
        return make_error(errno, "{}/{}: cannot listen: {}", directory.path(), name, std::strerror(errno));
    return socket_file;
}

static Result<Directory> parent_of(std::string const& path)
{
    std::string const parent = std::filesystem::path(path).parent_path().string();
    return Directory::open(parent.empty() ? "." : parent);
}

Result<Fd> listen_unix(std::string const& path)
{
    return listen_unix(TRY(parent_of(path)), std::filesystem::path(path).filename().string());
}

Result<Fd> connect_unix(std::string const& path)
{
    return connect_unix(TRY(parent_of(path)), std::filesystem::path(path).filename().string());
}

Result<Fd> accept_client(int listener)
{
    Fd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.valid())
        return Error::from_errno(errno == EWOULDBLOCK ? EAGAIN : errno, "a client's connection");
    return client;
}

Result<Peer> peer_of(int socket)
{
    ucred credentials {};
    socklen_t size = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return Error::from_errno(errno, "a client's credentials");
    return Peer { credentials.pid, credentials.uid };
}

} // namespace anyhyve::host
