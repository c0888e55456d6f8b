// Registers, events and the SCI of ACPI's fixed hardware.
#include "device/legacy/acpi_pm.hpp"

#include "base/bits.hpp"
#include "base/log.hpp"

namespace anyhyve {

namespace {

enum class Register : u64 {
    status = 0,  // 16 bits, write 1 to clear
    enable = 2,  // 16 bits, RW
    control = 4, // 16 bits, RW
    timer = 8,   // 32 bits, R
    end = 12,
};

// 4.8.3.1.1, 4.8.3.1.2
constexpr u16 event_timer = 1 << 0, event_global_lock = 1 << 5, event_power_button = 1 << 8, event_rtc = 1 << 10, event_wake = 1 << 15;
// The RTC's event wakes a machine that sleeps; while it runs, the RTC's own interrupt does the work. It can be enabled and never happens.
constexpr u16 events = event_timer | event_global_lock | event_power_button | event_rtc;
constexpr u16 status_clearable = events | event_wake;

// 4.8.3.2.1
constexpr u16 control_sci_enable = 1 << 0, control_bus_master_reload = 1 << 1, control_sleep_type = 7 << 10, control_sleep_enable = 1 << 13;
constexpr u16 control_writable = control_bus_master_reload | control_sleep_type;

constexpr unsigned carry_bit = 31;

} // namespace

AcpiPm::AcpiPm(Clock& clock, IrqLine interrupt, std::function<void()> power_off)
    : m_clock(clock)
    , m_interrupt(interrupt)
    , m_power_off(std::move(power_off))
    , m_alarm(clock, [this] { alarm_rang(); })
{
}

void AcpiPm::reset()
{
    std::lock_guard const lock(m_mutex);
    m_status = m_enable = m_control = 0;
    m_smi_status = 0;
    m_carries_seen = timer_rate.ticks(m_clock.now()) >> carry_bit;
    update_interrupt();
}

// 4.8.2.1: the timer's status bit is set whenever the counter's highest bit changes.
void AcpiPm::catch_up()
{
    u64 const carries = timer_rate.ticks(m_clock.now()) >> carry_bit;
    if (carries != m_carries_seen)
        m_status |= event_timer;
    m_carries_seen = carries;
    update_interrupt();
}

void AcpiPm::update_interrupt()
{
    m_interrupt.set(m_control & control_sci_enable && m_status & m_enable & events);
    bool const waits_for_carry = m_enable & event_timer && !(m_status & event_timer);
    m_alarm.set(waits_for_carry ? timer_rate.time_of((m_carries_seen + 1) << carry_bit) : Clock::never);
}

void AcpiPm::alarm_rang()
{
    std::lock_guard const lock(m_mutex);
    m_alarm.rang();
    catch_up();
}

u8 AcpiPm::register_byte(u64 offset) const
{
    unsigned const shift = 8 * (offset & 1);
    switch (static_cast<Register>(offset & ~u64 { 1 })) {
    case Register::status:
        return static_cast<u8>(m_status >> shift);
    case Register::enable:
        return static_cast<u8>(m_enable >> shift);
    case Register::control:
        return static_cast<u8>(m_control >> shift);
    default:
        return offset >= static_cast<u64>(Register::end) ? 0xff : 0;
    }
}

u64 AcpiPm::read_registers(u64 offset, unsigned width)
{
    std::lock_guard const lock(m_mutex);
    u64 const timer = static_cast<u64>(Register::timer);
    if (offset >= timer && offset < static_cast<u64>(Register::end)) {
        u32 const ticks = static_cast<u32>(timer_rate.ticks(m_clock.now()));
        return ticks >> (8 * (offset - timer)) & mask_of_bytes(width);
    }
    catch_up();
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i)
        value |= u64 { register_byte(offset + i) } << (8 * i);
    return value;
}

void AcpiPm::write_registers(u64 offset, unsigned width, u64 value)
{
    bool power_off = false;
    {
        std::lock_guard const lock(m_mutex);
        catch_up();
        for (unsigned i = 0; i < width;) {
            u64 const at = offset + i;
            // Whole registers where the access covers them, else one byte.
            unsigned const shift = 8 * (at & 1);
            unsigned const bytes = shift == 0 && width - i >= 2 ? 2 : 1;
            u16 const written = static_cast<u16>(mask_of_bytes(bytes) << shift);
            u16 const part = static_cast<u16>(value >> (8 * i) << shift) & written;
            switch (static_cast<Register>(at & ~u64 { 1 })) {
            case Register::status:
                m_status &= static_cast<u16>(~(part & status_clearable));
                break;
            case Register::enable:
                m_enable = static_cast<u16>((m_enable & ~written) | part) & events;
                break;
            case Register::control:
                power_off = write_control(part, written);
                break;
            default:
                break;
            }
            i += bytes;
        }
        update_interrupt();
    }
    if (power_off && m_power_off)
        m_power_off();
}

// True when software asks for S5. SCI_EN belongs to the firmware's side of the SMI command port.
bool AcpiPm::write_control(u16 value, u16 written)
{
    static log::RateLimit limit;
    m_control = static_cast<u16>((m_control & ~(written & control_writable)) | (value & control_writable));
    if (!(value & control_sleep_enable))
        return false;
    u8 const type = static_cast<u8>(bits(m_control, 12, 10));
    if (type == sleep_type_s5)
        return true;
    log::guest(limit, "acpi-pm: the guest asked for sleep type {}, which this machine does not have", type);
    return false;
}

u8 AcpiPm::read_smi(u64 offset)
{
    std::lock_guard const lock(m_mutex);
    return offset == 1 ? m_smi_status : 0;
}

// What firmware's SMI handler would do.
void AcpiPm::write_smi(u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    catch_up();
    if (offset == 1)
        m_smi_status = value;
    else if (value == smi_enable_acpi)
        m_control |= control_sci_enable;
    else if (value == smi_disable_acpi)
        m_control &= static_cast<u16>(~control_sci_enable);
    update_interrupt();
}

AcpiPm::ButtonOutcome AcpiPm::press_power_button()
{
    std::lock_guard const lock(m_mutex);
    if (!(m_control & control_sci_enable))
        return ButtonOutcome::nobody_listens;
    m_status |= event_power_button;
    update_interrupt();
    return m_enable & event_power_button ? ButtonOutcome::delivered : ButtonOutcome::nobody_listens;
}

void AcpiPm::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_u16(m_status);
    out.put_u16(m_enable);
    out.put_u16(m_control);
    out.put_u8(m_smi_status);
    out.put_u64(m_carries_seen);
}

Result<void> AcpiPm::restore(Decoder& in, u32 version)
{
    reset();
    if (version != state_version())
        return make_error(0, "acpi-pm: version {} of its saved state is unknown", version);
    u16 const status = in.get_u16() & status_clearable;
    u16 const enable = in.get_u16() & events;
    u16 const control = in.get_u16() & (control_writable | control_sci_enable);
    u8 const smi_status = in.get_u8();
    u64 const carries = in.get_u64();
    if (!in.ok() || carries > timer_rate.ticks(m_clock.now()) >> carry_bit)
        return make_error(0, "acpi-pm: its saved state is damaged");
    std::lock_guard const lock(m_mutex);
    m_status = status;
    m_enable = enable;
    m_control = control;
    m_smi_status = smi_status;
    m_carries_seen = carries;
    update_interrupt();
    return {};
}

} // namespace anyhyve
