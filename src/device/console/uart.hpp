// The 16550A serial port.
// Spec: National Semiconductor PC16550D datasheet, chapter 8. State: all registers, FIFOs, interrupts, loopback.
// Missing: line errors of a real line, DMA signals (FCR bit 3), the baud rate as a limit of output: bytes leave at once.
// Threads: all calls from any thread, under the port's lock. Lock order: back end's receiver, port, back end's output.
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "device/console/console_backend.hpp"
#include "vmm/bus.hpp"
#include "vmm/clock.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"
#include "vmm/statistics.hpp"

namespace anyhyve {

class Uart final : public BusDevice, public Persistent, public StatisticsSource {
public:
    static constexpr u64 port_count = 8;

    // Offset within the eight ports. With DLAB (line control bit 7) set, 0 and 1 are the divisor latch.
    enum class Register : u64 {
        data = 0,                     // R: receiver buffer, W: transmitter holding, RW: divisor low
        interrupt_enable = 1,         // RW, RW: divisor high
        interrupt_identification = 2, // R; W: FIFO control
        line_control = 3,             // RW
        modem_control = 4,            // RW
        line_status = 5,              // R
        modem_status = 6,             // R
        scratch = 7,                  // RW
    };

    Uart(std::string name, IrqLine line, Clock& clock, std::unique_ptr<ConsoleBackend> backend);
    ~Uart() override;

    // Accesses wider than a byte reach the registers one after the other.
    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

    ConsoleBackend& backend() { return *m_backend; }

    std::string_view state_name() const override { return m_name; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;
    std::string statistics_name() const override { return m_name; }
    std::vector<Statistic> statistics() const override;

private:
    static constexpr unsigned fifo_size = 16;

    struct State {
        u8 interrupt_enable = 0;
        u8 fifo_control = 0;
        u8 line_control = 0;
        u8 modem_control = 0;
        u8 line_errors = 0;    // overrun: cleared by reading the line status
        u8 modem_status = 0;
        u8 scratch = 0;
        u16 divisor = 1;
        bool transmit_interrupt = false; // "transmitter holding register empty" not yet noticed
        bool timeout_interrupt = false;
        std::array<u8, fifo_size> received {};
        u8 first = 0;
        u8 count = 0;
    };

    u8 read_byte(Register);
    void write_byte(Register, u8);
    u8 read_received();
    u8 identify_interrupt();
    u8 line_status();
    void transmit(u8);
    void write_interrupt_enable(u8);
    void write_fifo_control(u8);
    void write_modem_control(u8);
    void update_modem_status();

    std::size_t receive(std::span<u8 const>);
    void output_drained();
    void timed_out();

    bool divisor_latch() const;
    bool loopback() const;
    unsigned capacity() const;
    unsigned trigger() const;
    u8 highest_interrupt() const;
    void update_timeout();
    void update_line();
    void clear_received();

    std::string m_name;
    mutable std::mutex m_mutex;
    IrqLine m_line;
    Clock& m_clock;
    std::unique_ptr<ConsoleBackend> m_backend;
    State m_state;
    bool m_waits_for_room = false; // the back end takes nothing: the transmitter stays full
    Clock::Nanoseconds m_timeout_at = Clock::never;
    u64 m_bytes_in = 0;
    u64 m_bytes_out = 0;
    std::unique_ptr<Clock::Timer> m_timer; // last: its callback uses all above
};

} // namespace anyhyve
