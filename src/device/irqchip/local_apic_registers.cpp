// The registers of the local APIC: MMIO page, MSRs, and the state that is kept.
#include "base/log.hpp"
#include "device/irqchip/local_apic_bits.hpp"
#include "x86/registers.hpp"

namespace anyhyve {

using namespace local_apic;

namespace {

std::optional<LvtEntry> lvt_entry_of(u32 number)
{
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::lvt_timer: return LvtEntry::timer;
    case ApicRegister::lvt_thermal: return LvtEntry::thermal;
    case ApicRegister::lvt_performance: return LvtEntry::performance;
    case ApicRegister::lvt_lint0: return LvtEntry::lint0;
    case ApicRegister::lvt_lint1: return LvtEntry::lint1;
    case ApicRegister::lvt_error: return LvtEntry::error;
    case ApicRegister::lvt_cmci: return LvtEntry::cmci;
    default: return {};
    }
}

bool in_group(u32 number, ApicRegister first)
{
    return number - static_cast<u32>(first) < 8;
}

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

u32 LocalApic::read_register(u32 number)
{
    if (in_group(number, ApicRegister::in_service))
        return m_in_service.word(number & 7);
    if (in_group(number, ApicRegister::trigger_mode))
        return m_level.word(number & 7);
    if (in_group(number, ApicRegister::interrupt_request))
        return m_request.word(number & 7);
    if (auto const entry = lvt_entry_of(number))
        return lvt(*entry);
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::id: return mode() == Mode::x2apic ? m_id : m_id << 24;
    case ApicRegister::version: return version_value;
    case ApicRegister::task_priority: return m_task_priority;
    case ApicRegister::arbitration_priority:
    case ApicRegister::processor_priority: return m_processor_priority;
    case ApicRegister::end_of_interrupt:
    case ApicRegister::remote_read: return 0;
    case ApicRegister::logical_destination: return logical_id();
    case ApicRegister::destination_format: return m_destination_format;
    case ApicRegister::spurious_vector: return m_spurious_vector;
    case ApicRegister::error_status: return m_error_status;
    case ApicRegister::interrupt_command: return m_command;
    case ApicRegister::interrupt_command_high: return m_command_high;
    case ApicRegister::initial_count: return m_timer.initial_count();
    case ApicRegister::current_count: return m_timer.current_count();
    case ApicRegister::divide_configuration: return m_timer.divide_configuration();
    default:
        report(Error::illegal_register);
        evaluate();
        return 0;
    }
}

void LocalApic::write_register(u32 number, u32 value, Effects& effects)
{
    if (auto const entry = lvt_entry_of(number)) {
        write_lvt(*entry, value);
        evaluate();
        return;
    }
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::task_priority:
        set_task_priority(static_cast<u8>(value));
        break;
    case ApicRegister::end_of_interrupt:
        end_interrupt(effects);
        break;
    case ApicRegister::logical_destination:
        m_logical_destination = value & 0xff000000;
        break;
    case ApicRegister::destination_format:
        m_destination_format = value | 0x0fffffff;
        break;
    case ApicRegister::spurious_vector:
        write_spurious_vector(value);
        break;
    case ApicRegister::error_status:
        m_error_status = m_errors_pending;
        m_errors_pending = 0;
        break;
    case ApicRegister::interrupt_command:
        write_command(value, ApicMessage::from_xapic(static_cast<u8>(m_command_high >> 24)), effects);
        break;
    case ApicRegister::interrupt_command_high:
        m_command_high = value & 0xff000000;
        break;
    case ApicRegister::initial_count:
        m_timer.set_initial_count(value);
        break;
    case ApicRegister::divide_configuration:
        m_timer.set_divide_configuration(static_cast<u8>(value));
        break;
    case ApicRegister::id:
    case ApicRegister::version:
    case ApicRegister::arbitration_priority:
    case ApicRegister::processor_priority:
    case ApicRegister::remote_read:
    case ApicRegister::current_count:
        break;
    default:
        if (in_group(number, ApicRegister::in_service) || in_group(number, ApicRegister::trigger_mode) || in_group(number, ApicRegister::interrupt_request))
            break;
        report(Error::illegal_register);
        evaluate();
    }
}

void LocalApic::write_spurious_vector(u32 value)
{
    m_spurious_vector = value & spurious_writable;
    bool const enabled = value & spurious_enable;
    m_software_enabled = enabled;
    if (!enabled) { // 10.4.7.2
        for (u32& entry : m_lvt)
            entry |= lvt_masked;
        configure_timer();
    }
    evaluate();
}

void LocalApic::write_lvt(LvtEntry entry, u32 value)
{
    u32& target = lvt(entry);
    u32 const remote_irr = target & lvt_remote_irr;
    target = value & lvt_writable[static_cast<unsigned>(entry)];
    if (!software_enabled())
        target |= lvt_masked;
    if (target & lvt_level)
        target |= remote_irr;
    if (entry == LvtEntry::timer)
        configure_timer();
    else if (entry == LvtEntry::lint0)
        service_local_level(LocalInterruptPin::lint0);
    else if (entry == LvtEntry::lint1)
        service_local_level(LocalInterruptPin::lint1);
}

void LocalApic::configure_timer()
{
    u32 const value = lvt(LvtEntry::timer);
    m_timer.configure(static_cast<ApicTimer::Mode>(value >> lvt_timer_mode_shift & 3),
        value & lvt_masked ? ApicTimer::Interrupts::masked : ApicTimer::Interrupts::wanted);
}

// 10.6.1
void LocalApic::write_command(u32 low, u32 destination, Effects& effects)
{
    m_command = low & command_writable;
    ApicMessage message;
    message.destination = destination;
    message.destination_mode = low & command_logical ? DestinationMode::logical : DestinationMode::physical;
    message.mode = static_cast<DeliveryMode>(bits(low, 10, 8));
    message.shorthand = static_cast<Shorthand>(bits(low, 19, 18));
    message.vector = static_cast<u8>(low);
    switch (message.mode) {
    case DeliveryMode::fixed:
    case DeliveryMode::lowest_priority:
        if (message.vector < first_legal_vector) {
            report(Error::send_illegal_vector);
            evaluate();
            return;
        }
        break;
    case DeliveryMode::init:
        if (low & command_level && !(low & command_assert))
            return; // the de-assert message means nothing to current processors
        break;
    case DeliveryMode::nmi:
    case DeliveryMode::startup:
        break;
    default: // SMI, and what is reserved
        return;
    }
    // Table 10-3: to itself a processor sends only fixed interrupts.
    bool const to_self = message.shorthand == Shorthand::self || message.shorthand == Shorthand::all;
    if (to_self && message.mode != DeliveryMode::fixed && message.mode != DeliveryMode::lowest_priority && message.mode != DeliveryMode::nmi)
        return;
    effects.message = message;
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
    if ((value & base_address) != default_base) {
        log::guest(limit, "vcpu{} tried to move its local APIC to {:#x}", m_id, value & base_address);
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
    }
    return true;
}

void LocalApic::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_u64(m_base);
    out.put_u8(m_task_priority);
    out.put_u32(m_logical_destination);
    out.put_u32(m_destination_format);
    out.put_u32(m_spurious_vector);
    m_request.save(out);
    m_in_service.save(out);
    m_level.save(out);
    out.put_u32(m_errors_pending);
    out.put_u32(m_error_status);
    for (u32 const entry : m_lvt)
        out.put_u32(entry);
    out.put_u32(m_command);
    out.put_u32(m_command_high);
    out.put_bool(m_external_latched);
    m_timer.save(out);
}

Result<void> LocalApic::restore(Decoder& in, u32 version)
{
    reset();
    if (version != state_version())
        return make_error(0, "{}: version {} of its saved state is unknown", m_state_name, version);
    bool sane = false;
    {
        std::lock_guard const lock(m_mutex);
        u64 const base = in.get_u64();
        // From xAPIC, where reset() has put it, every legal mode is one step away.
        bool const base_is_legal = write_base(base);
        m_task_priority = in.get_u8();
        u32 const logical = in.get_u32();
        m_logical_destination = mode() == Mode::x2apic ? x2apic_logical_id(m_id) : logical & 0xff000000;
        m_destination_format = in.get_u32() | 0x0fffffff;
        m_spurious_vector = in.get_u32() & spurious_writable;
        m_software_enabled = (m_spurious_vector & spurious_enable) != 0;
        m_request.restore(in);
        m_in_service.restore(in);
        m_level.restore(in);
        constexpr u32 errors = static_cast<u32>(Error::send_illegal_vector) | static_cast<u32>(Error::receive_illegal_vector) | static_cast<u32>(Error::illegal_register);
        m_errors_pending = in.get_u32() & errors;
        m_error_status = in.get_u32() & errors;
        for (unsigned i = 0; i < lvt_entries; ++i)
            m_lvt[i] = (in.get_u32() & (lvt_writable[i] | lvt_remote_irr)) | (m_software_enabled ? 0 : lvt_masked);
        m_command = in.get_u32() & command_writable;
        m_command_high = in.get_u32();
        m_external_latched = in.get_bool();
        bool const timer_is_sane = m_timer.restore(in);
        sane = base_is_legal && timer_is_sane && in.ok();
        if (sane)
            configure_timer();
        update_priority();
        evaluate();
    }
    if (!sane) {
        reset();
        return make_error(0, "{}: its saved state is damaged", m_state_name);
    }
    return {};
}

u64 LocalApicPage::read(u64 offset, unsigned width)
{
    LocalApic* const apic = LocalApic::current();
    return apic ? apic->read_page(offset, width) : mask_of_bytes(width);
}

void LocalApicPage::write(u64 offset, unsigned width, u64 value)
{
    if (LocalApic* const apic = LocalApic::current())
        apic->write_page(offset, width, value);
}

} // namespace anyhyve
