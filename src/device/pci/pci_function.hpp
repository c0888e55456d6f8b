// Base class of every PCI function: configuration space, BARs that move while the guest runs, capabilities, INTx, MSI and MSI-X.
// Spec: PCI Local Bus 3.0, chapter 6; PCI Express Base 2.0, 7.8. State: complete. Missing: expansion ROMs, power management.
// Threads: configuration accesses and interrupts from any thread, under the function's configuration lock. The hooks that a device
// overrides are called without that lock, so a device takes its own lock in them. Lock order: device, configuration, BAR mapper,
// interrupt controllers.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "device/pci/bar_mapper.hpp"
#include "device/pci/config_space.hpp"
#include "device/pci/msix_table.hpp"
#include "device/pci/pci_registers.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

// What a function is soldered to.
struct PciWires {
    BarMapper& bars;
    MsiSink& messages;
};

struct PciIdentity {
    enum class Kind { conventional, express };

    u16 vendor = 0;
    u16 device = 0;
    u32 class_code = 0; // base class, subclass, interface: 0x060000 is a host bridge
    u8 revision = 0;
    u16 subsystem_vendor = 0;
    u16 subsystem = 0;
    Kind kind = Kind::conventional;
};

class PciFunction : public Persistent {
public:
    PciFunction(PciWires wires, PciAddress address, std::string model, PciIdentity const& identity);
    ~PciFunction() override;
    PciFunction(PciFunction const&) = delete;
    PciFunction& operator=(PciFunction const&) = delete;

    PciAddress address() const { return m_address; }
    // "virtio-blk@0:4:0": for messages, saved state and statistics.
    std::string const& name() const { return m_name; }

    // The guest's accesses; width 1, 2 or 4, any alignment.
    u32 config_read(u16 offset, unsigned width);
    void config_write(u16 offset, unsigned width, u32 value);

    enum class BarKind { none, ports, memory32, memory64, upper_half };
    struct BarShape {
        BarKind kind = BarKind::none;
        u64 size = 0;
    };
    BarShape bar_shape(unsigned bar) const { return m_bars[bar].shape; }
    u64 bar_address(unsigned bar) const;
    bool bar_is_mapped(unsigned bar) const;

    // For the bus that the function is plugged into, before the machine runs.
    void set_bar_address(unsigned bar, u64 address);
    void set_command(u16 command);
    bool wants_intx() const { return m_wants_intx; }
    void connect_intx(u8 pin, IrqLine line);
    u8 intx_pin() const;
    void set_interrupt_line(u8 irq);
    void set_multifunction();
    // What a reset returns to: called once everything above is set.
    void capture_power_on_state();

    // Lets work in flight end. The machine calls it with the vCPUs paused, before it saves any part.
    virtual void quiesce() {}

    std::string_view state_name() const override { return m_name; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

protected:
    // For constructors of devices.
    void add_bar(unsigned bar, BarKind, u64 size);
    u16 add_capability(PciCapabilityId, unsigned size); // its offset; the bytes after id and next pointer are zero
    void add_msi(unsigned vectors);                     // 1, 2, 4, ... 32; 64-bit addresses
    void add_msix(unsigned bar, unsigned vectors);      // takes the whole BAR, 32-bit memory
    enum class ExpressType : u8 { endpoint = 0, root_port = 4, integrated_endpoint = 9 };
    void add_express(ExpressType);
    void add_intx() { m_wants_intx = true; }
    ConfigSpace& config() { return m_config; } // only before the machine runs
    // The same for a device's own registers while it runs: locked, and without masks.
    u32 config_value(u16 offset, unsigned width) const;
    void set_config_value(u16 offset, unsigned width, u32 value);

    // Interrupts. A device tells all it has; whichever kind the guest enabled goes through.
    bool msix_enabled() const;
    bool msi_enabled() const;
    void set_intx(bool asserted);
    void send_msi(unsigned vector);
    void send_msix(unsigned vector);

    // Hooks.
    virtual u64 bar_read(unsigned bar, u64 offset, unsigned width);
    virtual void bar_write(unsigned bar, u64 offset, unsigned width, u64 value);
    virtual void config_reading(u16 /*offset*/, unsigned /*width*/) {} // before the guest reads
    virtual void config_written(u16 /*offset*/, unsigned /*width*/) {} // after the guest wrote
    virtual void config_restored() {}                                  // after a reset or a restore of all registers
    virtual void reset_device() {}
    virtual void save_device(Encoder&) const {}
    virtual Result<void> restore_device(Decoder&) { return {}; }

private:
    // One BAR as a bus sees it.
    class Window final : public BusDevice {
    public:
        u64 read(u64 offset, unsigned width) override { return m_function->window_read(m_bar, offset, width); }
        void write(u64 offset, unsigned width, u64 value) override { m_function->window_write(m_bar, offset, width, value); }
        PciFunction* m_function = nullptr;
        unsigned m_bar = 0;
    };
    struct Bar {
        BarShape shape;
        Window window;
    };
    u64 window_read(unsigned bar, u64 offset, unsigned width);
    void window_write(unsigned bar, u64 offset, unsigned width, u64 value);

    u64 bar_address_locked(unsigned bar) const;
    Result<void> restore_config(Decoder&);
    void update_bar_locked(unsigned bar);
    void update_interrupts_locked();
    void update_all_locked();

    PciWires m_wires;
    PciAddress m_address;
    std::string m_name;
    mutable std::mutex m_config_mutex;
    ConfigSpace m_config;
    std::optional<ConfigSpace> m_power_on;
    std::array<Bar, pci_bar_count> m_bars;
    u16 m_next_capability = offset_of(PciRegister::first_capability);
    u16 m_last_capability_link = offset_of(PciRegister::capabilities_pointer);
    u16 m_msi = 0;  // offset of the capability, 0: none
    u16 m_msix = 0;
    unsigned m_msix_bar = 0;
    std::optional<MsixTable> m_msix_table;
    bool m_wants_intx = false;
    bool m_intx_asserted = false; // what the device asks for, whether or not the guest lets it through
    IrqLine m_intx;
};

} // namespace anyhyve
