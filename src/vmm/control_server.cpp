// Clients, their lines, and the answers.
#include "vmm/control_server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "host/unix_socket.hpp"

namespace anyhyve {

using host::EventLoop;

Result<std::unique_ptr<ControlServer>> ControlServer::create(EventLoop& loop, host::Directory const& directory, std::string name)
{
    host::Fd listener = TRY(host::listen_unix(directory, name));
    std::unique_ptr<ControlServer> server(new ControlServer(loop, directory, std::move(name), std::move(listener)));
    TRY(loop.watch(server->m_listener.get(), EventLoop::Interest::read, [raw = server.get()](EventLoop::Ready) { raw->accept_clients(); }));
    return server;
}

ControlServer::ControlServer(EventLoop& loop, host::Directory const& directory, std::string name, host::Fd listener)
    : m_loop(loop)
    , m_directory(directory)
    , m_name(std::move(name))
    , m_listener(std::move(listener))
{
}

ControlServer::~ControlServer()
{
    m_loop.cancel(m_pause);
    m_loop.unwatch(m_listener.get());
    for (auto& [id, client] : m_clients) {
        send(client);
        m_loop.unwatch(client.socket.get());
    }
    if (auto const removed = m_directory.remove_file(m_name); !removed.ok())
        log::debug("{}", removed.error().message());
}

void ControlServer::add(std::string command, Handler handler)
{
    m_handlers.insert_or_assign(std::move(command), std::move(handler));
}

static std::string error_line(std::string const& message, int code)
{
    // Bytes that are no UTF-8 may come from file names and from the client itself.
    return Json::object({ { "ok", false }, { "error", message }, { "errno", code } }).dump() + "\n";
}

void ControlServer::accept_clients()
{
    for (;;) {
        auto accepted = host::accept_client(m_listener.get());
        if (!accepted.ok()) {
            int const code = accepted.error().code();
            if (code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOBUFS) {
                // The client stays in the queue and would wake us for ever.
                log::guest(m_log_limit, "{}/{}: {}", m_directory.path(), m_name, accepted.error().message());
                m_loop.set_interest(m_listener.get(), EventLoop::Interest::none);
                m_pause = m_loop.call_later(std::chrono::milliseconds(100), [this] { m_loop.set_interest(m_listener.get(), EventLoop::Interest::read); });
            }
            return;
        }
        host::Fd socket = accepted.release_value();
        auto const peer = host::peer_of(socket.get());
        std::string refusal;
        if (!peer.ok() || (peer.value().user != geteuid() && peer.value().user != 0))
            refusal = error_line("Only the user of this virtual machine and root may control it.", EPERM);
        else if (m_clients.size() >= most_clients)
            refusal = error_line("This virtual machine has too many control connections.", EBUSY);
        if (!refusal.empty()) {
            (void)!::send(socket.get(), refusal.data(), refusal.size(), MSG_NOSIGNAL);
            continue;
        }
        u64 const id = m_next_client++;
        int const file = socket.get();
        auto const watched = m_loop.watch(file, EventLoop::Interest::read, [this, id](EventLoop::Ready ready) { serve(id, ready); });
        if (watched.ok())
            m_clients[id].socket = std::move(socket);
    }
}

void ControlServer::serve(u64 id, EventLoop::Ready ready)
{
    Client& client = m_clients.at(id);
    if (ready.read && client.output.empty() && !client.finished)
        read_requests(client);
    bool const keep = send(client) && answer_requests(client) && !(client.finished && client.output.empty());
    if (!keep) {
        m_loop.unwatch(client.socket.get());
        m_clients.erase(id);
        return;
    }
    m_loop.set_interest(client.socket.get(), client.output.empty() ? EventLoop::Interest::read : EventLoop::Interest::write);
}

void ControlServer::read_requests(Client& client)
{
    std::array<char, 16384> buffer;
    // No further than one byte beyond the longest request: answer_requests() then finds it too long.
    while (client.input.size() <= longest_request) {
        ssize_t const count = recv(client.socket.get(), buffer.data(), buffer.size(), 0);
        if (count > 0) {
            client.input.append(buffer.data(), static_cast<std::size_t>(count));
            continue;
        }
        if (count < 0 && errno == EINTR)
            continue;
        client.finished = count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
        return;
    }
}

bool ControlServer::answer_requests(Client& client)
{
    // Several requests may wait; an answer that the client does not take stops us until it does.
    while (client.output.empty()) {
        std::size_t const end = client.input.find('\n');
        if (std::min(end, client.input.size()) > longest_request) {
            client.output = error_line(fmt::format("A request is longer than {} bytes.", longest_request), EMSGSIZE);
            client.input.clear();
            client.finished = true; // where the next request begins is not known
            return send(client);
        }
        if (end == client.input.npos)
            return true;
        std::string const request = client.input.substr(0, end);
        client.input.erase(0, end + 1);
        if (request.find_first_not_of(" \t\r") != request.npos)
            client.output = answer(request);
        if (!send(client))
            return false;
    }
    return true;
}

// Sends as much as the client takes. False: it is gone.
bool ControlServer::send(Client& client)
{
    while (!client.output.empty()) {
        ssize_t const count = ::send(client.socket.get(), client.output.data(), client.output.size(), MSG_NOSIGNAL);
        if (count >= 0)
            client.output.erase(0, static_cast<std::size_t>(count));
        else if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK;
    }
    return true;
}

std::string ControlServer::answer(std::string_view request)
{
    auto const parsed = Json::parse(request);
    if (!parsed.ok())
        return error_line(parsed.error().message(), parsed.error().code());
    auto const command = parsed.value().get<std::string>("command");
    if (!command.ok())
        return error_line("A request is a JSON object with a 'command'.", EINVAL);
    Json const none = Json::object();
    Json const* const given = parsed.value().find("arguments");
    Json const& arguments = given ? *given : none;
    if (arguments.kind() != Json::Kind::object)
        return error_line("The 'arguments' of a request are a JSON object.", EINVAL);
    auto const found = m_handlers.find(command.value());
    if (found == m_handlers.end())
        return error_line(fmt::format("There is no command '{}'.", command.value()), ENOSYS);
    auto result = found->second(arguments);
    if (!result.ok())
        return error_line(result.error().message(), result.error().code());
    return Json::object({ { "ok", true }, { "result", result.release_value() } }).dump() + "\n";
}

} // namespace anyhyve
