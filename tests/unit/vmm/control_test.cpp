// Tests of the control socket: questions and answers, several clients, and clients that send garbage.
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <thread>

#include "host/unix_socket.hpp"
#include "vmm/control_client.hpp"
#include "vmm/control_server.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {

using namespace std::chrono_literals;

class ControlTest : public testing::Test {
protected:
    void SetUp() override
    {
        m_directory = std::make_unique<host::Directory>(host::Directory::open(m_path).release_value());
        m_loop = host::EventLoop::create().release_value();
        m_server = ControlServer::create(*m_loop, *m_directory, "control").release_value();
        m_server->add("echo", [](Json const& arguments) -> Result<Json> { return arguments; });
        m_server->add("double", [](Json const& arguments) -> Result<Json> { return Json(TRY(arguments.get<int>("value")) * 2); });
        m_server->add("fail", [](Json const&) -> Result<Json> { return make_error(EBUSY, "The disk \"{}\" is busy.", "\xff"); });
        m_server->add("large", [](Json const&) -> Result<Json> { return Json(std::string(3'000'000, 'x')); });
        m_thread = std::thread([this] { EXPECT_TRUE(m_loop->run().ok()); });
    }
    void TearDown() override
    {
        m_loop->stop();
        m_thread.join();
        m_server.reset();
        EXPECT_FALSE(std::filesystem::exists(m_path + "/control"));
    }
    ControlClient connect() { return ControlClient::connect(*m_directory, "control").release_value(); }
    // Sends bytes as they are and reads until the server hangs up or `lines` lines are there.
    std::string raw(std::string const& bytes, int lines)
    {
        auto const socket = host::connect_unix(*m_directory, "control").release_value();
        (void)!send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        std::string all;
        char buffer[4096];
        while (std::count(all.begin(), all.end(), '\n') < lines) {
            ssize_t const count = recv(socket.get(), buffer, sizeof buffer, 0);
            if (count <= 0)
                break;
            all.append(buffer, static_cast<std::size_t>(count));
        }
        return all;
    }
    TemporaryFolder m_folder;
    std::string const& m_path = m_folder.path();
    std::unique_ptr<host::Directory> m_directory;
    std::unique_ptr<host::EventLoop> m_loop;
    std::unique_ptr<ControlServer> m_server;
    std::thread m_thread;
};

TEST_F(ControlTest, AnswersAndRefuses)
{
    auto client = connect();
    EXPECT_EQ(client.call("echo", Json::object({ { "a", 1 } })).value(), Json::object({ { "a", 1 } }));
    EXPECT_EQ(client.call("echo", Json::object()).value(), Json::object());
    EXPECT_EQ(client.call("double", Json::object({ { "value", 21 } })).value(), Json(42));
    auto const failed = client.call("fail", Json::object());
    EXPECT_EQ(failed.error().message(), "The disk \"\xef\xbf\xbd\" is busy.");
    EXPECT_EQ(failed.error().code(), EBUSY);
    EXPECT_EQ(client.call("nothing", Json::object()).error().code(), ENOSYS);
    EXPECT_EQ(client.call("double", Json::object({ { "value", "x" } })).error().code(), EINVAL);
    EXPECT_EQ(client.call("double", Json::object()).error().code(), EINVAL);
    EXPECT_EQ(client.call("large", Json::object()).value().get<std::string>().value().size(), 3'000'000u);
    EXPECT_EQ(client.call("double", Json::object({ { "value", 1 } })).value(), Json(2));
}

TEST_F(ControlTest, ServesSeveralClients)
{
    std::vector<std::thread> threads;
    std::atomic<int> good { 0 };
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&, i] {
            auto client = connect();
            for (int k = 0; k < 100; ++k)
                good += client.call("double", Json::object({ { "value", i * k } })).value() == Json(2 * i * k);
        });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(good, 800);
}

TEST_F(ControlTest, PipelinedRequestsAreAnsweredInOrder)
{
    std::string requests;
    for (int i = 0; i < 200; ++i)
        requests += R"({"command":"double","arguments":{"value":)" + std::to_string(i) + "}}\r\n\n";
    std::string const answers = raw(requests, 200);
    EXPECT_EQ(std::count(answers.begin(), answers.end(), '\n'), 200);
    EXPECT_NE(answers.find("{\"ok\":true,\"result\":398}\n"), std::string::npos);
    EXPECT_LT(answers.find("\"result\":10}"), answers.find("\"result\":12}"));
}

TEST_F(ControlTest, GarbageIsAnsweredAndHarmsNobody)
{
    auto const refused = [&](std::string const& line) { return raw(line + "\n", 1).find("\"ok\":false") != std::string::npos; };
    for (std::string const& line : { std::string("x"), std::string("{}"), std::string("[]"), std::string("null"), std::string("{\"command\":5}"),
             std::string("{\"command\":\"echo\",\"arguments\":[]}"), std::string("{\"command\":\"echo\""), std::string("\xff\xfe\x00 {", 5), std::string(60000, '['),
             std::string(60000, '{') })
        EXPECT_TRUE(refused(line)) << line.substr(0, 60);
    for (int const depth : { 30, 31, 30'000 }) { // inside of "arguments" and the request
        auto const nested = "{\"command\":\"echo\",\"arguments\":{\"]\\\"[\":" + std::string(depth, '[') + std::string(depth, ']') + "}}\n";
        EXPECT_NE(raw(nested, 1).find(depth == 30 ? "\"ok\":true" : "more than 32 deep"), std::string::npos) << depth;
    }
    EXPECT_NE(raw(std::string(200000, 'x'), 1).find("longer than 65536 bytes"), std::string::npos);
    EXPECT_NE(raw(std::string(70000, 'x') + "\n", 1).find("longer than 65536 bytes"), std::string::npos);
    EXPECT_EQ(raw("{\"command\":\"echo\",\"arguments\":{\"t\":\"" + std::string(65000, 'y') + "\"}}\n", 1).size(), 65000 + 35u - 5u);
    std::mt19937 random(3);
    for (int round = 0; round < 50; ++round) {
        std::string bytes;
        for (unsigned i = random() % 3000; i > 0; --i)
            bytes += static_cast<char>(random());
        auto const socket = host::connect_unix(*m_directory, "control").release_value();
        (void)!send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }
    // As long as the server has not seen that those are gone, there may be too many clients.
    auto answered = connect().call("double", Json::object({ { "value", 4 } }));
    for (int i = 0; i < 200 && !answered.ok(); ++i) {
        std::this_thread::sleep_for(10ms);
        answered = connect().call("double", Json::object({ { "value", 4 } }));
    }
    ASSERT_TRUE(answered.ok()) << answered.error().message();
    EXPECT_EQ(answered.value(), Json(8));
}

TEST_F(ControlTest, AClientThatDoesNotReadStopsOnlyItself)
{
    auto const lazy = host::connect_unix(*m_directory, "control").release_value();
    std::string const requests = "{\"command\":\"large\"}\n{\"command\":\"large\"}\n";
    ASSERT_GT(send(lazy.get(), requests.data(), requests.size(), MSG_NOSIGNAL), 0);
    EXPECT_EQ(connect().call("double", Json::object({ { "value", 4 } })).value(), Json(8));
    std::size_t received = 0;
    char buffer[65536];
    while (received < 2 * 3'000'024u) {
        ssize_t const count = recv(lazy.get(), buffer, sizeof buffer, 0);
        ASSERT_GT(count, 0);
        received += static_cast<std::size_t>(count);
    }
}

TEST_F(ControlTest, ClientsBeyondTheLimitAreTurnedAway)
{
    std::vector<ControlClient> clients;
    for (std::size_t i = 0; i < ControlServer::most_clients; ++i) {
        clients.push_back(connect());
        ASSERT_TRUE(clients.back().call("echo", Json::object()).ok());
    }
    EXPECT_EQ(connect().call("echo", Json::object()).error().code(), EBUSY);
    clients.pop_back();
    for (int attempt = 0; attempt < 100; ++attempt) {
        if (connect().call("echo", Json::object()).ok())
            return;
        std::this_thread::sleep_for(5ms);
    }
    FAIL() << "the place of a client that left is not given to another";
}

TEST_F(ControlTest, AVmThatNobodyRunsHasNoControl)
{
    EXPECT_EQ(ControlClient::connect(*m_directory, "none").error().code(), ESRCH);
    { auto const stale = host::listen_unix(*m_directory, "stale").release_value(); }
    EXPECT_EQ(ControlClient::connect(*m_directory, "stale").error().code(), ESRCH);
    EXPECT_EQ(ControlServer::create(*m_loop, *m_directory, "control").error().code(), EADDRINUSE);
}

TEST(ControlClientTest, GivesUpAndNoticesTheEnd)
{
    TemporaryFolder const folder;
    auto const directory = host::Directory::open(folder.path()).release_value();
    auto const listener = host::listen_unix(directory, "control").release_value();
    auto client = ControlClient::connect(directory, "control").release_value();
    EXPECT_EQ(client.call("x", Json::object(), 20).error().code(), ETIMEDOUT);
    auto server = host::accept_client(listener.get()).release_value();
    (void)!send(server.get(), "nonsense\n", 9, 0);
    EXPECT_EQ(client.call("x", Json::object(), 1000).error().code(), EPROTO);
    server.reset();
    EXPECT_EQ(client.call("x", Json::object(), 1000).error().code(), ECONNRESET);
}

} // namespace anyhyve
