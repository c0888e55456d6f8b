// The board, read top to bottom: what is on it, where it lives, and the walk of the thread of a virtual CPU.
#include "machine/pc.hpp"

#include "base/assert.hpp"
#include "base/log.hpp"
#include "boot/memory_map.hpp"
#include "machine/device_table.hpp"

namespace anyhyve::machine {

namespace {

// PIRQ routing registers of the LPC bridge on one side, the router of the board on the other.
class PirqWiring final : public PirqSwitch {
public:
    explicit PirqWiring(PirqRouter& router) : m_router(router) {}
    void set_routing(unsigned pirq, u8 value) override { m_router.set_routing(pirq, value); }
    unsigned assign_line(unsigned pirq) override { return m_router.assign_line(pirq); }

private:
    PirqRouter& m_router;
};

struct ComPortPlace {
    u16 port;
    u8 irq;
};

constexpr ComPortPlace com_port_places[] = {
    { ports::com1, board::com1_irq },
    { ports::com2, board::com2_irq },
    { ports::com3, board::com3_irq },
    { ports::com4, board::com4_irq },
};

} // namespace

Pc::Pc(MachineConfig const& config, GuestMemory& memory, std::unique_ptr<Engine> engine, Listener listener, u64 clock_start)
    : m_config(config)
    , m_memory(memory)
    , m_listener(std::move(listener))
    , m_engine(std::move(engine))
    , m_clock(create_host_clock(clock_start))
    , m_pirq_wiring(std::make_unique<PirqWiring>(m_pirq))
{
    m_clock->pause();
}

Pc::~Pc()
{
    for (auto& thread : m_threads)
        thread->ask_to_park();
    for (auto& thread : m_threads)
        thread->stop();
}

Result<std::unique_ptr<Pc>> Pc::build(MachineConfig const& config, GuestMemory& memory, std::unique_ptr<Engine> engine, Listener listener, u64 clock_start)
{
    std::unique_ptr<Pc> pc(new Pc(config, memory, std::move(engine), std::move(listener), clock_start));
    TRY(pc->assemble());
    return pc;
}

Result<void> Pc::assemble()
{
    TRY(create_processors());
    TRY(place_devices());
    TRY(create_com_ports());
    TRY(create_test_devices());
    TRY(create_pci_devices());
    TRY(assign_pci_resources());
    m_tables = TRY(FirmwareTables::build(m_config, m_pci));
    return start_threads();
}

CpuPolicy Pc::cpu_policy() const
{
    CpuPolicy policy;
    policy.vcpu_count = m_config.topology.cpus;
    policy.sockets = m_config.topology.sockets;
    policy.cores = m_config.topology.cores;
    policy.threads = m_config.topology.threads;
    policy.x2apic = m_config.x2apic;
    policy.strict_msr = m_config.strict_msr;
    policy.strict_io = m_config.strict_io;
    // A halted virtual CPU sleeps, with or without -H: nobody wants it to burn its host CPU.
    policy.exit_on_halt = true;
    policy.exit_on_pause = m_config.exit_on_pause;
    return policy;
}

Result<void> Pc::create_processors()
{
    m_held.resize(vcpu_count());
    auto const x2apic = m_config.x2apic ? LocalApic::X2Apic::offered : LocalApic::X2Apic::hidden;
    for (unsigned id = 0; id < vcpu_count(); ++id) {
        m_local_apics.push_back(std::make_unique<LocalApic>(m_apic_bus, id, *m_clock, x2apic));
        m_threads.push_back(std::make_unique<VcpuThread>(id));
        VcpuWires wires;
        wires.id = id;
        wires.memory = &m_memory;
        wires.ports = &m_ports;
        wires.mmio = &m_mmio;
        wires.clock = m_clock.get();
        wires.interrupts = m_local_apics[id].get();
        wires.policy = cpu_policy();
        m_threads[id]->set_vcpu(TRY(m_engine->create_vcpu(wires)));
        m_local_apics[id]->connect(*m_threads[id]);
        m_local_apics[id]->set_pages(m_local_apic_pages);
        m_saved_vcpus.push_back(std::make_unique<SavedVcpu>(id, *m_threads[id]));
        m_saved_vcpus[id]->reset();
    }
    m_apic_bus.set_eoi_listener(&m_io_apic);
    m_apic_bus.set_external_source(&m_pic);
    return {};
}

Result<void> Pc::place_devices()
{
    Place const places[] = {
        { m_mmio, memory_map::ioapic, memory_map::ioapic_size, m_io_apic, "IOAPIC" },
        { m_mmio, memory_map::hpet, memory_map::hpet_size, m_hpet, "HPET" },
        { m_mmio, memory_map::pci_ecam, memory_map::pci_ecam_size, m_pci_ecam, "PCI configuration" },
        { m_ports, ports::pic_master, 2, m_pic.master(), "8259 master" },
        { m_ports, ports::pic_slave, 2, m_pic.slave(), "8259 slave" },
        { m_ports, ports::elcr, ports::elcr_size, m_pic.edge_level(), "8259 edge/level" },
        { m_ports, ports::pit, ports::pit_size, m_pit.counters(), "8254" },
        { m_ports, ports::system_control, 1, m_pit.system_control(), "system control" },
        { m_ports, ports::rtc, ports::rtc_size, m_rtc.ports(), "real-time clock" },
        { m_ports, ports::pm1_event, AcpiPm::register_space, m_acpi_pm.registers(), "ACPI power management" },
        { m_ports, ports::smi_command, 2, m_acpi_pm.smi_command(), "SMI command" },
        { m_ports, ports::system_control_a, 1, m_reset_port.system_control(), "system control A" },
        { m_ports, ports::keyboard_data, 1, m_keyboard.data(), "keyboard controller" },
        { m_ports, ports::keyboard_command, 1, m_keyboard.command(), "keyboard controller" },
        { m_ports, ports::post_code, 1, m_post_code, "POST code" },
        { m_ports, ports::post_code_diagnostic, 1, m_post_code_diagnostic, "POST code" },
        { m_ports, ports::pci_config_address, PciConfigPorts::port_count, m_pci_config_ports, "PCI configuration" },
    };
    for (auto const& place : places)
        TRY(place.bus.add(place.base, place.size, place.device, place.name));
    ASSERT(m_local_apic_pages.provide(memory_map::local_apic), "the local APIC has its page");
    if (m_config.strict_io)
        m_ports.set_unclaimed_listener([this](u64 port, unsigned width) { refuse_port(port, width); });
    return {};
}

Result<void> Pc::create_com_ports()
{
    for (auto const& port : m_config.com_ports) {
        std::string const backend_text = port.tcp.empty() ? port.path : "tcp=" + port.tcp;
        auto backend = create_console_backend(backend_text, m_listener.leave_console);
        if (!backend.ok())
            return make_error(backend.error().code(), "com{}: {}", port.number, backend.error().message());
        auto const& place = com_port_places[port.number - 1];
        m_com_ports.push_back(std::make_unique<Uart>(fmt::format("com{}", port.number), IrqLine(m_interrupts, place.irq), *m_clock, backend.release_value()));
        TRY(m_ports.add(place.port, ports::com_size, *m_com_ports.back(), fmt::format("com{}", port.number)));
        m_pirq.reserve_line(place.irq);
    }
    return {};
}

Result<void> Pc::create_test_devices()
{
    if (m_config.test_device || m_config.debug_exit) {
        m_debug_exit = std::make_unique<DebugExit>([this](int status) {
            m_exit_status = status;
            end(RunExit::power_off);
        });
        TRY(m_ports.add(ports::debug_exit, ports::debug_exit_size, *m_debug_exit, "debug exit"));
    }
    if (!m_config.test_device)
        return {};
    m_test_device = std::make_unique<TestDevice>(m_interrupts);
    TRY(m_ports.add(ports::test_latch, TestDevice::port_count, m_test_device->ports(), "test device"));
    TRY(m_ports.add(ports::test_lines, TestDevice::line_count, m_test_device->lines(), "test device"));
    return m_mmio.add(memory_map::test_memory, TestDevice::memory_size, m_test_device->memory(), "test device");
}

Result<void> Pc::create_pci_devices()
{
    DeviceWires const wires { m_pci.wires(), m_memory, m_pirq_wiring.get(), m_config.name, m_config.virtio_msix };
    for (auto const& slot : m_config.pci_devices) {
        auto const* row = find_device(slot.device);
        if (!row)
            return make_error(ENODEV, "pci slot {}:{}: unknown device \"{}\"", slot.address.slot, slot.address.function, slot.device);
        auto device = row->create(wires, slot.address, slot.options);
        if (!device.ok())
            return make_error(device.error().code(), "pci slot {}: {}: {}", slot.address.text(), slot.device, device.error().message());
        TRY(m_pci.add(*device.value()));
        if (auto* const lpc = dynamic_cast<LpcBridge*>(device.value().get()))
            m_lpc = lpc;
        m_pci_devices.push_back(device.release_value());
    }
    return {};
}

Result<void> Pc::assign_pci_resources()
{
    PciWindows windows;
    u32 const first_port = m_test_device ? ports::test_lines_end : ports::pci_bars;
    windows.ports = { first_port, ports::pci_bars_end - first_port };
    windows.memory32 = { memory_map::pci_bars_32, memory_map::pci_bars_32_end - memory_map::pci_bars_32 };
    windows.memory64 = { memory_map::pci_bars_64(m_memory.size()), memory_map::pci_bars_64_size };
    TRY(m_pci.assign_bars(windows, PciBus::Decode::on));
    m_pci.assign_interrupts(m_lpc);
    return {};
}

Result<void> Pc::start_threads()
{
    for (unsigned id = 0; id < vcpu_count(); ++id) {
        auto const pinned = m_config.host_cpus.find(id);
        TRY(m_threads[id]->start(pinned == m_config.host_cpus.end() ? std::vector<unsigned> {} : pinned->second, [this, id] { run(id); }));
    }
    return {};
}

void Pc::run(unsigned id)
{
    VcpuThread& thread = *m_threads[id];
    LocalApic::set_current(m_local_apics[id].get());
    while (thread.may_run()) {
        RunExit const reason = thread.run();
        thread.returned(reason);
        // A guest may have it halt again and again.
        if (reason == RunExit::halted && m_halt_told.exchange(true))
            continue;
        if (reason != RunExit::kicked && reason != RunExit::debug)
            m_listener.ended(machine_end(id, reason));
    }
}

MachineEnd Pc::machine_end(unsigned vcpu, RunExit reason)
{
    MachineEnd end { reason, reason == RunExit::failure ? failure_text(vcpu) : std::string() };
    if (int const status = m_exit_status; reason == RunExit::power_off && status >= 0)
        end.exit_status = status;
    return end;
}

// bhyve -e: the virtual CPU that touched a port where nothing is stops behind the instruction.
void Pc::refuse_port(u64 port, unsigned width)
{
    LocalApic const* const current = LocalApic::current();
    if (!current)
        return;
    {
        std::lock_guard const lock(m_refusal_mutex);
        m_refusal = fmt::format("vCPU {} used I/O port {:#x}, {} bytes wide, where nothing is", current->id(), port, width);
    }
    m_threads[current->id()]->vcpu().request_exit(RunExit::failure);
}

std::string Pc::failure_text(unsigned vcpu) const
{
    std::lock_guard const lock(m_refusal_mutex);
    return m_refusal.empty() ? m_threads[vcpu]->vcpu().failure_text() : m_refusal;
}

void Pc::set_external_output(bool asserted)
{
    m_interrupts.set_external_output(asserted);
    m_apic_bus.set_external_output(asserted);
}

i64 Pc::rtc_seconds() const
{
    return Rtc::host_seconds(m_config.rtc_local_time ? Rtc::Base::local : Rtc::Base::utc);
}

Hpet::Wires Pc::hpet_wires()
{
    return { m_io_apic, m_interrupts.legacy_replacement(), m_apic_bus, [this](bool replaced) {
                m_interrupts.select_legacy_source(replaced ? InterruptRouter::LegacySource::hpet : InterruptRouter::LegacySource::timer_and_rtc);
            } };
}

} // namespace anyhyve::machine
