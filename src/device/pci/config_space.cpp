// The bytes of a PCI function's configuration space under their write masks.
#include "device/pci/config_space.hpp"

#include "base/assert.hpp"
#include "device/pci/pci_registers.hpp"

namespace anyhyve {

ConfigSpace::ConfigSpace(u16 size)
    : m_bytes(size)
    , m_writable(size)
    , m_clearable(size)
{
}

u32 ConfigSpace::read(u16 offset, unsigned width) const
{
    u32 value = 0;
    for (unsigned i = 0; i < width; ++i) {
        u8 const byte = offset + i < m_bytes.size() ? m_bytes[offset + i] : 0xff;
        value |= u32 { byte } << (8 * i);
    }
    return value;
}

void ConfigSpace::write(u16 offset, unsigned width, u32 value)
{
    for (unsigned i = 0; i < width && offset + i < m_bytes.size(); ++i) {
        u8 const written = static_cast<u8>(value >> (8 * i));
        u8 const writable = m_writable[offset + i];
        u8& byte = m_bytes[offset + i];
        byte = static_cast<u8>((byte & ~writable) | (written & writable));
        byte = static_cast<u8>(byte & ~(written & m_clearable[offset + i]));
    }
}

u32 ConfigSpace::get(u16 offset, unsigned width) const
{
    ASSERT(offset + width <= m_bytes.size(), "a device reads its configuration space beyond the end");
    return read(offset, width);
}

void ConfigSpace::set(u16 offset, unsigned width, u32 value)
{
    ASSERT(offset + width <= m_bytes.size(), "a device writes its configuration space beyond the end");
    for (unsigned i = 0; i < width; ++i)
        m_bytes[offset + i] = static_cast<u8>(value >> (8 * i));
}

void ConfigSpace::set_writable(u16 offset, unsigned width, u32 mask)
{
    ASSERT(offset + width <= m_bytes.size(), "a device masks its configuration space beyond the end");
    for (unsigned i = 0; i < width; ++i)
        m_writable[offset + i] = static_cast<u8>(mask >> (8 * i));
}

void ConfigSpace::set_clearable(u16 offset, unsigned width, u32 mask)
{
    ASSERT(offset + width <= m_bytes.size(), "a device masks its configuration space beyond the end");
    for (unsigned i = 0; i < width; ++i)
        m_clearable[offset + i] = static_cast<u8>(mask >> (8 * i));
}

bool ConfigSpace::restore(std::vector<u8> const& bytes, ConfigSpace const& power_on)
{
    if (bytes.size() != m_bytes.size())
        return false;
    u16 const status = offset_of(PciRegister::status);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        u8 fixed = static_cast<u8>(~(m_writable[i] | m_clearable[i]));
        if (i == status)
            fixed = static_cast<u8>(fixed & ~pci_status_interrupt); // recomputed from the device's own state
        if ((bytes[i] ^ power_on.m_bytes[i]) & fixed)
            return false;
    }
    m_bytes = bytes;
    return true;
}

} // namespace anyhyve
