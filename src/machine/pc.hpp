// The PC: all parts of a machine on one board, its virtual CPUs, and what can be done with it as a whole.
// Threads: the owner's calls everything here, but for press_power_button(), inject_nmi(), end() and reading statistics, which any may,
// and run(), which is what the thread of each virtual CPU does.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "device/console/uart.hpp"
#include "device/irqchip/interrupt_router.hpp"
#include "device/irqchip/local_apic.hpp"
#include "device/legacy/acpi_pm.hpp"
#include "device/legacy/debug_exit.hpp"
#include "device/legacy/debug_port.hpp"
#include "device/legacy/keyboard_controller.hpp"
#include "device/legacy/reset_port.hpp"
#include "device/legacy/test_device.hpp"
#include "device/pci/config_access.hpp"
#include "device/pci/lpc_bridge.hpp"
#include "device/pci/pci_bus.hpp"
#include "device/timer/hpet.hpp"
#include "device/timer/pit.hpp"
#include "device/timer/rtc.hpp"
#include "machine/firmware_tables.hpp"
#include "machine/machine_config.hpp"
#include "machine/saved_state.hpp"
#include "machine/saved_vcpu.hpp"
#include "machine/vcpu_thread.hpp"

namespace anyhyve::machine {

// Why a machine came to its end, or to a point that its owner must decide about.
struct MachineEnd {
    RunExit reason = RunExit::kicked;
    std::string text; // of a failure
    std::optional<int> exit_status {}; // that the guest chose, with power_off
};

class Pc {
public:
    // Heard on any thread; must not call back into the machine.
    struct Listener {
        std::function<void(MachineEnd)> ended;
        std::function<void()> leave_console; // Ctrl-A x
    };

    // The machine is paused, in the state after power-on. `memory` outlives it. `clock_start`: the machine time of a saved state.
    static Result<std::unique_ptr<Pc>> build(MachineConfig const&, GuestMemory& memory, std::unique_ptr<Engine>, Listener, u64 clock_start = 0);
    ~Pc();
    Pc(Pc const&) = delete;
    Pc& operator=(Pc const&) = delete;

    MachineConfig const& config() const { return m_config; }
    unsigned vcpu_count() const { return m_config.topology.cpus; }
    GuestMemory& memory() { return m_memory; }

    // What the thread of a virtual CPU does: runs it whenever it may.
    void run(unsigned vcpu);

    void pause();
    void resume();
    bool is_paused() const { return m_paused; }
    // One virtual CPU stands while the others go on, also across pause() and resume().
    void hold(unsigned vcpu);
    void release(unsigned vcpu);
    bool is_held(unsigned vcpu) const { return m_held[vcpu]; }
    // One instruction of one that is held; an error when it waits for an interrupt.
    Result<void> step(unsigned vcpu);

    // All of these with the machine paused.
    // To the state after power-on. Memory stays.
    void reset();
    // As a boot loader, which stands for the firmware too, leaves the machine: tables in memory, the bootstrap processor at the kernel.
    Result<void> prepare_boot(CpuState const& bootstrap_processor);
    // No virtual CPU can ever run again: each has halted with interrupts off, or was never started.
    // An end with RunExit::halted is told once until this has been asked.
    bool all_halted() const;
    std::vector<u8> save(MachineRecord::Kind) const;
    // What a loader left, or a suspended machine.
    Result<void> restore(SavedState const&, std::string const& object);
    CpuState cpu_state(unsigned vcpu) const { return m_threads[vcpu]->vcpu().state(); }
    void set_cpu_state(unsigned vcpu, CpuState const& state) { m_threads[vcpu]->vcpu().set_state(state); }
    // For tools that look at one part: nullptr when there is none of this name.
    Persistent* part(std::string_view name);

    // False when the guest has not turned ACPI on.
    bool press_power_button();
    void inject_nmi(unsigned vcpu) { m_threads[vcpu]->nmi(); }
    void assert_local_interrupt(unsigned vcpu, LvtEntry entry) { m_local_apics[vcpu]->trigger(entry); }
    // From outside, as a reset line or a power switch would; or from a device on the thread of a virtual CPU.
    void end(RunExit);

    Rtc& rtc() { return m_rtc; }
    bool is_parked(unsigned vcpu) const { return m_threads[vcpu]->is_parked(); }
    std::vector<StatisticsSource const*> statistics_sources() const;
    std::vector<Bus::Statistics> bus_statistics() const;
    Profile profile() { return m_engine->profile(); }
    std::vector<std::string> console_descriptions() const;

private:
    // Where devices on the ports and in memory are, and how messages call them.
    struct Place {
        Bus& bus;
        u64 base;
        u64 size;
        BusDevice& device;
        char const* name;
    };

    Pc(MachineConfig const&, GuestMemory&, std::unique_ptr<Engine>, Listener, u64 clock_start);
    Result<void> assemble();
    Result<void> create_processors();
    Result<void> place_devices();
    Result<void> create_com_ports();
    Result<void> create_test_devices();
    Result<void> create_pci_devices();
    Result<void> assign_pci_resources();
    Result<void> start_threads();
    CpuPolicy cpu_policy() const;
    std::vector<Persistent*> parts() const;

    MachineConfig const m_config;
    GuestMemory& m_memory;
    Listener const m_listener;
    bool m_paused = true;
    std::vector<bool> m_held; // by virtual CPU

    // The board. What stands below may use what stands above, and goes away before it.
    std::unique_ptr<Engine> const m_engine;
    std::vector<std::unique_ptr<VcpuThread>> m_threads; // virtual CPUs; stopped first of all
    std::unique_ptr<Clock> const m_clock;
    Bus m_ports { "ports" };
    Bus m_mmio { "memory" };

    ApicBus m_apic_bus;
    std::vector<std::unique_ptr<LocalApic>> m_local_apics;
    LocalApicPages m_local_apic_pages { m_mmio };
    IoApic m_io_apic { m_apic_bus, board::ioapic_id };
    Pic m_pic { [this](bool asserted) { set_external_output(asserted); } };
    PirqRouter m_pirq { m_pic };
    std::unique_ptr<PirqSwitch> const m_pirq_wiring; // between the LPC bridge's registers and the router
    InterruptRouter m_interrupts { m_io_apic, m_pic, m_pirq };

    Pit m_pit { *m_clock, IrqLine(m_interrupts, board::pit_irq) };
    Rtc m_rtc { *m_clock, IrqLine(m_interrupts, board::rtc_irq), rtc_seconds(), m_memory.low_size(), m_memory.high_size() };
    Hpet m_hpet { *m_clock, hpet_wires() };

    AcpiPm m_acpi_pm { *m_clock, IrqLine(m_interrupts, board::sci_irq), [this] { end(RunExit::power_off); } };
    ResetPort m_reset_port { [this] { end(RunExit::reset); } };
    KeyboardController m_keyboard { IrqLine(m_interrupts, board::keyboard_irq), IrqLine(m_interrupts, board::mouse_irq), [this] { end(RunExit::reset); } };
    DebugPort m_post_code { "post80" };
    DebugPort m_post_code_diagnostic { "post84" };
    std::vector<std::unique_ptr<Uart>> m_com_ports;
    std::unique_ptr<TestDevice> m_test_device; // -l pc-testdev
    std::unique_ptr<DebugExit> m_debug_exit;   // -l debug-exit
    mutable std::atomic<bool> m_halt_told { false }; // the listener knows that one has halted, and nobody has looked since
    std::atomic<int> m_exit_status { -1 };     // of a guest that wrote there

    PciBus m_pci { { m_mmio, m_ports, m_interrupts, m_apic_bus }, PciBus::InterruptMap::round_robin };
    PciConfigPorts m_pci_config_ports { m_pci, &m_reset_port.reset_control() };
    PciEcam m_pci_ecam { m_pci };
    std::vector<std::unique_ptr<PciFunction>> m_pci_devices;
    LpcBridge* m_lpc = nullptr; // one of them, when there is one

    std::optional<FirmwareTables> m_tables;
    std::vector<std::unique_ptr<SavedVcpu>> m_saved_vcpus;
    // What every machine has, in the order in which it is reset, saved and restored.
    std::vector<Persistent*> const m_fixed_parts { &m_pirq, &m_pit, &m_rtc, &m_hpet, &m_acpi_pm, &m_reset_port, &m_keyboard,
        &m_post_code, &m_post_code_diagnostic, &m_pci_config_ports, &m_io_apic, &m_pic }; // see parts()

    mutable std::mutex m_refusal_mutex; // innermost
    std::string m_refusal;              // bhyve -e: what the guest did

    void refuse_port(u64 port, unsigned width);
    std::string failure_text(unsigned vcpu) const;
    MachineEnd machine_end(unsigned vcpu, RunExit);
    void set_external_output(bool asserted);
    i64 rtc_seconds() const;
    Hpet::Wires hpet_wires();
};

} // namespace anyhyve::machine
