// The I/O APIC: 24 pins, each with a redirection entry that says what message it becomes.
//
// Spec: Intel 82093AA data sheet 3.2; the EOI register (version 0x20) from the ICH data sheets 13.5.
// State: register select, ID, redirection table. The levels of the pins are wires: not saved, not reset.
// Polarity: kept for the guest to read. A pin is told "asserted", so the board's wires match whatever polarity software believes in.
// Missing: nothing.
// Threads: any; one lock, held while messages go to local APICs.
#pragma once

#include <array>
#include <mutex>

#include "device/irqchip/apic_bus.hpp"
#include "vmm/bus.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class IoApic final : public BusDevice, public InterruptSink, public EoiListener, public Persistent {
public:
    static constexpr unsigned pin_count = 24;
    static constexpr u64 default_base = 0xfec00000;
    static constexpr u64 page_size = 0x1000;

    explicit IoApic(MsiSink& messages, u8 id = 0);

    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;
    // Counts assertions of the pin; pins beyond the last are ignored.
    void set_level(unsigned pin, bool asserted) override;
    void end_of_interrupt(u8 vector) override;
    // What the pin would send, for engines whose local APICs are elsewhere (KVM's routing table).
    struct Route {
        MsiMessage message;
        TriggerMode trigger = TriggerMode::edge;
        bool masked = true;
    };
    Route route(unsigned pin) const;

    std::string_view state_name() const override { return "ioapic"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    u32 read_indexed(u8 index) const;
    void write_indexed(u8 index, u32 value);
    void write_entry(unsigned pin, u64 value);
    void service_level(unsigned pin);
    void send(unsigned pin);
    void end_locked(u8 vector);
    Route route_locked(unsigned pin) const;

    MsiSink& m_messages;
    u8 const m_initial_id;
    mutable std::mutex m_mutex;
    u8 m_select = 0;
    u8 m_id;
    std::array<u64, pin_count> m_entries {};
    std::array<u32, pin_count> m_assertions {};
};

} // namespace anyhyve
