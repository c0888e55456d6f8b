// Configuration mechanism #1 and ECAM.
#include "device/pci/config_access.hpp"

#include "base/bits.hpp"

namespace anyhyve {

namespace {

// CONFIG_ADDRESS (PCI Local Bus 3.0, 3.2.2.3.2).
constexpr u32 config_enable = u32 { 1 } << 31;
constexpr u32 config_address_bits = 0x80ff'fffc;

PciAddress function_of(u32 address)
{
    return PciAddress::from_number(static_cast<u16>(address >> 8));
}

} // namespace

u32 PciConfigPorts::address() const
{
    std::lock_guard lock(m_mutex);
    return m_address;
}

u64 PciConfigPorts::read(u64 offset, unsigned width)
{
    if (offset >= static_cast<u64>(Register::data)) {
        u32 const selected = address();
        if (!(selected & config_enable) || width > 4)
            return mask_of_bytes(width);
        u16 const reg = static_cast<u16>((selected & 0xfc) + (offset & 3));
        return m_bus.config_read(function_of(selected), reg, width);
    }
    if (offset == static_cast<u64>(Register::address) && width == 4)
        return address();
    if (offset == static_cast<u64>(Register::reset_control) && width == 1 && m_reset_control)
        return m_reset_control->read(0, 1);
    return mask_of_bytes(width);
}

void PciConfigPorts::write(u64 offset, unsigned width, u64 value)
{
    if (offset >= static_cast<u64>(Register::data)) {
        u32 const selected = address();
        if (!(selected & config_enable) || width > 4)
            return;
        u16 const reg = static_cast<u16>((selected & 0xfc) + (offset & 3));
        m_bus.config_write(function_of(selected), reg, width, static_cast<u32>(value));
    } else if (offset == static_cast<u64>(Register::address) && width == 4) {
        std::lock_guard lock(m_mutex);
        m_address = static_cast<u32>(value) & config_address_bits;
    } else if (offset == static_cast<u64>(Register::reset_control) && width == 1 && m_reset_control) {
        m_reset_control->write(0, 1, value);
    }
}

void PciConfigPorts::save(Encoder& encoder) const
{
    encoder.put_u32(address());
}

Result<void> PciConfigPorts::restore(Decoder& decoder, u32 version)
{
    u32 const saved = decoder.get_u32();
    if (version != state_version() || !decoder.ok() || !decoder.at_end()) {
        reset();
        return make_error(EINVAL, "pci-config-ports: the saved state has the wrong version or length");
    }
    std::lock_guard lock(m_mutex);
    m_address = saved & config_address_bits;
    return {};
}

void PciConfigPorts::reset()
{
    std::lock_guard lock(m_mutex);
    m_address = 0;
}

u64 PciEcam::read(u64 offset, unsigned width)
{
    PciAddress const function = PciAddress::from_number(static_cast<u16>(offset >> 12));
    u16 const reg = static_cast<u16>(offset & 0xfff);
    if (width > 4)
        return m_bus.config_read(function, reg, 4) | u64 { m_bus.config_read(function, static_cast<u16>(reg + 4), 4) } << 32;
    return m_bus.config_read(function, reg, width);
}

void PciEcam::write(u64 offset, unsigned width, u64 value)
{
    PciAddress const function = PciAddress::from_number(static_cast<u16>(offset >> 12));
    u16 const reg = static_cast<u16>(offset & 0xfff);
    m_bus.config_write(function, reg, width > 4 ? 4 : width, static_cast<u32>(value));
    if (width > 4)
        m_bus.config_write(function, static_cast<u16>(reg + 4), 4, static_cast<u32>(value >> 32));
}

} // namespace anyhyve
