// The fabric between local APICs and everyone who sends them interrupts: IOAPIC, devices with MSI, other processors, the 8259.
// Threads: attach() and the set_ functions before the vCPUs run; everything else from any thread. It has no lock: what it reads
// of each local APIC to match destinations is atomic there.
#pragma once

#include <array>
#include <atomic>

#include "device/irqchip/apic_message.hpp"
#include "vmm/irq_line.hpp"

namespace anyhyve {

class LocalApic;

// Told of the end of every level-triggered interrupt: the IOAPIC (SDM vol. 3A 10.8.5).
class EoiListener {
public:
    virtual ~EoiListener() = default;
    virtual void end_of_interrupt(u8 vector) = 0;
};

// Answers a processor's interrupt-acknowledge cycle with a vector: the 8259.
class ExternalInterruptSource {
public:
    virtual ~ExternalInterruptSource() = default;
    virtual int acknowledge() = 0;
};

class ApicBus final : public MsiSink {
public:
    static constexpr unsigned most_apics = 64;

    // APIC IDs are 0, 1, 2, ... in the order of attachment. The local APIC outlives every call but its own detach().
    void attach(LocalApic&);
    void detach(LocalApic&);
    unsigned count() const { return m_count; }
    LocalApic* apic(unsigned id) const { return id < m_count ? m_apics[id] : nullptr; }

    void set_eoi_listener(EoiListener* listener) { m_eoi_listener = listener; }
    void set_external_source(ExternalInterruptSource* source) { m_external_source = source; }

    // `sender` only matters for shorthands and statistics.
    void deliver(ApicMessage const&, LocalApic* sender = nullptr);
    void send_msi(u64 address, u32 data) override;
    // The INTR output of the 8259, wired to LINT0 of every processor; and the board's NMI, wired to LINT1.
    void set_external_output(bool asserted);
    void set_nmi_line(bool asserted);

    // For local APICs.
    void broadcast_eoi(u8 vector);
    int acknowledge_external();
    // Software has given one an ID that is not its number, or another's too: from now on all are asked.
    void note_changed_id() { m_ids_changed = true; }

private:
    bool matches(LocalApic const&, ApicMessage const&, LocalApic const* sender) const;
    LocalApic* arbitrate(ApicMessage const&, LocalApic const* sender);

    std::array<LocalApic*, most_apics> m_apics {};
    unsigned m_count = 0;
    std::atomic<unsigned> m_next_winner { 0 };
    std::atomic<bool> m_ids_changed { false };
    EoiListener* m_eoi_listener = nullptr;
    ExternalInterruptSource* m_external_source = nullptr;
};

} // namespace anyhyve
