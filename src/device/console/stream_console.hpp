// A console on file descriptors: a terminal, a pseudo-terminal, a TCP client, a file. Output collects in a bounded ring and leaves on the
// back end's own thread a moment later, so that a guest's byte costs a copy and not a system call.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>

#include "device/console/byte_ring.hpp"
#include "device/console/console_backend.hpp"
#include "device/console/raw_terminal.hpp"

namespace anyhyve {

class StreamConsole final : public ConsoleBackend {
public:
    // What happens to output when nobody takes it: the guest waits, or the oldest bytes are lost.
    enum class WhenFull { hold, drop_oldest };
    enum class Escape { none, control_a };

    struct Setup {
        std::string description;
        int input = -1;            // owned, as all of these; may be the same file as output
        int output = -1;
        int listener = -1;         // clients of this socket become input and output, one at a time
        int held_open = -1;        // kept open for its effect only: the far side of a pseudo-terminal
        std::string link;          // a symbolic link, removed at the end
        WhenFull when_full = WhenFull::hold;
        Escape escape = Escape::none;
        LeaveCallback leave;
        std::unique_ptr<RawTerminal> terminal;
        bool blocking_output = false; // output lacks O_NONBLOCK
        std::shared_ptr<void> claim;  // released at the end
    };
    static Result<std::unique_ptr<StreamConsole>> create(Setup setup);
    ~StreamConsole() override;

    void write(std::span<u8 const>) override;
    bool has_room() override;
    void set_receiver(Receiver, Drained) override;
    void receiver_ready() override;
    std::string description() const override { return m_setup.description; }

private:
    using Time = std::chrono::steady_clock::time_point;
    StreamConsole(Setup setup, int wake_file);

    void run();
    void wake();
    void take_wake();
    void accept_client();
    void close_end(int& end);
    void read_input();
    void filter_escapes(std::span<u8 const>);
    void deliver_input();
    void flush_output();
    void flush_at_end();
    bool take_outgoing();
    void write_some();
    int poll_timeout() const;
    void note_pending_output();

    Setup m_setup;
    int m_wake_file;
    std::atomic<bool> m_stopping { false };
    std::thread m_thread;

    // Lock order: m_receiver_mutex, the receiver's own, m_output_mutex.
    std::mutex m_receiver_mutex;
    Receiver m_receiver;
    Drained m_drained;

    std::mutex m_output_mutex;
    ByteRing m_output;
    bool m_thread_knows = false; // that there is output
    bool m_wants_drained = false;
    std::atomic<bool> m_nearly_full { false };

    // Of the thread alone, but for the first.
    std::atomic<bool> m_input_blocked { false };
    std::vector<u8> m_input; // read, and not yet taken by the receiver
    bool m_saw_control_a = false;
    std::vector<u8> m_outgoing; // taken from the ring, not yet written
    bool m_output_stuck = false; // the last write was refused: wait until poll says otherwise
    std::optional<Time> m_flush_at;
};

} // namespace anyhyve
