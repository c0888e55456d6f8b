// Device memory and ports: the guest's vector state is put away, and other vCPUs need not wait for this one.
#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/byte_copy.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

void Mmu::access_pieces(u64 physical, u8* bytes, unsigned size, Access access)
{
    VectorStateGuard guard(m_cpu);
    DeviceScope scope(m_cpu, m_cache);
    while (size != 0) {
        unsigned width = 8;
        while (width > size || (physical & (width - 1)) != 0)
            width /= 2;
        u64 value = 0;
        if (access == Access::write) {
            __builtin_memcpy(&value, bytes, 8 > size ? size : 8);
            value &= mask_of_bytes(width);
            m_cpu.wires.mmio->write(physical, width, value);
        } else {
            m_cpu.wires.mmio->read(physical, width, value);
            // SAFETY: the bytes of a u64, of which width is at most 8.
            copy_in(bytes, reinterpret_cast<u8 const*>(&value), width);
        }
        physical += width;
        bytes += width;
        size -= width;
    }
}

void Mmu::read_device(u64 physical, void* to, unsigned size)
{
    ++m_statistics.device_reads;
    access_pieces(physical, static_cast<u8*>(to), size, Access::read);
}

void Mmu::write_device(u64 physical, void const* from, unsigned size)
{
    ++m_statistics.device_writes;
    access_pieces(physical, const_cast<u8*>(static_cast<u8 const*>(from)), size, Access::write);
}

u64 Mmu::port_in(u16 port, unsigned width)
{
    VectorStateGuard guard(m_cpu);
    DeviceScope scope(m_cpu, m_cache);
    u64 value = 0;
    if (breakpoints_enabled(m_cpu))
        note_port_access(m_cpu, port, width);
    m_cpu.wires.ports->read(port, width, value);
    return value;
}

void Mmu::port_out(u16 port, unsigned width, u64 value)
{
    VectorStateGuard guard(m_cpu);
    DeviceScope scope(m_cpu, m_cache);
    if (breakpoints_enabled(m_cpu))
        note_port_access(m_cpu, port, width);
    m_cpu.wires.ports->write(port, width, value);
}

} // namespace anyhyve::soft
