// What the registers of the local APIC do. How they are reached is in local_apic_access.cpp.
#include "device/irqchip/local_apic_bits.hpp"

namespace anyhyve {

using namespace local_apic;

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
    case ApicRegister::id: return mode() == Mode::x2apic ? m_id : m_xapic_id << 24;
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
    case ApicRegister::id: // 10.4.6: whether it can be written depends on the model
        if (m_x2apic == X2Apic::hidden) {
            m_xapic_id = value >> 24;
            m_bus.note_changed_id();
        }
        break;
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

} // namespace anyhyve
