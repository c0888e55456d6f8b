// The machine as a whole: pausing, resetting, saving, restoring, ending.
#include "base/assert.hpp"
#include "machine/loader.hpp"
#include "machine/pc.hpp"
#include "vmm/cpu_state_codec.hpp"

namespace anyhyve::machine {

// All are asked before the first is waited for, so that they stop together.
void Pc::pause()
{
    if (m_paused)
        return;
    for (auto& thread : m_threads)
        thread->ask_to_park();
    for (auto& thread : m_threads)
        thread->wait_until_parked();
    m_clock->pause();
    m_pci.quiesce();
    m_paused = true;
}

void Pc::resume()
{
    if (!m_paused)
        return;
    m_paused = false;
    m_clock->resume();
    for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu)
        if (!m_held[vcpu])
            m_threads[vcpu]->resume();
}

void Pc::hold(unsigned vcpu)
{
    m_held[vcpu] = true;
    m_threads[vcpu]->ask_to_park();
    m_threads[vcpu]->wait_until_parked();
}

void Pc::release(unsigned vcpu)
{
    m_held[vcpu] = false;
    if (!m_paused)
        m_threads[vcpu]->resume();
}

Result<void> Pc::step(unsigned vcpu)
{
    constexpr std::chrono::milliseconds patience { 500 };
    if (!m_held[vcpu])
        return make_error(EBUSY, "virtual CPU {} of {} is not held", vcpu, m_config.name);
    if (!m_threads[vcpu]->step(patience))
        return make_error(EAGAIN, "virtual CPU {} of {} has halted, or waits to be started", vcpu, m_config.name);
    return {};
}

std::vector<Persistent*> Pc::parts() const
{
    // In the order they are restored: devices assert their lines again, then the controllers take back what they had made of them, so
    // that a line which was up already is no new edge.
    std::vector<Persistent*> parts;
    for (auto const& uart : m_com_ports)
        parts.push_back(uart.get());
    for (auto const& device : m_pci_devices)
        parts.push_back(device.get());
    if (m_test_device)
        parts.push_back(m_test_device.get());
    for (auto* part : m_fixed_parts)
        parts.push_back(part);
    for (auto const& apic : m_local_apics)
        parts.push_back(apic.get());
    for (auto const& vcpu : m_saved_vcpus)
        parts.push_back(vcpu.get());
    return parts;
}

Persistent* Pc::part(std::string_view name)
{
    for (auto* part : parts())
        if (part->state_name() == name)
            return part;
    return nullptr;
}

void Pc::reset()
{
    ASSERT(m_paused, "a machine that runs cannot be reset in place");
    m_halt_told = false;
    for (auto* part : parts())
        part->reset();
}

Result<void> Pc::prepare_boot(CpuState const& bootstrap_processor)
{
    TRY(check_cpu_state(bootstrap_processor));
    TRY(m_tables->install(m_memory));
    m_local_apics[0]->enter_virtual_wire_mode();
    m_pic.initialise_as_firmware();
    m_pic.set_trigger(board::sci_irq, TriggerMode::level);
    m_pirq.reset(); // makes its lines level-triggered, which the 8259's own reset has undone
    set_cpu_state(0, bootstrap_processor);
    return {};
}

bool Pc::all_halted() const
{
    m_halt_told = false;
    for (unsigned id = 0; id < vcpu_count(); ++id) {
        CpuState const state = cpu_state(id);
        bool const halted = state.activity == Activity::halted && !(state.rflags & x86::rflags::interrupt) && !state.nmi_pending;
        if (!halted && state.activity != Activity::wait_for_sipi)
            return false;
    }
    return true;
}

std::vector<u8> Pc::save(MachineRecord::Kind kind) const
{
    ASSERT(m_paused, "the state of a machine that runs cannot be saved");
    for (auto const& thread : m_threads)
        thread->vcpu().settle(); // before its local APIC is saved, which an INIT changes
    MachineRecord const record { kind, m_clock->now(), vcpu_count() };
    std::vector<Chunk> chunks { { MachineRecord::name, MachineRecord::version, record.encode() } };
    for (auto const* part : parts())
        chunks.push_back(save_part(*part));
    return encode_chunks(chunks);
}

Result<void> Pc::restore(SavedState const& state, std::string const& object)
{
    ASSERT(m_paused, "a state cannot be restored into a machine that runs");
    bool const loaded = state.record().kind == MachineRecord::Kind::loaded;
    if (!loaded && state.record().vcpus != vcpu_count())
        return make_error(EINVAL, "{} is the state of a machine with {} virtual CPUs, not {}", object, state.record().vcpus, vcpu_count());
    for (auto const& chunk : state.chunks())
        if (chunk.name != MachineRecord::name && !part(chunk.name))
            return make_error(EBADMSG, "{} has a chunk '{}', but this machine has no such part", object, chunk.name);
    if (!loaded)
        for (auto const* part : parts())
            if (!state.find(part->state_name()))
                return make_error(EBADMSG, "{} has no chunk '{}', which this machine needs", object, part->state_name());
    if (loaded)
        TRY(prepare_boot(TRY(state.cpu_state(0))));
    for (auto const& thread : m_threads)
        thread->vcpu().forget_signals();
    for (auto* part : parts())
        if (state.find(part->state_name()))
            TRY(restore_part(state, *part, object));
    return {};
}

bool Pc::press_power_button()
{
    return m_acpi_pm.press_power_button() == AcpiPm::ButtonOutcome::delivered;
}

// A device ends the machine from the thread of the virtual CPU that wrote its register: that one stops behind the instruction.
void Pc::end(RunExit reason)
{
    LocalApic const* const current = LocalApic::current();
    bool const on_vcpu_thread = current && current->id() < vcpu_count() && m_local_apics[current->id()].get() == current;
    if (on_vcpu_thread)
        m_threads[current->id()]->vcpu().request_exit(reason);
    else
        m_listener.ended({ reason, {}, {} });
}

std::vector<StatisticsSource const*> Pc::statistics_sources() const
{
    std::vector<StatisticsSource const*> sources;
    for (auto const& thread : m_threads)
        sources.push_back(&thread->vcpu());
    for (auto const& apic : m_local_apics)
        sources.push_back(apic.get());
    for (auto const& uart : m_com_ports)
        sources.push_back(uart.get());
    for (auto const& device : m_pci_devices)
        if (auto const* source = dynamic_cast<StatisticsSource const*>(device.get()))
            sources.push_back(source);
    return sources;
}

std::vector<Bus::Statistics> Pc::bus_statistics() const
{
    auto statistics = m_ports.statistics();
    for (auto& row : m_mmio.statistics())
        statistics.push_back(std::move(row));
    return statistics;
}

std::vector<std::string> Pc::console_descriptions() const
{
    std::vector<std::string> descriptions;
    for (auto const& uart : m_com_ports)
        descriptions.push_back(fmt::format("{} is {}", uart->state_name(), uart->backend().description()));
    return descriptions;
}

} // namespace anyhyve::machine
