// ACPI fixed hardware: PM1 event and control registers, the PM timer, the SMI command port that turns ACPI on and off.
//
// Spec: ACPI 6.4, 4.8.3 (fixed hardware registers), 4.8.2.1 (PM timer), 4.8.2.2.1 (power button); register layout as PIIX4's: events at 0,
// control at 4, timer at 8.
// State: status, enable, control. Missing: sleep states other than S5 (a request for one is ignored), sleep button, RTC alarm, wake events.
// Threads: any; one lock, held while the SCI changes, not while `power_off` runs.
#pragma once

#include <functional>
#include <mutex>

#include "device/timer/tick_schedule.hpp"
#include "vmm/byte_window.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class AcpiPm final : public Persistent {
public:
    static constexpr TickRate timer_rate { 3'579'545 };
    static constexpr unsigned system_control_interrupt = 9;
    static constexpr u8 sleep_type_s5 = 5;
    static constexpr u8 smi_enable_acpi = 0xa0, smi_disable_acpi = 0xa1;
    static constexpr u64 register_space = 12;

    // `interrupt` is the SCI, level-triggered. `power_off` is called when software enters S5, on the vCPU's thread.
    AcpiPm(Clock&, IrqLine interrupt, std::function<void()> power_off);

    BusDevice& registers() { return m_register_window; } // 12 ports: events 0x400, control 0x404, timer 0x408
    BusDevice& smi_command() { return m_smi_window; }    // 2 ports at 0xb2

    enum class ButtonOutcome : u8 { delivered, nobody_listens };
    // Someone pushes the power button. nobody_listens: the guest has not enabled ACPI, or not this event.
    ButtonOutcome press_power_button();

    std::string_view state_name() const override { return "acpi-pm"; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    u64 read_registers(u64 offset, unsigned width);
    void write_registers(u64 offset, unsigned width, u64 value);
    u8 read_smi(u64 offset);
    void write_smi(u64 offset, u8 value);
    u8 register_byte(u64 offset) const;
    bool write_control(u16 value, u16 written);
    void catch_up();
    void update_interrupt();
    void alarm_rang();

    Clock& m_clock;
    IrqLine m_interrupt;
    std::function<void()> m_power_off;
    mutable std::mutex m_mutex;
    u16 m_status = 0;
    u16 m_enable = 0;
    u16 m_control = 0;
    u8 m_smi_status = 0;
    u64 m_carries_seen = 0; // of the timer's highest bit

    RegisterWindow<AcpiPm, &AcpiPm::read_registers, &AcpiPm::write_registers> m_register_window { *this };
    ByteWindow<AcpiPm, &AcpiPm::read_smi, &AcpiPm::write_smi> m_smi_window { *this };
    Alarm m_alarm; // last: destroyed first, which waits for its callback
};

} // namespace anyhyve
