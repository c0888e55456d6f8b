// Acceptance of interrupts, priorities, and delivery to the processor.
#include "device/irqchip/local_apic.hpp"

#include "device/irqchip/local_apic_bits.hpp"

namespace anyhyve {

using namespace local_apic;

thread_local LocalApic* LocalApic::s_current = nullptr;

LocalApic::LocalApic(ApicBus& bus, unsigned id, Clock& clock, X2Apic x2apic)
    : m_bus(bus)
    , m_id(id)
    , m_x2apic(x2apic)
    , m_state_name(fmt::format("lapic{}", id))
    , m_timer(clock, TickRate { bus_frequency }, [this] { timer_due(); })
{
    reset();
    bus.attach(*this);
}

LocalApic::~LocalApic()
{
    m_bus.detach(*this);
}

void LocalApic::reset()
{
    std::lock_guard const lock(m_mutex);
    m_xapic_id = m_id;
    m_base = default_base | base_enable | (m_id == 0 ? base_bootstrap : 0);
    m_mode = Mode::xapic;
    reset_registers();
}

void LocalApic::reset_by_init()
{
    std::lock_guard const lock(m_mutex);
    reset_registers(); // 10.4.7.3: the ID and IA32_APIC_BASE stay
}

// 10.4.7.1
void LocalApic::reset_registers()
{
    m_task_priority = 0;
    m_logical_destination = mode() == Mode::x2apic ? x2apic_logical_id(m_id) : 0;
    m_destination_format = 0xffffffff;
    m_spurious_vector = 0xff;
    m_software_enabled = false;
    m_request = m_in_service = m_level = {};
    m_errors_pending = m_error_status = 0;
    m_lvt.fill(lvt_masked);
    m_command = m_command_high = 0;
    m_external_latched = false;
    m_timer.reset();
    update_priority();
    evaluate();
}

void LocalApic::enter_virtual_wire_mode()
{
    std::lock_guard const lock(m_mutex);
    write_spurious_vector(spurious_enable | 0xff);
    write_lvt(LvtEntry::lint0, static_cast<u32>(DeliveryMode::external) << lvt_mode_shift);
    write_lvt(LvtEntry::lint1, static_cast<u32>(DeliveryMode::nmi) << lvt_mode_shift);
    evaluate();
}

bool LocalApic::is_addressed_by(u32 destination, DestinationMode destination_mode) const
{
    Mode const now = mode();
    if (now == Mode::disabled)
        return false;
    if (destination == ApicMessage::broadcast)
        return true;
    if (destination_mode == DestinationMode::physical)
        return destination == (now == Mode::x2apic ? m_id : m_xapic_id.load(std::memory_order_relaxed));
    u32 const logical = logical_id();
    if (now == Mode::x2apic) // 10.12.10: cluster in the upper half, a member per bit of the lower
        return destination >> 16 == logical >> 16 && (destination & logical & 0xffff) != 0;
    u32 const own = logical >> 24;
    if (destination > 0xff)
        return false;
    bool const flat = m_destination_format.load(std::memory_order_relaxed) >> 28 == format_flat;
    if (flat) // 10.6.2.2
        return (destination & own) != 0;
    return destination >> 4 == own >> 4 && (destination & own & 0xf) != 0;
}

void LocalApic::accept(DeliveryMode delivery, u8 vector, TriggerMode trigger_mode)
{
    switch (delivery) {
    case DeliveryMode::fixed:
    case DeliveryMode::lowest_priority: {
        std::lock_guard const lock(m_mutex);
        if (software_enabled()) {
            request(vector, trigger_mode);
            evaluate();
        }
        break;
    }
    case DeliveryMode::external: {
        std::lock_guard const lock(m_mutex);
        if (software_enabled()) {
            m_external_latched = true;
            evaluate();
        }
        break;
    }
    case DeliveryMode::nmi:
        if (m_signals)
            m_signals->nmi();
        break;
    case DeliveryMode::init:
        if (m_signals)
            m_signals->init();
        break;
    case DeliveryMode::startup:
        if (m_signals)
            m_signals->startup(vector);
        break;
    case DeliveryMode::smi:
    case DeliveryMode::reserved:
        break;
    }
}

// 10.8.4: into the IRR, with its trigger mode. The caller evaluates.
void LocalApic::request(u8 vector, TriggerMode trigger_mode)
{
    if (vector < first_legal_vector) {
        report(Error::receive_illegal_vector);
        return;
    }
    m_request.set(vector);
    if (trigger_mode == TriggerMode::level)
        m_level.set(vector);
    else
        m_level.clear(vector);
}

// 10.8.3.1
void LocalApic::update_priority()
{
    int const in_service = m_in_service.highest();
    u8 const task = m_task_priority.load(std::memory_order_relaxed);
    u8 const service_class = in_service < 0 ? 0 : static_cast<u8>(in_service & 0xf0);
    m_processor_priority.store((task & 0xf0) >= service_class ? task : service_class, std::memory_order_relaxed);
}

void LocalApic::set_task_priority(u8 value)
{
    m_task_priority.store(value, std::memory_order_relaxed);
    update_priority();
    evaluate();
}

void LocalApic::set_cr8(u64 value)
{
    std::lock_guard const lock(m_mutex);
    set_task_priority(static_cast<u8>(value << 4));
}

int LocalApic::deliverable_vector() const
{
    int const vector = m_request.highest();
    return vector >= 0 && vector >> 4 > processor_priority() >> 4 ? vector : -1;
}

bool LocalApic::external_pending() const
{
    if (m_external_latched)
        return true;
    if (!m_pins[static_cast<unsigned>(LocalInterruptPin::lint0)])
        return false;
    u32 const value = lvt(LvtEntry::lint0);
    bool const wired_through = !(value & lvt_masked) && bits(value, 10, 8) == static_cast<u8>(DeliveryMode::external);
    return mode() == Mode::disabled || wired_through;
}

void LocalApic::evaluate()
{
    bool const pending = deliverable_vector() >= 0 || external_pending();
    m_pending.store(pending, std::memory_order_release);
    if (pending && m_signals)
        m_signals->interrupt_pending();
}

int LocalApic::acknowledge()
{
    {
        std::lock_guard const lock(m_mutex);
        int const vector = deliverable_vector();
        if (vector >= 0) {
            m_request.clear(static_cast<u8>(vector));
            m_in_service.set(static_cast<u8>(vector));
            update_priority();
            evaluate();
            return vector;
        }
        if (!external_pending()) {
            evaluate();
            return -1;
        }
        m_external_latched = false;
    }
    int const vector = m_bus.acknowledge_external(); // changes LINT0 by itself
    std::lock_guard const lock(m_mutex);
    evaluate();
    return vector;
}

// 10.8.5
void LocalApic::end_interrupt(Effects& effects)
{
    int const highest = m_in_service.highest();
    if (highest < 0) {
        m_spurious_eois.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    u8 const vector = static_cast<u8>(highest);
    m_in_service.clear(vector);
    update_priority();
    if (m_level.test(vector)) {
        if (!(m_spurious_vector & spurious_suppress_eoi_broadcast))
            effects.broadcast_eoi = vector;
        for (LocalInterruptPin const pin : { LocalInterruptPin::lint0, LocalInterruptPin::lint1 }) {
            u32& value = lvt(pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1);
            if (value & lvt_remote_irr && static_cast<u8>(value) == vector) {
                value &= ~lvt_remote_irr;
                service_local_level(pin);
            }
        }
    }
    evaluate();
}

void LocalApic::carry_out(Effects const& effects)
{
    if (effects.message)
        m_bus.deliver(*effects.message, this);
    if (effects.broadcast_eoi)
        m_bus.broadcast_eoi(*effects.broadcast_eoi);
}

} // namespace anyhyve
