// A window of byte-wide registers into a device that has several: wider accesses become one access a byte, lowest first,
// as the ISA bus splits them (firmware writes index and data of the RTC with one 16-bit OUT).
#pragma once

#include "vmm/bus.hpp"

namespace anyhyve {

template<typename Device, u8 (Device::*Read)(u64 offset), void (Device::*Write)(u64 offset, u8 value)>
class ByteWindow final : public BusDevice {
public:
    explicit ByteWindow(Device& device) : m_device(device) {}

    u64 read(u64 offset, unsigned width) override
    {
        u64 value = 0;
        for (unsigned i = 0; i < width; ++i)
            value |= u64 { (m_device.*Read)(offset + i) } << (8 * i);
        return value;
    }
    void write(u64 offset, unsigned width, u64 value) override
    {
        for (unsigned i = 0; i < width; ++i)
            (m_device.*Write)(offset + i, static_cast<u8>(value >> (8 * i)));
    }

private:
    Device& m_device;
};

// The same for a window whose registers have several widths.
template<typename Device, u64 (Device::*Read)(u64 offset, unsigned width), void (Device::*Write)(u64 offset, unsigned width, u64 value)>
class RegisterWindow final : public BusDevice {
public:
    explicit RegisterWindow(Device& device) : m_device(device) {}
    u64 read(u64 offset, unsigned width) override { return (m_device.*Read)(offset, width); }
    void write(u64 offset, unsigned width, u64 value) override { (m_device.*Write)(offset, width, value); }

private:
    Device& m_device;
};

} // namespace anyhyve
