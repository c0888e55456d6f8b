// A board with guest memory, and a driver that finds and drives a virtio device by either of its interfaces.
#pragma once

#include <chrono>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>

#include "device/pci/pci_bus.hpp"
#include "device/virtio/virtio_pci.hpp"
#include "guest_ring.hpp"

namespace anyhyve {

struct VirtioBoard final : InterruptSink, MsiSink {
    void set_level(unsigned, bool asserted) override
    {
        std::lock_guard lock(mutex);
        level = asserted;
        edges += asserted;
    }
    void send_msi(u64 address, u32 data) override
    {
        std::lock_guard lock(mutex);
        sent.emplace_back(address, data);
    }
    std::vector<std::pair<u64, u32>> messages()
    {
        std::lock_guard lock(mutex);
        return sent;
    }
    bool line()
    {
        std::lock_guard lock(mutex);
        return level;
    }

    std::mutex mutex;
    bool level = false;
    int edges = 0;
    std::vector<std::pair<u64, u32>> sent;
    std::unique_ptr<GuestMemory> memory = GuestMemory::create_anonymous(16 * MiB).release_value();
    Bus memory_bus { "memory" };
    Bus port_bus { "ports" };
    PciBus pci { { memory_bus, port_bus, *this, *this }, PciBus::InterruptMap::round_robin };

    VirtioWires wires(VirtioWires::Interrupts interrupts = VirtioWires::Interrupts::msix) { return { pci.wires(), *memory, interrupts }; }
    void plug(PciFunction& function)
    {
        EXPECT_TRUE(pci.add(function).ok());
        EXPECT_TRUE(pci.assign_bars(PciWindows {}, PciBus::Decode::on).ok());
        pci.assign_interrupts(nullptr);
    }
};

enum class Transport { legacy, modern };

class GuestDriver {
public:
    GuestDriver(VirtioBoard& board, PciFunction& function, Transport transport)
        : m_board(board)
        , m_function(function)
        , m_transport(transport)
    {
        m_legacy = function.config_read(0x10, 4) & ~u64 { 3 };
        for (u16 at = static_cast<u16>(function.config_read(0x34, 1)); at; at = static_cast<u16>(function.config_read(static_cast<u16>(at + 1), 1))) {
            u32 const id = function.config_read(at, 1);
            if (id == 0x11)
                m_msix = at;
            if (id == 0x05)
                m_msi = at;
            if (id != 0x09)
                continue;
            auto const type = static_cast<VirtioStructure>(function.config_read(static_cast<u16>(at + 3), 1));
            u32 const bar = function.config_read(static_cast<u16>(at + 4), 1);
            u64 const base = function.bar_address(bar) + function.config_read(static_cast<u16>(at + 8), 4);
            if (type == VirtioStructure::common)
                m_common = base;
            if (type == VirtioStructure::notify)
                m_notify = base;
            if (type == VirtioStructure::isr)
                m_isr = base;
            if (type == VirtioStructure::device)
                m_device = base;
            if (type == VirtioStructure::config_access)
                m_access = at;
        }
    }

    bool legacy() const { return m_transport == Transport::legacy; }
    u64 read(u64 address, unsigned width)
    {
        u64 value = 0;
        m_board.memory_bus.read(address, width, value);
        return value;
    }
    void write(u64 address, unsigned width, u64 value) { m_board.memory_bus.write(address, width, value); }
    u64 in(VirtioLegacy reg, unsigned width)
    {
        u64 value = 0;
        m_board.port_bus.read(m_legacy + static_cast<u64>(reg), width, value);
        return value;
    }
    void out(VirtioLegacy reg, unsigned width, u64 value) { m_board.port_bus.write(m_legacy + static_cast<u64>(reg), width, value); }
    u64 common(VirtioCommon reg, unsigned width) { return read(m_common + static_cast<u64>(reg), width); }
    void set_common(VirtioCommon reg, unsigned width, u64 value) { write(m_common + static_cast<u64>(reg), width, value); }

    u8 status() { return static_cast<u8>(legacy() ? in(VirtioLegacy::device_status, 1) : common(VirtioCommon::device_status, 1)); }
    void set_status(u8 value)
    {
        if (legacy())
            out(VirtioLegacy::device_status, 1, value);
        else
            set_common(VirtioCommon::device_status, 1, value);
    }
    u64 offered()
    {
        if (legacy())
            return in(VirtioLegacy::device_features, 4);
        set_common(VirtioCommon::device_feature_select, 4, 1);
        u64 const high = common(VirtioCommon::device_feature, 4);
        set_common(VirtioCommon::device_feature_select, 4, 0);
        return high << 32 | common(VirtioCommon::device_feature, 4);
    }
    void accept(u64 features)
    {
        if (legacy()) {
            out(VirtioLegacy::driver_features, 4, features & 0xffffffff);
            return;
        }
        for (u32 half : { 0U, 1U }) {
            set_common(VirtioCommon::driver_feature_select, 4, half);
            set_common(VirtioCommon::driver_feature, 4, features >> (32 * half) & 0xffffffff);
        }
    }
    u64 config(u64 offset, unsigned width)
    {
        if (!legacy())
            return read(m_device + offset, width);
        u64 value = 0;
        u64 const start = msix_on() ? virtio_legacy_config_with_msix : virtio_legacy_config;
        m_board.port_bus.read(m_legacy + start + offset, width, value);
        return value;
    }
    void set_config(u64 offset, unsigned width, u64 value)
    {
        u64 const start = msix_on() ? virtio_legacy_config_with_msix : virtio_legacy_config;
        if (legacy())
            m_board.port_bus.write(m_legacy + start + offset, width, value);
        else
            write(m_device + offset, width, value);
    }
    bool msix_on() { return m_msix && (m_function.config_read(static_cast<u16>(m_msix + 2), 2) & 0x8000); }

    // Initialises the device with queue 0 at `base` (3.1.1, 3.1.2).
    GuestRing& start(u64 features, u64 base = 0x100000)
    {
        set_status(0);
        set_status(virtio_acknowledge);
        set_status(virtio_acknowledge | virtio_driver);
        accept(legacy() ? features : features | virtio_version_1);
        if (!legacy())
            set_status(virtio_acknowledge | virtio_driver | virtio_features_ok);
        u8 const ready = legacy() ? virtio_acknowledge | virtio_driver : virtio_acknowledge | virtio_driver | virtio_features_ok;
        EXPECT_EQ(status(), ready);
        set_queue(base);
        set_status(ready | virtio_driver_ok);
        return *m_ring;
    }
    void set_queue(u64 base)
    {
        if (legacy()) {
            out(VirtioLegacy::queue_select, 2, 0);
            m_ring = std::make_unique<GuestRing>(*m_board.memory, base, static_cast<u16>(in(VirtioLegacy::queue_size, 2)));
            out(VirtioLegacy::queue_address, 4, base / 4096);
            return;
        }
        set_common(VirtioCommon::queue_select, 2, 0);
        u16 const size = static_cast<u16>(common(VirtioCommon::queue_size, 2) / 2); // a driver may take less
        m_ring = std::make_unique<GuestRing>(*m_board.memory, base, size);
        set_common(VirtioCommon::queue_size, 2, size);
        auto const place = [&](VirtioCommon reg, u64 address) {
            write(m_common + static_cast<u64>(reg), 4, address & 0xffffffff);
            write(m_common + static_cast<u64>(reg) + 4, 4, address >> 32);
        };
        place(VirtioCommon::queue_descriptors, m_ring->layout.descriptors);
        place(VirtioCommon::queue_available, m_ring->layout.available);
        place(VirtioCommon::queue_used, m_ring->layout.used);
        set_common(VirtioCommon::queue_enable, 2, 1);
    }
    void kick()
    {
        if (legacy())
            out(VirtioLegacy::queue_notify, 2, 0);
        else
            write(m_notify, 2, 0);
    }
    u8 isr() { return static_cast<u8>(legacy() ? in(VirtioLegacy::isr_status, 1) : read(m_isr, 1)); }
    // Waits until the device has used `index` chains.
    bool wait_for_used(u16 index)
    {
        for (int i = 0; i < 50'000 && m_ring->used_index() != index; ++i)
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        return m_ring->used_index() == index;
    }
    // Programs the MSI-X entries and routes queue 0 to vector 1 and configuration changes to 0.
    void enable_msix()
    {
        u64 const table = m_function.bar_address(1);
        for (u64 vector : { 0, 1 }) {
            write(table + 16 * vector, 8, 0xfee00000);
            write(table + 16 * vector + 8, 4, 0x40 + vector);
            write(table + 16 * vector + 12, 4, 0);
        }
        m_function.config_write(static_cast<u16>(m_msix + 2), 2, 0x8000);
    }
    void route_vectors()
    {
        if (legacy()) {
            out(VirtioLegacy::config_msix_vector, 2, 0);
            out(VirtioLegacy::queue_msix_vector, 2, 1);
            EXPECT_EQ(in(VirtioLegacy::queue_msix_vector, 2), 1U);
        } else {
            set_common(VirtioCommon::config_msix_vector, 2, 0);
            set_common(VirtioCommon::queue_msix_vector, 2, 1);
            EXPECT_EQ(common(VirtioCommon::queue_msix_vector, 2), 1U);
        }
    }

    GuestRing& ring() { return *m_ring; }
    u16 access_capability() const { return m_access; }
    u16 msi_capability() const { return m_msi; }
    u16 msix_capability() const { return m_msix; }

private:
    VirtioBoard& m_board;
    PciFunction& m_function;
    Transport m_transport;
    u64 m_legacy = 0, m_common = 0, m_notify = 0, m_isr = 0, m_device = 0;
    u16 m_msix = 0, m_msi = 0, m_access = 0;
    std::unique_ptr<GuestRing> m_ring;
};

} // namespace anyhyve
