// The other end of control_server.hpp: what bhyvectl asks of a running VM. Threads: one at a time.
#pragma once

#include <memory>
#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "host/directory.hpp"
#include "host/fd.hpp"

namespace anyhyve {

class ControlClient {
public:
    static constexpr std::size_t longest_response = 64 * 1024 * 1024;

    // ESRCH: nobody runs the VM (no socket, or one that its process left when it was killed).
    static Result<ControlClient> connect(host::Directory const& directory, std::string const& name);

    // Blocks until the answer is there, at most `timeout_ms` after the last byte (ETIMEDOUT). An answer that says "no" is an error with its
    // sentence and errno value. EPROTO: the answer makes no sense; ECONNRESET: the VM's process ended.
    Result<Json> call(std::string const& command, Json const& arguments, unsigned timeout_ms = 30'000);

private:
    explicit ControlClient(host::Fd socket) : m_socket(std::move(socket)) {}
    Result<std::string> read_line(unsigned timeout_ms);

    host::Fd m_socket;
    std::string m_input;
};

} // namespace anyhyve
