// What a guest can do to a virtio device: any register accesses, any bytes in its rings, and now and then the right thing, so that
// random inputs get as far as requests.
#pragma once

#include <memory>

#include "device/pci/config_access.hpp"
#include "fuzz/input.hpp"
#include "virtio/guest_driver.hpp"

namespace anyhyve::fuzz {

class VirtioGuest {
public:
    VirtioGuest(VirtioBoard& board, VirtioPci& device) : m_board(board), m_device(device) { board.plug(device); }

    void apply(Record const& record)
    {
        switch (record.operation % 16) {
        case 0: case 1: // legacy registers
            access(m_board.port_bus, m_device.bar_address(0) + (record.offset & 0x7f), record);
            break;
        case 2: case 3: // common configuration and what follows it: at the beginning of each page of the memory BAR
            access(m_board.memory_bus, memory_bar() + (record.offset & 0x303f), record);
            break;
        case 4: // the MSI-X table
            access(m_board.memory_bus, m_device.bar_address(1) + (record.offset & 0xfff), record);
            break;
        case 5:
            m_device.config_write(record.offset & 0xfff, std::min(record.width, 4U), static_cast<u32>(record.value));
            (void)m_device.config_read(record.offset & 0xfff, std::min(record.width, 4U));
            break;
        case 6: case 7: // anything anywhere in the rings and buffers
            m_board.memory->write(Gpa(rings + (record.offset & 0x3fff)), &record.value, record.width);
            break;
        case 8: case 9:
            describe(record);
            break;
        case 10:
            offer(record);
            break;
        case 11:
            request(record);
            break;
        case 12:
            start(record);
            break;
        case 13: // queue_notify of both transports
            access(m_board.port_bus, m_device.bar_address(0) + 16, { 0, 0, 2, record.value & 1 });
            notify_modern(record);
            break;
        case 14:
            m_device.config_write(4, 2, record.offset & 1 ? static_cast<u32>(record.value & 0xffff) : 7);
            break;
        default:
            m_device.quiesce();
            check_round_trip(m_device);
        }
    }

private:
    static constexpr u64 rings = 0x100000; // descriptors, 0x1000 on: available ring, 0x2000 on: used ring, 0x3000 on: buffers

    u64 memory_bar() const { return m_device.bar_address(4); }
    void access(Bus& bus, u64 address, Record const& record)
    {
        u64 value = 0;
        if (record.operation & 16) {
            bus.read(address, record.width, value);
            check_width(value, record.width);
        } else {
            bus.write(address, record.width, record.value);
        }
    }
    void describe(Record const& record)
    {
        u64 const address = record.value & 0x8000'0000 ? record.value << 20 : rings + (record.value & 0x3fff);
        u32 const length = record.operation & 16 ? 16 : static_cast<u32>(record.value >> 16 & 0xfff);
        struct {
            u64 address;
            u32 length;
            u16 flags, next;
        } const descriptor { address, length, static_cast<u16>(record.offset >> 4 & 7), static_cast<u16>(record.offset >> 8 & 15) };
        m_board.memory->write_value(Gpa(rings + 16 * (record.offset & 15)), descriptor);
        if (record.operation & 32) // the header of a block request
            m_board.memory->write(Gpa(address), &record.value, 1);
    }
    // A block request as drivers make them, of any type, sector and length: header, data, status.
    void request(Record const& record)
    {
        struct {
            u64 address;
            u32 length;
            u16 flags, next;
        } const descriptors[] {
            { rings + 0x3000, 16, ring_next, 1 },
            { rings + 0x3100, static_cast<u32>(record.value & 7) * 512, static_cast<u16>(ring_next | (record.offset & 0x100 ? ring_write : 0)), 2 },
            { rings + 0x3010, 1, ring_write, 0 },
        };
        m_board.memory->write_value(Gpa(rings), descriptors);
        m_board.memory->write_value(Gpa(rings + 0x3000), u64 { record.offset >> 4 & 15 });
        m_board.memory->write_value(Gpa(rings + 0x3008), record.value >> 3 & 0xff);
        offer({ record.operation, 0, record.width, 0 });
    }
    void offer(Record const& record)
    {
        u16 const head = record.offset & 15;
        m_board.memory->write_value(Gpa(rings + 0x1004 + 2U * (m_available % 16)), head);
        ++m_available;
        m_board.memory->write_value(Gpa(rings + 0x1002), m_available);
        notify_modern(record);
    }
    void notify_modern(Record const& record)
    {
        for (u64 page = 0; page < 4; ++page)
            m_board.memory_bus.write(memory_bar() + page * 0x1000, 2, record.value & 1);
    }
    // As a driver of virtio 1.x does, with features and a status from the input.
    void start(Record const& record)
    {
        m_device.config_write(4, 2, 7);
        auto const set = [this](VirtioCommon reg, unsigned width, u64 value) {
            m_board.memory_bus.write(memory_bar() + static_cast<u64>(reg), width, value);
        };
        constexpr u8 ready = virtio_acknowledge | virtio_driver | virtio_features_ok;
        set(VirtioCommon::device_status, 1, 0);
        for (u32 const half : { 0U, 1U }) {
            set(VirtioCommon::driver_feature_select, 4, half);
            set(VirtioCommon::driver_feature, 4, half == 0 ? record.value & 0x3fff'ffff : virtio_version_1 >> 32);
        }
        set(VirtioCommon::device_status, 1, ready);
        set(VirtioCommon::queue_select, 2, 0);
        set(VirtioCommon::queue_size, 2, 16);
        set(VirtioCommon::queue_descriptors, 8, rings);
        set(VirtioCommon::queue_available, 8, rings + 0x1000);
        set(VirtioCommon::queue_used, 8, rings + 0x2000);
        set(VirtioCommon::queue_enable, 2, 1);
        set(VirtioCommon::device_status, 1, record.offset & 1 ? record.offset >> 8 : ready | virtio_driver_ok);
        m_available = 0;
    }

    VirtioBoard& m_board;
    VirtioPci& m_device;
    u16 m_available = 0;
};

} // namespace anyhyve::fuzz
