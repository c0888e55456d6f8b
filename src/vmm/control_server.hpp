// The socket through which bhyvectl talks to a running VM: one JSON object a line, in both directions.
//   request  {"command": "stats", "arguments": {...}}            at most 64 KiB, 32 deep; "arguments" may be missing
//   response {"ok": true, "result": ...}  or  {"ok": false, "error": "a sentence", "errno": 22}
// A client may send requests one after the other; answers come in their order. Threads: all on the event loop's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/integer.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/result.hpp"
#include "host/directory.hpp"
#include "host/event_loop.hpp"
#include "host/fd.hpp"

namespace anyhyve {

class ControlServer {
public:
    static constexpr std::size_t longest_request = 64 * 1024;
    static constexpr std::size_t most_clients = 16;

    // Runs on the loop's thread, which answers nobody else meanwhile. It must not destroy the server: post() that to the loop instead.
    // `arguments` is always an object.
    using Handler = std::function<Result<Json>(Json const& arguments)>;

    // Listens on `name` in `directory` (see host::listen_unix()); both outlive the server. Clients of other users than ours and root are
    // turned away.
    static Result<std::unique_ptr<ControlServer>> create(host::EventLoop&, host::Directory const& directory, std::string name);
    // Sends what is still to be sent, if the clients take it at once, and removes the socket.
    ~ControlServer();
    ControlServer(ControlServer const&) = delete;
    ControlServer& operator=(ControlServer const&) = delete;

    void add(std::string command, Handler handler);

private:
    struct Client {
        host::Fd socket;
        std::string input;  // of the request that has not ended yet, and of later ones
        std::string output; // not sent yet; while there is some, no further request is read
        bool finished = false; // no more input will come
    };

    ControlServer(host::EventLoop&, host::Directory const&, std::string name, host::Fd listener);
    void accept_clients();
    void serve(u64 id, host::EventLoop::Ready);
    void read_requests(Client&);
    // False: the client is to be dropped.
    bool answer_requests(Client&);
    bool send(Client&);
    std::string answer(std::string_view request);

    host::EventLoop& m_loop;
    host::Directory const& m_directory;
    std::string m_name;
    host::Fd m_listener;
    host::EventLoop::TimerId m_pause = 0;
    std::map<std::string, Handler, std::less<>> m_handlers;
    std::map<u64, Client> m_clients;
    u64 m_next_client = 0;
    log::RateLimit m_log_limit;
};

} // namespace anyhyve
