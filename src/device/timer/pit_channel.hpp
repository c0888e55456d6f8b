// One of the three counters of an 8254.
// Spec: Intel 8254 data sheet. All times are ticks of its oscillator since the machine's power-on.
// It has no lock: the Pit calls it under its own.
#pragma once

#include <optional>

#include "vmm/snapshot.hpp"

namespace anyhyve {

class PitChannel {
public:
    // A control word for this channel ("Control Word Format"); the counter-latch command is one of them.
    void write_control(u8 value, u64 now);
    void write_data(u8 value, u64 now);
    u8 read_data(u64 now);
    enum class Latch : u8 { count = 1, status = 2, both = 3 };
    void latch(Latch, u64 now);
    void set_gate(bool level, u64 now);
    bool gate() const { return m_gate; }

    bool output(u64 now) const;
    // Applies a count that waits for the end of the current period. True when it did.
    bool advance(u64 now);

    // The next rising edges of OUT: every `period` ticks after `origin`, or one at `once`, or none.
    struct Edges {
        u64 origin = 0, period = 0;
        std::optional<u64> once;
    };
    Edges edges(u64 now) const;
    // When advance() has something to do.
    std::optional<u64> reload_tick() const { return m_next_count ? std::optional(m_reload_tick) : std::nullopt; }

    void save(Encoder&) const;
    bool restore(Decoder&);

private:
    enum class Mode : u8 { terminal_count, one_shot, rate_generator, square_wave, software_strobe, hardware_strobe };
    enum class Access : u8 { latch = 0, low = 1, high = 2, low_then_high = 3 };

    bool is_periodic() const { return m_mode == Mode::rate_generator || m_mode == Mode::square_wave; }
    bool is_triggered_by_gate() const { return m_mode == Mode::one_shot || m_mode == Mode::hardware_strobe; }
    u32 modulus() const { return m_bcd ? 10000 : 65536; }
    u32 decode(u16 raw) const;
    u16 encode(u32 count) const;
    void load(u32 count, u64 now);
    void start(u64 now);
    u64 elapsed(u64 now) const;
    u16 current(u64 now) const;
    u8 status(u64 now) const;

    Mode m_mode = Mode::square_wave; // undefined at power-up; this one leaves OUT high
    Access m_access = Access::low_then_high;
    bool m_bcd = false;
    bool m_gate = true;
    bool m_counting = false;         // a count is loaded and, where the mode asks for it, triggered
    bool m_null_count = true;        // the count written has not reached the counting element
    u32 m_count = 0;                 // 1..65536; 0: none written since the control word
    u32 m_next_count = 0;            // periodic modes: takes over at m_reload_tick
    u64 m_reload_tick = 0;
    u64 m_origin = 0;                // the tick at which the count was loaded
    std::optional<u64> m_frozen;     // elapsed ticks while counting is suspended
    std::optional<u8> m_low_written; // first half of a two-byte write
    bool m_high_next = false;        // second half of a two-byte read
    std::optional<u16> m_latched_count;
    std::optional<u8> m_latched_status;
};

} // namespace anyhyve
