// Where the board's interrupt wires lead: global system interrupts to IOAPIC pins and 8259 lines, and the PIRQ router of the LPC bridge.
//
// Spec: PIIX3 data sheet 2.5.10 and ICH data sheets 13.1.10 (PIRQx routing control); HPET specification 1.0a 2.3.4 (legacy replacement).
// ISA interrupt n is IOAPIC pin n and 8259 line n, except that interrupt 0 is IOAPIC pin 2 (ACPI override) and pin 0 is the 8259's INTR.
// PCI interrupts 16..23 are IOAPIC pins 16..23 and PIRQ A..H, which lead to the 8259 when software routes them.
// State: the PIRQ registers. Levels are wires: not saved, not reset. Missing: nothing.
// Threads: any. Its lock comes before those of IOAPIC and 8259.
#pragma once

#include <array>
#include <mutex>
#include <optional>

#include "device/irqchip/io_apic.hpp"
#include "device/irqchip/pic.hpp"

namespace anyhyve {

// PIRQ A..H: eight wires, eight registers that say which 8259 line each one shares.
class PirqRouter final : public Persistent {
public:
    static constexpr unsigned link_count = 8;
    static constexpr u8 disabled = 0x80;
    static constexpr u16 legal_lines = 0xdef8; // 3-7, 9-12, 14, 15

    explicit PirqRouter(Pic&);

    void set_level(unsigned link, bool asserted);
    // The register: bit 7 disables, bits 3:0 name the line.
    u8 routing(unsigned link) const;
    void set_routing(unsigned link, u8 value);
    // Which link the LPC bridge's configuration register at `offset` (0x60-0x63, 0x68-0x6b) belongs to.
    static std::optional<unsigned> link_of_register(unsigned offset);

    // For the board: keeps `line` free of PCI interrupts when another legal one is left.
    void reserve_line(unsigned line);
    // Routes `link` to the least used legal line, which becomes level-triggered, and tells which; the same again when called again.
    // This is what reset() returns to.
    unsigned assign_line(unsigned link);

    std::string_view state_name() const override { return "pirq"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    struct Link {
        u8 routing = disabled;
        u8 initial = disabled;
        u32 assertions = 0;
    };
    static bool is_routed(u8 routing) { return !(routing & disabled) && legal_lines >> (routing & 15) & 1; }
    void route(Link&, u8 routing);

    Pic& m_pic;
    mutable std::mutex m_mutex;
    std::array<Link, link_count> m_links {};
    std::array<u32, Pic::line_count> m_uses {};
};

class InterruptRouter final : public InterruptSink {
public:
    static constexpr unsigned first_pci_interrupt = 16;

    InterruptRouter(IoApic&, Pic&, PirqRouter&);

    // `pin` is an ISA interrupt (0..15) or a PCI one (16..23).
    void set_level(unsigned pin, bool asserted) override;
    // INTR of the 8259 on its way to IOAPIC pin 0 and LINT0.
    void set_external_output(bool asserted) { m_io_apic.set_level(0, asserted); }

    // While the HPET replaces the timer's and the RTC's interrupts, those two devices are cut off, and only this sink drives 0 and 8.
    enum class LegacySource : u8 { timer_and_rtc, hpet };
    void select_legacy_source(LegacySource);
    InterruptSink& legacy_replacement() { return m_replacement; }

private:
    class Replacement final : public InterruptSink {
    public:
        explicit Replacement(InterruptRouter& router) : m_router(router) {}
        void set_level(unsigned pin, bool asserted) override;

    private:
        InterruptRouter& m_router;
    };
    // One of the two interrupts that change their source.
    struct Switched {
        u32 assertions = 0; // by the 8254 or the RTC
        bool passed_on = false;
    };

    void forward_isa(unsigned line, bool asserted);
    void set_switched(unsigned line, Switched&, bool asserted);
    void pass_on(unsigned line, Switched&);

    IoApic& m_io_apic;
    Pic& m_pic;
    PirqRouter& m_pirq;
    Replacement m_replacement { *this };
    std::mutex m_mutex; // for the two switched interrupts
    LegacySource m_source = LegacySource::timer_and_rtc;
    Switched m_timer, m_rtc;
};

} // namespace anyhyve
