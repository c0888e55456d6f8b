// The thread behind a console on file descriptors.
#include "device/console/stream_console.hpp"

#include <array>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"
#include "host/thread.hpp"

namespace anyhyve {

namespace {

constexpr std::size_t ring_size = 64 * KiB;
constexpr std::size_t least_room = 256; // below this a guest that can wait is told to
constexpr std::size_t input_chunk = 256;
constexpr std::size_t output_chunk = 4096; // what a pipe that polls writable takes at least
constexpr auto flush_delay = std::chrono::milliseconds(2); // long enough to gather a line, short enough for an echo
constexpr u8 control_a = 1;

} // namespace

Result<std::unique_ptr<StreamConsole>> StreamConsole::create(Setup setup)
{
    int const wake_file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    std::unique_ptr<StreamConsole> console(new StreamConsole(std::move(setup), wake_file));
    if (wake_file < 0)
        return Error::from_errno(errno, "eventfd");
    console->m_thread = TRY(host::start_thread("console", [raw = console.get()] { raw->run(); }));
    return console;
}

StreamConsole::StreamConsole(Setup setup, int wake_file)
    : m_setup(std::move(setup))
    , m_wake_file(wake_file)
    , m_output(ring_size)
{
}

StreamConsole::~StreamConsole()
{
    m_stopping = true;
    if (m_thread.joinable()) {
        wake();
        m_thread.join();
    }
    m_setup.terminal.reset();
    int const output = m_setup.output == m_setup.input ? -1 : m_setup.output;
    for (int const file : { m_setup.input, output, m_setup.listener, m_setup.held_open, m_wake_file }) {
        if (file > STDERR_FILENO)
            ::close(file);
    }
    if (!m_setup.link.empty())
        ::unlink(m_setup.link.c_str());
}

void StreamConsole::wake()
{
    u64 const one = 1;
    // The counter cannot overflow in practice, and when full it is readable anyway.
    [[maybe_unused]] auto const written = ::write(m_wake_file, &one, sizeof one);
}

void StreamConsole::take_wake()
{
    u64 count = 0;
    [[maybe_unused]] auto const got = ::read(m_wake_file, &count, sizeof count);
}

void StreamConsole::write(std::span<u8 const> bytes)
{
    bool tell = false;
    {
        std::lock_guard lock(m_output_mutex);
        std::size_t const before = m_output.size();
        if (m_setup.when_full == WhenFull::drop_oldest && bytes.size() > m_output.room())
            m_output.drop(bytes.size() - m_output.room());
        m_output.push(bytes);
        std::size_t const half = m_output.capacity() / 2;
        bool const crossed_half = before < half && m_output.size() >= half;
        tell = !m_thread_knows || crossed_half;
        m_thread_knows = true;
        m_nearly_full.store(m_output.room() < least_room, std::memory_order_relaxed);
    }
    if (tell)
        wake();
}

bool StreamConsole::has_room()
{
    if (m_setup.when_full == WhenFull::drop_oldest || !m_nearly_full.load(std::memory_order_relaxed))
        return true;
    std::lock_guard lock(m_output_mutex);
    if (m_output.room() >= least_room)
        return true;
    m_wants_drained = true;
    return false;
}

void StreamConsole::set_receiver(Receiver receiver, Drained drained)
{
    {
        std::lock_guard lock(m_receiver_mutex);
        m_receiver = std::move(receiver);
        m_drained = std::move(drained);
    }
    m_input_blocked = false;
    wake();
}

void StreamConsole::receiver_ready()
{
    if (m_input_blocked.load(std::memory_order_acquire) && m_input_blocked.exchange(false))
        wake();
}

int StreamConsole::poll_timeout() const
{
    if (!m_flush_at || m_output_stuck)
        return -1;
    auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(*m_flush_at - std::chrono::steady_clock::now()).count();
    return left < 0 ? 0 : static_cast<int>(left) + 1;
}

void StreamConsole::note_pending_output()
{
    if (m_setup.output < 0 && m_setup.listener >= 0)
        return; // waits for a client
    std::lock_guard lock(m_output_mutex);
    auto const now = std::chrono::steady_clock::now();
    if (m_output.size() >= m_output.capacity() / 2)
        m_flush_at = now;
    else if ((m_output.size() != 0 || !m_outgoing.empty()) && !m_flush_at)
        m_flush_at = now + flush_delay;
}

void StreamConsole::run()
{
    while (!m_stopping) {
        bool const reads = m_setup.input >= 0 && m_input.empty();
        std::array<pollfd, 4> files { {
            { m_wake_file, POLLIN, 0 },
            { m_setup.listener, POLLIN, 0 },
            { reads ? m_setup.input : -1, POLLIN, 0 },
            { m_output_stuck ? m_setup.output : -1, POLLOUT, 0 },
        } };
        if (::poll(files.data(), files.size(), poll_timeout()) < 0 && errno != EINTR)
            break;
        if (files[0].revents)
            take_wake();
        if (files[1].revents)
            accept_client();
        if (files[2].revents)
            read_input();
        if (files[3].revents)
            m_output_stuck = false;
        deliver_input();
        note_pending_output();
        if (m_flush_at && !m_output_stuck && *m_flush_at <= std::chrono::steady_clock::now())
            flush_output();
    }
    flush_at_end();
}

void StreamConsole::accept_client()
{
    int const client = ::accept4(m_setup.listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0)
        return;
    if (m_setup.input >= 0) {
        ::close(client); // one at a time
        return;
    }
    m_setup.input = m_setup.output = client;
    m_output_stuck = false;
    m_flush_at = std::chrono::steady_clock::now(); // what the guest said last, before anybody listened
}

// The file behind `end` is gone; the other end goes on where it is another file. A TCP client goes as a whole.
void StreamConsole::close_end(int& end)
{
    int& other = &end == &m_setup.input ? m_setup.output : m_setup.input;
    bool const same = other == end;
    if (end > STDERR_FILENO)
        ::close(end);
    end = -1;
    if (same)
        other = -1;
    m_output_stuck = false;
}

void StreamConsole::read_input()
{
    std::array<u8, input_chunk> bytes;
    ssize_t const count = ::read(m_setup.input, bytes.data(), bytes.size());
    if (count > 0)
        filter_escapes({ bytes.data(), static_cast<std::size_t>(count) });
    else if (count == 0 || (errno != EAGAIN && errno != EINTR))
        close_end(m_setup.input); // the end of the input: poll() would report it for ever
}

void StreamConsole::filter_escapes(std::span<u8 const> bytes)
{
    for (u8 const byte : bytes) {
        if (m_setup.escape == Escape::none) {
            m_input.push_back(byte);
        } else if (m_saw_control_a) {
            m_saw_control_a = false;
            if (byte == 'x' || byte == 'X') {
                if (m_setup.leave)
                    m_setup.leave();
                continue;
            }
            m_input.push_back(control_a);
            if (byte != control_a)
                m_input.push_back(byte);
        } else if (byte == control_a) {
            m_saw_control_a = true;
        } else {
            m_input.push_back(byte);
        }
    }
}

void StreamConsole::deliver_input()
{
    // Announced before the last attempt, so that a receiver that gets room meanwhile is noticed.
    for (int attempt = 0; attempt < 2 && !m_input.empty(); ++attempt) {
        std::lock_guard lock(m_receiver_mutex);
        std::size_t const taken = m_receiver ? m_receiver(m_input) : m_input.size();
        m_input.erase(m_input.begin(), m_input.begin() + static_cast<std::ptrdiff_t>(std::min(taken, m_input.size())));
        if (!m_input.empty())
            m_input_blocked.store(true);
    }
}

// Writes what it can of m_outgoing.
void StreamConsole::write_some()
{
    if (m_setup.blocking_output) {
        // Another program shares this open file, so it cannot be made non-blocking.
        pollfd file { m_setup.output, POLLOUT, 0 };
        if (::poll(&file, 1, 0) == 0) {
            m_output_stuck = true;
            return;
        }
    }
    ssize_t const count = m_setup.listener >= 0 ? ::send(m_setup.output, m_outgoing.data(), m_outgoing.size(), MSG_NOSIGNAL)
                                                : ::write(m_setup.output, m_outgoing.data(), m_outgoing.size());
    if (count >= 0) {
        m_outgoing.erase(m_outgoing.begin(), m_outgoing.begin() + count);
    } else if (errno == EAGAIN) {
        m_output_stuck = true;
    } else if (errno != EINTR) {
        if (m_setup.listener < 0)
            log::warning("{}: {}; its output is dropped from here on", m_setup.description, std::strerror(errno));
        close_end(m_setup.output);
    }
}

// Moves a piece from the ring to m_outgoing. False when there is none.
bool StreamConsole::take_outgoing()
{
    bool const nobody = m_setup.output < 0 && m_setup.listener < 0;
    std::lock_guard lock(m_output_mutex);
    if (nobody)
        m_output.drop(m_output.size());
    if (m_outgoing.empty() && m_setup.output >= 0) {
        auto const front = m_output.front();
        std::size_t const count = std::min(front.size(), output_chunk);
        m_outgoing.assign(front.begin(), front.begin() + static_cast<std::ptrdiff_t>(count));
        m_output.drop(count);
    }
    m_nearly_full.store(m_output.room() < least_room, std::memory_order_relaxed);
    m_thread_knows = m_output.size() != 0 || !m_outgoing.empty();
    return !m_outgoing.empty();
}

void StreamConsole::flush_output()
{
    m_flush_at.reset();
    while (take_outgoing() && m_setup.output >= 0 && !m_output_stuck)
        write_some();
    bool tell = false;
    {
        std::lock_guard lock(m_output_mutex);
        tell = m_wants_drained && m_output.room() >= m_output.capacity() / 2;
        m_wants_drained = m_wants_drained && !tell;
    }
    std::lock_guard lock(m_receiver_mutex);
    if (tell && m_drained)
        m_drained();
}

// The guest's last words, to a reader that still reads.
void StreamConsole::flush_at_end()
{
    for (int attempt = 0; attempt < 10; ++attempt) {
        m_output_stuck = false;
        flush_output();
        if (!m_output_stuck)
            return;
        pollfd file { m_setup.output, POLLOUT, 0 };
        if (::poll(&file, 1, 100) == 0)
            return;
    }
}

} // namespace anyhyve
