// The test device of kvm-unit-tests ("pc-testdev"): things for an I/O instruction to hit, and interrupt lines that the guest moves itself.
//
// Spec: none; its users are (kvm-unit-tests x86/emulator.c, realmode.c, eventinj.c, ioapic.c, lam.c; lib/x86/apic.c set_irq_line).
// - ports 0xe0-0xe3: 32 bits of memory, each byte of it at its own port
// - ports 0xe4-0xe7: asks a hypervisor to forget how it maps the page written there. Nothing to do: that has no effect that a guest may see
// - ports 0x2000-0x2017: one for each interrupt, 0 lowers its line and anything else raises it
// - 64 KiB of memory at 0xff000000 that is on the bus and not RAM
// State: all of that. Missing: nothing. Threads: any, under its lock.
#pragma once

#include <array>
#include <mutex>

#include "vmm/byte_window.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class TestDevice final : public Persistent {
public:
    static constexpr unsigned line_count = 24;
    static constexpr u64 port_count = 8, memory_size = 64 * KiB;

    explicit TestDevice(InterruptSink&);

    BusDevice& ports() { return m_port_window; }   // from 0xe0
    BusDevice& lines() { return m_line_window; }   // from 0x2000
    BusDevice& memory() { return m_memory_window; } // at 0xff000000

    std::string_view state_name() const override { return "pc-testdev"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    u8 read_port(u64 offset);
    void write_port(u64 offset, u8 value);
    u64 read_line(u64 offset, unsigned width);
    void write_line(u64 offset, unsigned width, u64 value);
    u8 read_memory(u64 offset);
    void write_memory(u64 offset, u8 value);

    mutable std::mutex m_mutex;
    std::array<IrqLine, line_count> m_lines;
    u32 m_raised = 0; // a bit for each line
    std::array<u8, 4> m_latch {};
    std::array<u8, memory_size> m_bytes {};

    ByteWindow<TestDevice, &TestDevice::read_port, &TestDevice::write_port> m_port_window { *this };
    RegisterWindow<TestDevice, &TestDevice::read_line, &TestDevice::write_line> m_line_window { *this };
    ByteWindow<TestDevice, &TestDevice::read_memory, &TestDevice::write_memory> m_memory_window { *this };
};

} // namespace anyhyve
