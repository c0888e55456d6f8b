// Asking a running VM.
#include "vmm/control_client.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>

#include "host/unix_socket.hpp"

namespace anyhyve {

Result<ControlClient> ControlClient::connect(host::Directory const& directory, std::string const& name)
{
    auto socket = host::connect_unix(directory, name);
    if (socket.ok())
        return ControlClient(socket.release_value());
    int const code = socket.error().code();
    if (code == ENOENT || code == ECONNREFUSED)
        return make_error(ESRCH, "{}: no process is running this virtual machine", directory.path());
    return socket.error();
}

Result<std::string> ControlClient::read_line(unsigned timeout_ms)
{
    std::size_t searched = 0;
    std::array<char, 16384> buffer;
    for (;;) {
        std::size_t const end = m_input.find('\n', searched);
        if (end != m_input.npos) {
            std::string line = m_input.substr(0, end);
            m_input.erase(0, end + 1);
            return line;
        }
        searched = m_input.size();
        if (m_input.size() > longest_response)
            return Error("The virtual machine's answer is too long.", EPROTO);
        pollfd waiting { m_socket.get(), POLLIN, 0 };
        int const ready = poll(&waiting, 1, static_cast<int>(timeout_ms));
        if (ready == 0)
            return make_error(ETIMEDOUT, "The virtual machine has not answered for {} s.", timeout_ms / 1000);
        ssize_t const count = ready < 0 ? -1 : recv(m_socket.get(), buffer.data(), buffer.size(), 0);
        if (count > 0)
            m_input.append(buffer.data(), static_cast<std::size_t>(count));
        else if (count == 0)
            return Error("The process that runs the virtual machine has ended without an answer.", ECONNRESET);
        else if (errno != EINTR)
            return Error::from_errno(errno, "The connection to the virtual machine");
    }
}

Result<Json> ControlClient::call(std::string const& command, Json const& arguments, unsigned timeout_ms)
{
    std::string const line = Json::object({ { "command", command }, { "arguments", arguments } }).dump() + "\n";
    for (std::size_t sent = 0; sent < line.size();) {
        ssize_t const count = send(m_socket.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
        if (count >= 0)
            sent += static_cast<std::size_t>(count);
        else if (errno == EPIPE || errno == ECONNRESET)
            break; // it may have said why before it hung up
        else if (errno != EINTR)
            return Error::from_errno(errno, "The connection to the virtual machine");
    }
    std::string const text = TRY(read_line(timeout_ms));
    auto const response = Json::parse(text);
    auto const good = response.ok() ? response.value().get<bool>("ok") : response.error();
    if (!good.ok())
        return Error("The virtual machine's answer makes no sense.", EPROTO);
    if (good.value()) {
        Json const* const result = response.value().find("result");
        return result ? *result : Json();
    }
    auto const message = response.value().get<std::string>("error");
    auto const code = response.value().get<int>("errno");
    return Error(message.ok() ? message.value() : "The virtual machine refused.", code.ok() ? code.value() : EIO);
}

} // namespace anyhyve
