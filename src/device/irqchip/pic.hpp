// The two 8259A interrupt controllers of a PC: master with IRQ 0-7, slave with IRQ 8-15 behind the master's IRQ 2.
//
// Spec: Intel 8259A data sheet; edge/level control registers from the PIIX3 data sheet 2.5.4. The level bit of ICW1 is ignored, as there.
// State: both chips' registers. The levels of the lines are wires: not saved, not reset.
// Missing: MCS-80/85 mode (as on all PCs), buffered mode (has no effect on software).
// Threads: any; one lock, held while the INTR output changes.
#pragma once

#include <array>
#include <functional>
#include <mutex>

#include "device/irqchip/apic_bus.hpp"
#include "vmm/byte_window.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class Pic final : public InterruptSink, public ExternalInterruptSource, public Persistent {
public:
    static constexpr unsigned line_count = 16;
    static constexpr unsigned cascade_line = 2;

    // `output` is told of every change of INTR; it must not call back.
    explicit Pic(std::function<void(bool asserted)> output);

    BusDevice& master() { return m_master_window; } // two ports at 0x20
    BusDevice& slave() { return m_slave_window; }   // two ports at 0xa0
    BusDevice& edge_level() { return m_edge_level_window; } // two ports at 0x4d0

    // Counts assertions of ISA interrupt `line`; the cascade and lines beyond 15 are ignored.
    void set_level(unsigned line, bool asserted) override;
    // The CPU's interrupt-acknowledge cycle. When the request has gone away: the spurious vector of IRQ 7 or 15.
    int acknowledge() override;
    bool output() const;
    // What firmware or the board does with the edge/level register for a PCI interrupt.
    void set_trigger(unsigned line, TriggerMode);
    // Vectors 08h and 70h, every line open: as the firmware of a PC/AT leaves it to a real-mode program.
    void initialise_as_firmware();

    std::string_view state_name() const override { return "atpic"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    enum class NextWord : u8 { none, icw2, icw3, icw4 };
    struct Chip {
        u8 request = 0;         // IRR: edges latched, and levels
        u8 mask = 0;
        u8 in_service = 0;
        u8 level_triggered = 0; // ELCR
        u8 levels = 0;          // of the inputs
        u8 vector_base = 0;
        u8 lowest = 7;          // the line of lowest priority
        u8 cascade = 0;         // ICW3
        NextWord next_word = NextWord::none;
        bool needs_icw4 = false;
        bool single = false;
        bool ready = false;     // initialised by software
        bool auto_eoi = false;
        bool rotate_on_auto_eoi = false;
        bool fully_nested = false; // special fully nested mode
        bool special_mask = false;
        bool read_in_service = false;
        bool poll = false;

        void set_input(unsigned line, bool asserted);
        int pending(bool is_master) const;
        u8 accept(unsigned line);
        unsigned priority(unsigned line) const { return (line + 7 - lowest) & 7; }
        int highest(u8 set) const;
        void initialise(u8 icw1);
        void command(u8 ocw2);
        void save(Encoder&) const;
        bool restore(Decoder&);
    };

    u8 read_master(u64 offset) { return read_chip(m_master, offset); }
    u8 read_slave(u64 offset) { return read_chip(m_slave, offset); }
    void write_master(u64 offset, u8 value) { write_chip(m_master, offset, value); }
    void write_slave(u64 offset, u8 value) { write_chip(m_slave, offset, value); }
    u8 read_edge_level(u64 offset);
    void write_edge_level(u64 offset, u8 value);
    u8 read_chip(Chip&, u64 offset);
    void write_chip(Chip&, u64 offset, u8 value);
    void write_command(Chip&, u8 value);
    void write_data(Chip&, u8 value);
    u8 acknowledge_chip(Chip&);
    u8 poll_chip(Chip&);
    void set_edge_level(Chip&, u8 value);
    void update();
    void set_output(bool);

    std::function<void(bool)> m_output_changed;
    mutable std::mutex m_mutex;
    Chip m_master, m_slave;
    std::array<u32, line_count> m_assertions {};
    bool m_output = false;

    ByteWindow<Pic, &Pic::read_master, &Pic::write_master> m_master_window { *this };
    ByteWindow<Pic, &Pic::read_slave, &Pic::write_slave> m_slave_window { *this };
    ByteWindow<Pic, &Pic::read_edge_level, &Pic::write_edge_level> m_edge_level_window { *this };
};

} // namespace anyhyve
