// A virtio device on the PCI bus, for drivers of virtio 1.x (structures in a memory BAR) and of the legacy interface (I/O BAR 0).
// Spec: virtio 1.2, 4.1; PCI ids and layout of a transitional device (4.1.2.3). State: complete for split rings.
// Missing: queue reset, notification data, shared memory regions, administration queue.
// Threads: register accesses from vCPUs, completions from workers: all under the device's lock, m_mutex. Lock order: device, then
// PciFunction's. A reset gives the lock up while it waits for requests in flight.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "device/pci/pci_function.hpp"
#include "device/virtio/virtio_registers.hpp"
#include "device/virtio/virtqueue.hpp"

namespace anyhyve {

// What a virtio device is wired to.
struct VirtioWires {
    enum class Interrupts { msix, msi }; // msi: one message, for guests with trouble with MSI-X

    PciWires pci;
    GuestMemory& memory;
    Interrupts interrupts = Interrupts::msix;
};

struct VirtioModel {
    std::string name;             // "virtio-blk"
    VirtioType type;
    u16 transitional_device;      // PCI id for both kinds of driver
    u32 class_code;
    std::vector<u16> queue_sizes; // powers of two
    u64 config_size;              // bytes of device-specific configuration
};

class VirtioPci : public PciFunction {
public:
    void quiesce() override { finish_requests(); }

protected:
    VirtioPci(VirtioWires wires, PciAddress address, VirtioModel const& model);

    // For devices. With m_mutex held unless said otherwise.
    virtual u64 device_features() const = 0; // without those of the ring; constant
    virtual void queue_notified(unsigned queue) = 0;
    virtual u8 read_config_byte(u64 offset) const = 0;
    virtual void write_config(u64 /*offset*/, unsigned /*width*/, u64 /*value*/) {}
    virtual void features_accepted(u64 /*features*/) {}
    virtual void device_was_reset() {}
    virtual void cancel_requests() {} // without the lock: on return no request touches guest memory
    virtual void finish_requests() {} // without the lock: on return all requests taken have completed
    virtual void save_model(Encoder&) const {}
    virtual Result<void> restore_model(Decoder&) { return {}; }

    GuestMemory& memory() { return m_memory; }
    Virtqueue& queue(unsigned index) { return m_queues[index].ring; }
    u64 features() const { return m_driver_features; }
    // Whether the guest may expect requests to be served.
    bool is_live() const;
    // Interrupts the guest for what was pushed to `index`, if it wants that.
    void signal_queue(unsigned index);
    void config_changed();
    // The guest's rings are wrong: tells the guest (2.1.2) and the log.
    void queue_broke(unsigned index);

    mutable std::mutex m_mutex;

private:
    struct Queue {
        Virtqueue ring;
        u16 vector = virtio_no_vector;
    };

    u64 bar_read(unsigned bar, u64 offset, unsigned width) final;
    void bar_write(unsigned bar, u64 offset, unsigned width, u64 value) final;
    void config_reading(u16 offset, unsigned width) final;
    void config_written(u16 offset, unsigned width) final;
    void reset_device() final;
    void save_device(Encoder&) const final;
    Result<void> restore_device(Decoder&) final;

    void add_structures(u64 config_size);
    void add_structure(VirtioStructure, u32 offset, u32 length);
    // A part of a BAR.
    struct BarRange {
        u8 bar;
        u32 offset, length;
    };
    std::optional<BarRange> config_access(u16 offset, unsigned width) const;
    u64 all_features() const;

    using Lock = std::unique_lock<std::mutex>;
    u64 legacy_read(u64 offset, unsigned width);
    void legacy_write(Lock&, u64 offset, unsigned width, u64 value);
    u64 legacy_config_start() const;
    void set_legacy_queue_address(u32 page);
    u64 common_read(u64 offset, unsigned width) const;
    void common_write(Lock&, u64 offset, unsigned width, u64 value);
    void write_queue_field(Queue&, VirtioCommon reg, u64 value, u64 mask);
    u64 read_config(u64 offset, unsigned width) const;
    u8 take_isr();
    void write_status(Lock&, u8 value);
    void set_driver_features(u64 features);
    void notify(u64 queue);
    void interrupt(u8 isr, u16 vector);
    void reset_locked(Lock&);
    Queue* selected();
    Queue const* selected() const;
    u16 valid_vector(u64 value) const;

    GuestMemory& m_memory;
    u64 m_config_size;
    std::vector<Queue> m_queues;
    u16 m_config_access = 0; // offset of the capability
    u8 m_status = 0;
    u8 m_isr = 0;
    u8 m_config_generation = 0;
    u32 m_device_feature_select = 0;
    u32 m_driver_feature_select = 0;
    u64 m_driver_features = 0;
    u16 m_config_vector = virtio_no_vector;
    u16 m_queue_select = 0;
    bool m_legacy = true;     // no driver of virtio 1.x has shown itself
    bool m_resetting = false;
};

} // namespace anyhyve
