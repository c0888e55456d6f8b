// Fuzzes the control server: any bytes from a client, in pieces, and every whole line is answered with one JSON object on a line.
#include "vmm/control_server.hpp"

#include <cstdlib>
#include <string_view>

#include <sys/socket.h>
#include <unistd.h>

#include "fuzz/input.hpp"
#include "host/unix_socket.hpp"

using namespace anyhyve;

namespace {

// A server on a socket in a directory that ends with the program.
struct Service {
    std::string path = [] {
        std::string pattern = "/tmp/anyhyve-fuzz-XXXXXX";
        ASSERT(mkdtemp(pattern.data()) != nullptr, "there is room for a directory");
        return pattern;
    }();
    host::Directory directory = host::Directory::open(path).release_value();
    std::unique_ptr<host::EventLoop> loop = host::EventLoop::create().release_value();
    std::unique_ptr<ControlServer> server = ControlServer::create(*loop, directory, "control").release_value();

    Service()
    {
        server->add("echo", [](Json const& arguments) -> Result<Json> { return arguments; });
        server->add("double", [](Json const& arguments) -> Result<Json> { return Json(TRY(arguments.get<int>("value")) * 2LL); });
        server->add("text", [](Json const& arguments) -> Result<Json> { return Json(TRY(arguments.get<std::string>("text"))); });
        server->add("fail", [](Json const&) -> Result<Json> { return make_error(EBUSY, "The disk is busy."); });
    }
    ~Service()
    {
        server.reset();
        rmdir(path.c_str());
    }
    void turn() { ASSERT(loop->run_once(std::chrono::milliseconds(0)).ok(), "the loop turns"); }
};

std::string receive(int socket)
{
    std::string text;
    char buffer[4096];
    for (ssize_t count; (count = recv(socket, buffer, sizeof buffer, MSG_DONTWAIT)) > 0;)
        text.append(buffer, static_cast<std::size_t>(count));
    return text;
}

void check_answers(std::string_view text)
{
    ASSERT(text.empty() || text.back() == '\n', "answers are lines");
    while (!text.empty()) {
        auto const end = text.find('\n');
        auto const answer = Json::parse(text.substr(0, end));
        ASSERT(answer.ok(), "an answer is JSON");
        auto const good = answer.value().get<bool>("ok");
        ASSERT(good.ok(), "an answer is an object that says whether it is one");
        ASSERT(good.value() ? answer.value().find("result") != nullptr : answer.value().find("error") && answer.value().find("errno"), "an answer has its fields");
        text.remove_prefix(end + 1);
    }
}

} // namespace

std::vector<std::vector<u8>> anyhyve::fuzz::seeds()
{
    std::vector<std::vector<u8>> all;
    for (std::string const& text : { std::string("\x20{\"command\":\"echo\",\"arguments\":{\"a\":[1,2.5,\"\\u00e4\",null]}}\n"),
             std::string("\x07{\"command\":\"double\",\"arguments\":{\"value\":21}}\n{\"command\":\"fail\"}\n"),
             std::string("\xff{\"command\":\"text\",\"arguments\":{\"text\":\"\xc3\xa4\"}}\n\n[]\n{\"command\":1}\n"),
             "\xff{\"command\":\"echo\",\"arguments\":{\"a\":" + std::string(30'000, '[') + std::string(30'000, ']') + "}}\n",
             "\xff" + std::string(ControlServer::longest_request + 2, ' ') + "\n" })
        all.emplace_back(text.begin(), text.end());
    return all;
}

// The first byte is the size of the pieces (255: all at once), the rest what the client sends.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    static Service service;
    fuzz::Input input(data, size);
    std::size_t piece = input.byte() + std::size_t { 1 };
    if (piece > 255)
        piece = size;
    auto const socket = host::connect_unix(service.directory, "control").release_value();
    service.turn();
    std::string answers;
    while (!input.empty()) {
        auto const bytes = input.take(std::max(piece, size / 64));
        if (send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        service.turn();
        answers += receive(socket.get());
    }
    shutdown(socket.get(), SHUT_WR);
    for (int i = 0; i < 3; ++i) {
        service.turn();
        answers += receive(socket.get());
    }
    if (answers.ends_with('\n')) // else the client was slower than its answers, or hung up on
        check_answers(answers);
    return 0;
}
