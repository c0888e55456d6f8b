// How software reaches the local APIC: its page of memory (xAPIC) and its model-specific registers (x2APIC).
#include "base/log.hpp"
#include "device/irqchip/local_apic_bits.hpp"
#include "x86/registers.hpp"

namespace anyhyve {

using namespace local_apic;

namespace {

// Registers whose meaning depends on whether the timer has expired.
bool concerns_timer(u32 number)
{
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::lvt_timer:
    case ApicRegister::initial_count:
    case ApicRegister::current_count:
    case ApicRegister::divide_configuration:
    case ApicRegister::spurious_vector:
        return true;
    default:
        return false;
    }
}

bool is_readable_in_x2apic(u32 number)
{
    if (in_group(number, ApicRegister::in_service) || in_group(number, ApicRegister::trigger_mode)
        || in_group(number, ApicRegister::interrupt_request) || lvt_entry_of(number))
        return true;
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::id:
    case ApicRegister::version:
    case ApicRegister::task_priority:
    case ApicRegister::processor_priority:
    case ApicRegister::logical_destination:
    case ApicRegister::spurious_vector:
    case ApicRegister::error_status:
    case ApicRegister::interrupt_command:
    case ApicRegister::initial_count:
    case ApicRegister::current_count:
    case ApicRegister::divide_configuration:
        return true;
    default:
        return false;
    }
}

// The bits that a WRMSR may set, or nothing when the register cannot be written (10.12.1.2, table 10-6).
std::optional<u64> writable_in_x2apic(u32 number)
{
    if (auto const entry = lvt_entry_of(number))
        return lvt_writable[static_cast<unsigned>(*entry)] | lvt_read_only;
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::task_priority: return 0xff;
    case ApicRegister::end_of_interrupt: return 0;
    case ApicRegister::spurious_vector: return spurious_writable;
    case ApicRegister::error_status: return 0;
    case ApicRegister::interrupt_command: return u64 { 0xffffffff } << 32 | command_writable | command_delivery_status;
    case ApicRegister::initial_count: return 0xffffffff;
    case ApicRegister::divide_configuration: return divide_writable;
    case ApicRegister::self_ipi: return 0xff;
    default: return {};
    }
}

} // namespace

u64 LocalApic::page_address() const
{
    return m_base.load(std::memory_order_relaxed) & base_address;
}

u64 LocalApic::read_page(u64 offset, unsigned width)
{
    std::lock_guard const lock(m_mutex);
    u64 const position = offset & 15;
    if (mode() != Mode::xapic || position > 3)
        return mask_of_bytes(width);
    u32 const number = static_cast<u32>(offset >> 4);
    if (concerns_timer(number))
        run_timer();
    return read_register(number) >> (8 * position) & mask_of_bytes(width);
}

void LocalApic::write_page(u64 offset, unsigned width, u64 value)
{
    Effects effects;
    {
        std::lock_guard const lock(m_mutex);
        if (mode() != Mode::xapic || (offset & 15) != 0 || width < 4) // 10.4.1: 32-bit accesses at 128-bit boundaries
            return;
        u32 const number = static_cast<u32>(offset >> 4);
        if (concerns_timer(number))
            run_timer();
        write_register(number, static_cast<u32>(value), effects);
    }
    carry_out(effects);
}

bool LocalApic::read_msr(u32 index, u64& value)
{
    std::lock_guard const lock(m_mutex);
    if (index == x86::msr::apic_base) {
        value = m_base;
        return true;
    }
    if (index == x86::msr::tsc_deadline) {
        run_timer();
        value = m_timer.deadline();
        return true;
    }
    u32 const number = index - x86::msr::x2apic_first;
    if (mode() != Mode::x2apic || !is_readable_in_x2apic(number))
        return false;
    if (concerns_timer(number))
        run_timer();
    value = read_register(number);
    if (number == static_cast<u32>(ApicRegister::interrupt_command))
        value |= u64 { m_command_high } << 32;
    return true;
}

bool LocalApic::write_msr(u32 index, u64 value)
{
    Effects effects;
    bool accepted = true;
    {
        std::lock_guard const lock(m_mutex);
        if (index == x86::msr::apic_base) {
            accepted = write_base(value);
        } else if (index == x86::msr::tsc_deadline) {
            run_timer();
            m_timer.set_deadline(value);
            run_timer(); // it may have passed already
        } else {
            u32 const number = index - x86::msr::x2apic_first;
            if (concerns_timer(number))
                run_timer();
            accepted = mode() == Mode::x2apic && write_x2apic(number, value, effects);
        }
    }
    carry_out(effects);
    return accepted;
}

bool LocalApic::write_x2apic(u32 number, u64 value, Effects& effects)
{
    auto const writable = writable_in_x2apic(number);
    if (!writable || value & ~*writable)
        return false;
    if (number == static_cast<u32>(ApicRegister::interrupt_command)) {
        m_command_high = static_cast<u32>(value >> 32);
        write_command(static_cast<u32>(value), m_command_high, effects);
    } else if (number == static_cast<u32>(ApicRegister::self_ipi)) {
        if (value < first_legal_vector)
            report(Error::send_illegal_vector);
        else if (software_enabled())
            request(static_cast<u8>(value), TriggerMode::edge);
        m_messages_to[m_id].fetch_add(1, std::memory_order_relaxed);
        evaluate();
    } else {
        write_register(number, static_cast<u32>(value), effects);
    }
    return true;
}

// 10.12.5: legal are disabled -> xAPIC -> x2APIC -> disabled and xAPIC -> disabled; all else is #GP.
bool LocalApic::write_base(u64 value)
{
    static log::RateLimit limit;
    if (value & ~(base_address | base_bootstrap | base_x2apic | base_enable) || (value & base_x2apic && m_x2apic == X2Apic::hidden))
        return false;
    u64 const place = value & base_address;
    if (place != (m_base & base_address) && !(m_pages ? m_pages->provide(place) : place == default_base)) {
        log::guest(limit, "vcpu{} tried to move its local APIC to {:#x}", m_id, place);
        return false;
    }
    Mode const from = mode();
    bool const enable = value & base_enable;
    bool const extended = value & base_x2apic;
    bool const legal = extended ? enable && from != Mode::disabled : !(enable && from == Mode::x2apic);
    if (!legal)
        return false;
    m_base = value;
    Mode const to = !enable ? Mode::disabled : extended ? Mode::x2apic : Mode::xapic;
    if (to == from)
        return true;
    m_mode = to;
    if (to == Mode::x2apic) {
        m_logical_destination = x2apic_logical_id(m_id);
        m_command_high = 0;
        evaluate();
    } else {
        reset_registers(); // 10.4.3: turning it off loses its state
        m_xapic_id = m_id;
    }
    return true;
}

u64 LocalApicPage::read(u64 offset, unsigned width)
{
    LocalApic* const apic = LocalApic::current();
    return apic && apic->page_address() == m_base ? apic->read_page(offset, width) : mask_of_bytes(width);
}

void LocalApicPage::write(u64 offset, unsigned width, u64 value)
{
    LocalApic* const apic = LocalApic::current();
    if (apic && apic->page_address() == m_base)
        apic->write_page(offset, width, value);
}

// In the hole between RAM and 4 GiB, where nothing else is.
bool LocalApicPages::provide(u64 base)
{
    constexpr u64 hole = 3 * GiB, hole_end = 4 * GiB, page_size = 0x1000;
    constexpr std::size_t most_places = 8;
    std::lock_guard const lock(m_mutex);
    for (auto const& place : m_places)
        if (place.base == base)
            return true;
    if (base < hole || base >= hole_end || m_places.size() == most_places)
        return false;
    auto page = std::make_unique<LocalApicPage>(base);
    if (!m_bus.add(base, page_size, *page, "local APIC").ok())
        return false;
    m_places.push_back({ base, std::move(page) });
    return true;
}

} // namespace anyhyve
