// A high precision event timer block: one 64-bit counter at 10 MHz, eight comparators.
//
// Spec: IA-PC HPET specification 1.0a.
// State: the registers; the counter as its value at a machine time. Missing: nothing.
// A comparator that is set a moment too late fires at once, where the hardware would wait for the counter to wrap.
// Threads: any; one lock, held while interrupts change.
#pragma once

#include <array>
#include <functional>
#include <mutex>
#include <optional>

#include "device/timer/tick_schedule.hpp"
#include "vmm/bus.hpp"
#include "vmm/irq_line.hpp"

namespace anyhyve {

class Hpet final : public BusDevice, public Persistent {
public:
    static constexpr u64 default_base = 0xfed00000;
    static constexpr u64 register_space = 0x400;
    static constexpr TickRate rate { 10'000'000 };
    static constexpr u32 period_femtoseconds = 100'000'000;
    static constexpr unsigned timer_count = 8;
    // What the ACPI table repeats: the low half of the capabilities register.
    static constexpr u32 hardware_id = 0x8086'0000 | 1 << 15 | 1 << 13 | (timer_count - 1) << 8 | 1;

    struct Wires {
        InterruptSink& io_apic;            // pins 20..23, as software routes the comparators
        InterruptSink& legacy;             // interrupts 0 and 8 while they replace 8254 and RTC
        MsiSink& messages;
        std::function<void(bool replaced)> legacy_replacement; // told when LEG_RT_CNF changes
    };
    Hpet(Clock&, Wires);

    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

    std::string_view state_name() const override { return "hpet"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    struct Comparator {
        u64 config = 0;        // writable bits only
        u64 compare = 0;       // as written; periodic mode adds to it
        u64 period = 0;        // 0: none written
        u64 message = 0;       // FSB route: data in the low half, address in the high
        std::optional<u64> due; // one-shot: the clock's tick
        TickSchedule periods { rate };
        IrqLine line;
    };
    enum class Late : u8 { fires, waits };

    u64 read_register(u64 offset);
    void write_register(u64 offset, u64 value, u64 written);
    u64 read_comparator(unsigned index, u64 offset) const;
    void write_comparator(unsigned index, u64 offset, u64 value, u64 written);
    void write_comparator_config(unsigned index, u64 value);
    void write_compare(Comparator&, u64 value, u64 written);
    void write_general_config(u64 value);
    void set_counter(u64 value);

    void look_at_clock() { m_now = m_clock.now(); }
    bool enabled() const;
    u64 tick() const { return rate.ticks(m_now); }
    u64 counter() const;
    u64 compare_now(Comparator const&) const;
    void schedule(Comparator&, Late);
    void schedule_all();
    bool replaces_legacy(unsigned index) const;
    void select_line(unsigned index);
    void update_line(unsigned index);
    void fire(unsigned index);
    void catch_up();
    void arm();
    void alarm_rang();
    void clear();

    Clock& m_clock;
    Wires m_wires;
    mutable std::mutex m_mutex;
    Clock::Nanoseconds m_now = 0; // when what is being done is done: nothing comes due amid it
    u64 m_config = 0;
    u64 m_status = 0;
    u64 m_counter = 0;     // its value, or its value at tick m_started while it runs
    u64 m_started = 0;
    std::array<Comparator, timer_count> m_comparators;
    Alarm m_alarm; // last: destroyed first, which waits for its callback
};

} // namespace anyhyve
