// The i8042 keyboard controller of a machine without PS/2 keyboard and mouse: firmware and kernels find it working and both ports empty.
//
// Spec: Intel 8042 as in the IBM PC/AT Technical Reference, "Keyboard Controller"; ICH9 data sheet 13.7 for the reset pulse.
// State: command byte, 31 bytes of RAM, output port, output buffer. Missing: devices on its ports; address line 20 is always on.
// Threads: any; one lock, held while interrupts 1 and 12 change, not while the reset callback runs.
#pragma once

#include <array>
#include <functional>
#include <mutex>
#include <optional>

#include "vmm/byte_window.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class KeyboardController final : public Persistent {
public:
    // Interrupts 1 and 12.
    KeyboardController(IrqLine keyboard, IrqLine mouse, std::function<void()> reset_machine);

    BusDevice& data() { return m_data_window; }       // port 0x60
    BusDevice& command() { return m_command_window; } // port 0x64

    std::string_view state_name() const override { return "i8042"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    enum class Source : u8 { controller, missing_keyboard, missing_mouse, keyboard_echo, mouse_echo };

    u8 read_data(u64);
    void write_data(u64, u8 value);
    u8 read_status(u64);
    void write_command(u64, u8 value);
    bool execute(u8 command);
    bool execute_with_data(u8 command, u8 value);
    void answer(u8 value, Source = Source::controller);
    void update_interrupts();

    static constexpr unsigned s_ram_size = 32;

    IrqLine m_keyboard_interrupt, m_mouse_interrupt;
    std::function<void()> m_reset_machine;
    mutable std::mutex m_mutex;
    std::array<u8, s_ram_size> m_ram {}; // byte 0 is the command byte
    u8 m_output_port = 0;
    bool m_last_was_command = false;
    bool m_self_tested = false;
    std::optional<u8> m_waiting_command; // wants a byte at port 0x60
    std::optional<u8> m_output;
    Source m_output_source = Source::controller;

    ByteWindow<KeyboardController, &KeyboardController::read_data, &KeyboardController::write_data> m_data_window { *this };
    ByteWindow<KeyboardController, &KeyboardController::read_status, &KeyboardController::write_command> m_command_window { *this };
};

} // namespace anyhyve
