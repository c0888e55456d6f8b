// The two ports that reset a PC: reset control (0xcf9) and system control A (0x92), which also gates address line 20.
//
// Spec: ICH9 data sheet 13.7.5 (RST_CNT), 13.7.1 (PORT92). State: one byte each.
// Missing: address line 20 is always on; the bit is only remembered.
// Threads: any. The reset callback runs on the vCPU's thread without a lock held.
#pragma once

#include <atomic>
#include <functional>

#include "vmm/byte_window.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class ResetPort final : public Persistent {
public:
    explicit ResetPort(std::function<void()> reset_machine);

    BusDevice& reset_control() { return m_reset_window; }   // port 0xcf9
    BusDevice& system_control() { return m_control_window; } // port 0x92

    std::string_view state_name() const override { return "reset-port"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    u8 read_reset(u64) { return m_reset_control; }
    void write_reset(u64, u8 value);
    u8 read_control(u64) { return m_system_control; }
    void write_control(u64, u8 value);

    std::function<void()> m_reset_machine;
    std::atomic<u8> m_reset_control { 0 };
    std::atomic<u8> m_system_control { 0 };

    ByteWindow<ResetPort, &ResetPort::read_reset, &ResetPort::write_reset> m_reset_window { *this };
    ByteWindow<ResetPort, &ResetPort::read_control, &ResetPort::write_control> m_control_window { *this };
};

} // namespace anyhyve
