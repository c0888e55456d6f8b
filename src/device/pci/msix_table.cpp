// MSI-X table, masking and pending bits.
#include "device/pci/msix_table.hpp"

#include <bit>

#include "base/assert.hpp"
#include "base/bits.hpp"

namespace anyhyve {

MsixTable::MsixTable(MsiSink& sink, unsigned vectors)
    : m_sink(sink)
    , m_entries(vectors)
    , m_pending_offset(std::bit_ceil(vectors * entry_size))
{
    ASSERT(vectors >= 1 && vectors <= 2048, "an MSI-X table has 1 to 2048 vectors");
}

u32 MsixTable::bar_size() const
{
    u32 const pending_bytes = (vectors() + 63) / 64 * 8;
    u32 const size = std::bit_ceil(m_pending_offset + pending_bytes);
    return size < 4096 ? 4096 : size;
}

u32 MsixTable::read_dword(u64 offset) const
{
    u64 const index = offset / entry_size;
    if (index < m_entries.size()) {
        Entry const& entry = m_entries[index];
        switch (offset % entry_size) {
        case 0:
            return entry.address_low;
        case 4:
            return entry.address_high;
        case 8:
            return entry.data;
        default:
            return entry.control;
        }
    }
    u32 value = 0;
    if (offset >= m_pending_offset) {
        u64 const first = (offset - m_pending_offset) * 8;
        for (u64 i = 0; i < 32 && first + i < m_entries.size(); ++i)
            value |= u32 { m_entries[first + i].pending } << i;
    }
    return value;
}

void MsixTable::write_dword(u64 offset, u32 value)
{
    u64 const index = offset / entry_size;
    if (index >= m_entries.size())
        return; // the pending bits are read-only
    Entry& entry = m_entries[index];
    switch (offset % entry_size) {
    case 0:
        entry.address_low = value & ~u32 { 3 };
        break;
    case 4:
        entry.address_high = value;
        break;
    case 8:
        entry.data = value;
        break;
    default:
        entry.control = value & mask_bit;
        send_pending(entry);
        break;
    }
}

u64 MsixTable::read(u64 offset, unsigned width) const
{
    u64 const start = align_down(offset, 4);
    u64 const both = read_dword(start) | u64 { read_dword(start + 4) } << 32;
    return both >> (8 * (offset - start)) & mask_of_bytes(width);
}

void MsixTable::write(u64 offset, unsigned width, u64 value)
{
    // 6.8.2: only whole dwords and qwords are defined; parts of a dword change just those bytes here.
    u64 const start = align_down(offset, 4);
    unsigned const shift = static_cast<unsigned>(8 * (offset - start));
    u64 const mask = mask_of_bytes(width) << shift;
    u64 const old = read_dword(start) | u64 { read_dword(start + 4) } << 32;
    u64 const both = (old & ~mask) | (value << shift & mask);
    if (mask & 0xffff'ffff)
        write_dword(start, static_cast<u32>(both));
    if (mask >> 32)
        write_dword(start + 4, static_cast<u32>(both >> 32));
}

void MsixTable::set_gate(Gate gate)
{
    m_gate = gate;
    for (auto& entry : m_entries)
        send_pending(entry);
}

void MsixTable::send_pending(Entry& entry)
{
    if (!entry.pending || m_gate != Gate::open || (entry.control & mask_bit))
        return;
    entry.pending = false;
    m_sink.send_msi(entry.address_low | u64 { entry.address_high } << 32, entry.data);
}

void MsixTable::raise(unsigned vector)
{
    if (vector >= m_entries.size() || m_gate == Gate::disabled)
        return;
    m_entries[vector].pending = true;
    send_pending(m_entries[vector]);
}

void MsixTable::reset()
{
    for (auto& entry : m_entries)
        entry = {};
    m_gate = Gate::disabled;
}

void MsixTable::save(Encoder& encoder) const
{
    encoder.put_u32(vectors());
    for (auto const& entry : m_entries) {
        encoder.put_u32(entry.address_low);
        encoder.put_u32(entry.address_high);
        encoder.put_u32(entry.data);
        encoder.put_u32(entry.control);
        encoder.put_bool(entry.pending);
    }
}

Result<void> MsixTable::restore(Decoder& decoder)
{
    if (decoder.get_u32() != vectors())
        return make_error(EINVAL, "the saved MSI-X table has another number of vectors than this device");
    for (auto& entry : m_entries) {
        entry.address_low = decoder.get_u32() & ~u32 { 3 };
        entry.address_high = decoder.get_u32();
        entry.data = decoder.get_u32();
        entry.control = decoder.get_u32() & mask_bit;
        entry.pending = decoder.get_bool();
    }
    return {};
}

} // namespace anyhyve
