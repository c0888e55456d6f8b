// Stream sockets in the file system (unix(7)). Threads: any.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "host/directory.hpp"
#include "host/fd.hpp"

namespace anyhyve::host {

// Both take a path of any length: the 107 bytes that the kernel allows hold only its last component, beside a short name of its directory.

// A listening, non-blocking socket that only its owner may connect to. A socket file that is there already and that nobody listens on is
// replaced; EADDRINUSE when somebody does, or when it is no socket. Whoever is done with it removes the file.
Result<Fd> listen_unix(Directory const& directory, std::string_view name);
Result<Fd> listen_unix(std::string const& path);

// A connected, blocking socket. ECONNREFUSED: nobody listens. ENOENT: no such file.
Result<Fd> connect_unix(Directory const& directory, std::string_view name);
Result<Fd> connect_unix(std::string const& path);

// The next client, non-blocking; EAGAIN when there is none.
Result<Fd> accept_client(int listener);

// Who is at the other end (SO_PEERCRED).
struct Peer {
    pid_t process;
    uid_t user;
};
Result<Peer> peer_of(int socket);

} // namespace anyhyve::host
