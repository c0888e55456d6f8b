// Interrupt acceptance, priorities, delivery and local interrupts. Registers are in local_apic_registers.cpp.
#include "device/irqchip/local_apic.hpp"

#include "base/assert.hpp"
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
        return destination == m_id;
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

void LocalApic::report(Error error)
{
    u32 const bit_of_error = static_cast<u32>(error);
    bool const known = m_errors_pending & bit_of_error;
    m_errors_pending |= bit_of_error;
    // 10.5.3: one interrupt per kind of error until software looks. An error vector that is itself illegal must not recurse.
    if (!known)
        trigger_locked(LvtEntry::error);
}

void LocalApic::trigger(LvtEntry entry)
{
    std::lock_guard const lock(m_mutex);
    trigger_locked(entry);
    evaluate();
}

// 10.5.1
void LocalApic::trigger_locked(LvtEntry entry, TriggerMode trigger_mode)
{
    u32 const value = lvt(entry);
    if (value & lvt_masked)
        return;
    m_triggered[static_cast<unsigned>(entry)].fetch_add(1, std::memory_order_relaxed);
    bool const fixed_only = entry == LvtEntry::timer || entry == LvtEntry::error;
    auto const delivery = fixed_only ? DeliveryMode::fixed : static_cast<DeliveryMode>(bits(value, 10, 8));
    switch (delivery) {
    case DeliveryMode::fixed:
        request(static_cast<u8>(value), trigger_mode);
        break;
    case DeliveryMode::nmi:
        if (m_signals)
            m_signals->nmi();
        break;
    case DeliveryMode::init:
        if (m_signals)
            m_signals->init();
        break;
    default: // ExtINT is a level that evaluate() looks at; SMI goes nowhere
        break;
    }
}

void LocalApic::set_local_interrupt(LocalInterruptPin pin, bool asserted)
{
    std::lock_guard const lock(m_mutex);
    bool& level = m_pins[static_cast<unsigned>(pin)];
    bool const rising = asserted && !level;
    level = asserted;
    if (mode() == Mode::disabled) {
        // 10.4.3: LINT0 and LINT1 are the processor's INTR and NMI pins.
        if (pin == LocalInterruptPin::lint1 && rising && m_signals)
            m_signals->nmi();
    } else {
        u32 const value = lvt(pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1);
        bool const level_triggered = value & lvt_level && bits(value, 10, 8) == static_cast<u8>(DeliveryMode::fixed);
        if (level_triggered)
            service_local_level(pin);
        else if (rising)
            trigger_locked(pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1);
    }
    evaluate();
}

// A level-triggered fixed interrupt of a LINT pin: sent once, then not again until its EOI (10.5.1, remote IRR).
void LocalApic::service_local_level(LocalInterruptPin pin)
{
    LvtEntry const entry = pin == LocalInterruptPin::lint0 ? LvtEntry::lint0 : LvtEntry::lint1;
    u32& value = lvt(entry);
    bool const fixed = bits(value, 10, 8) == static_cast<u8>(DeliveryMode::fixed);
    if (!m_pins[static_cast<unsigned>(pin)] || !fixed || !(value & lvt_level) || value & (lvt_masked | lvt_remote_irr))
        return;
    value |= lvt_remote_irr;
    trigger_locked(entry, TriggerMode::level);
}

void LocalApic::timer_due()
{
    std::lock_guard const lock(m_mutex);
    m_timer.rang();
    run_timer();
}

void LocalApic::run_timer()
{
    if (m_timer.run()) {
        trigger_locked(LvtEntry::timer);
        evaluate();
    }
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

std::string LocalApic::statistics_name() const
{
    return fmt::format("vcpu{}", m_id);
}

std::vector<Statistic> LocalApic::statistics() const
{
    auto const triggered = [&](LvtEntry entry) { return m_triggered[static_cast<unsigned>(entry)].load(std::memory_order_relaxed); };
    std::vector<Statistic> all {
        { "EOI without any in-service interrupt", m_spurious_eois.load(std::memory_order_relaxed) },
        { "error interrupts generated by the local APIC", triggered(LvtEntry::error) },
        { "timer interrupts generated by the local APIC", triggered(LvtEntry::timer) },
        { "corrected machine check interrupts", triggered(LvtEntry::cmci) },
    };
    for (unsigned i = 0; i < lvt_entries; ++i)
        all.push_back({ fmt::format("lvts triggered[{}]", i), m_triggered[i].load(std::memory_order_relaxed) });
    for (unsigned i = 0; i < m_bus.count(); ++i)
        all.push_back({ fmt::format("ipis sent to vcpu[{}]", i), m_messages_to[i].load(std::memory_order_relaxed) });
    return all;
}

} // namespace anyhyve
