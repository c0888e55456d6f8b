// From a chain of guest buffers to requests of the block back end.
#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "device/virtio/virtio_blk.hpp"
#include "device/virtio/virtio_blk_registers.hpp"

namespace anyhyve {

namespace {

using Piece = Virtqueue::Piece;

// One range of a discard or write zeroes request (5.2.6).
struct Segment {
    u64 sector;
    u32 sectors;
    u32 flags;
};
static_assert(sizeof(Segment) == 16);

// Takes the first `count` bytes off `pieces` into `to`. False when there are fewer. The parts may be cut anywhere (2.7.4).
bool take_front(std::vector<Piece>& pieces, void* to, u64 count)
{
    u8* out = static_cast<u8*>(to);
    for (auto& piece : pieces) {
        u32 const step = static_cast<u32>(std::min<u64>(count, piece.length));
        std::memcpy(out, piece.memory, step);
        out += step;
        count -= step;
        piece.memory += step;
        piece.address = piece.address + step;
        piece.length -= step;
        if (count == 0)
            break;
    }
    std::erase_if(pieces, [](Piece const& piece) { return piece.length == 0; });
    return count == 0;
}

std::vector<iovec> vectors_of(std::vector<Piece> const& pieces)
{
    std::vector<iovec> vectors;
    vectors.reserve(pieces.size());
    for (auto const& piece : pieces)
        vectors.push_back({ piece.memory, piece.length });
    return vectors;
}

// Slot::error that means: the back end will finish it.
constexpr u8 started = 0xff;

} // namespace

bool VirtioBlk::inside(u64 sector, u64 bytes) const
{
    u64 const sectors = m_backend->size() / virtio_blk_sector;
    u64 const block = m_backend->logical_sector();
    return sector <= sectors && bytes <= (sectors - sector) * virtio_blk_sector && is_aligned(sector * virtio_blk_sector | bytes, block);
}

void VirtioBlk::start(Slot& slot)
{
    slot.in_use = true;
    slot.head = m_chain.head;
    slot.error = virtio_blk_ok;
    slot.data_bytes = 0;
    slot.parts = 0;
    slot.status = {};
    slot.written.clear();
    ++m_in_flight;

    // The last writable byte is the status (5.2.6).
    if (!m_chain.writable.empty()) {
        slot.status = m_chain.writable.back();
        if (--m_chain.writable.back().length == 0)
            m_chain.writable.pop_back();
        --m_chain.writable_bytes;
    }
    Header header {};
    if (slot.status.length == 0 || !take_front(m_chain.readable, &header, sizeof header)) {
        finish(slot, virtio_blk_io_error);
        return;
    }
    m_chain.readable_bytes -= sizeof header;

    u8 status = virtio_blk_unsupported;
    switch (static_cast<VirtioBlkRequest>(header.type)) {
    case VirtioBlkRequest::in:
    case VirtioBlkRequest::out:
        status = start_transfer(slot, header);
        break;
    case VirtioBlkRequest::flush:
        status = start_flush(slot);
        break;
    case VirtioBlkRequest::get_id:
        status = give_identity(slot);
        break;
    case VirtioBlkRequest::discard:
    case VirtioBlkRequest::write_zeroes:
        status = start_segments(slot, header);
        break;
    }
    if (status != started)
        finish(slot, status);
}

u8 VirtioBlk::start_transfer(Slot& slot, Header const& header)
{
    bool const reading = header.type == static_cast<u32>(VirtioBlkRequest::in);
    auto const& pieces = reading ? m_chain.writable : m_chain.readable;
    u64 const bytes = reading ? m_chain.writable_bytes : m_chain.readable_bytes;
    ++(reading ? m_counters.reads : m_counters.writes);
    if (!inside(header.sector, bytes) || (!reading && m_backend->read_only()))
        return virtio_blk_io_error;
    (reading ? m_counters.bytes_read : m_counters.bytes_written) += bytes;
    if (reading) {
        slot.written = pieces;
        slot.data_bytes = static_cast<u32>(bytes);
    }
    BlockRequest request;
    request.operation = reading ? BlockRequest::Operation::read : BlockRequest::Operation::write;
    request.durability = durability();
    request.offset = header.sector * virtio_blk_sector;
    request.length = bytes;
    request.pieces = vectors_of(pieces);
    submit(slot, std::move(request));
    return started;
}

u8 VirtioBlk::start_flush(Slot& slot)
{
    ++m_counters.flushes;
    submit(slot, {});
    return started;
}

u8 VirtioBlk::give_identity(Slot& slot)
{
    u32 given = 0;
    for (auto const& piece : m_chain.writable) {
        u32 const step = std::min(piece.length, identity_size - given);
        std::memcpy(piece.memory, m_identity.data() + given, step);
        given += step;
    }
    slot.written = m_chain.writable;
    slot.data_bytes = given;
    return virtio_blk_ok;
}

u8 VirtioBlk::start_segments(Slot& slot, Header const& header)
{
    bool const discard = header.type == static_cast<u32>(VirtioBlkRequest::discard);
    ++(discard ? m_counters.discards : m_counters.zeroes);
    if (m_backend->read_only() || (discard && !m_backend->can_discard()))
        return m_backend->read_only() ? virtio_blk_io_error : virtio_blk_unsupported;
    std::array<Segment, largest_segments> segments;
    u64 const count = m_chain.readable_bytes / sizeof(Segment);
    if (count == 0 || count > segments.size() || m_chain.readable_bytes % sizeof(Segment) != 0)
        return virtio_blk_io_error;
    take_front(m_chain.readable, segments.data(), count * sizeof(Segment));

    // All are checked before the first one is done.
    u32 const most = discard ? largest_discard_sectors : largest_zeroes_sectors;
    for (u64 i = 0; i < count; ++i) {
        auto const& segment = segments[i];
        if (segment.flags & ~(discard ? 0 : virtio_blk_unmap))
            return virtio_blk_unsupported;
        if (segment.sectors > most || !inside(segment.sector, u64 { segment.sectors } * virtio_blk_sector))
            return virtio_blk_io_error;
    }
    slot.parts = 1; // held until all parts are submitted
    for (u64 i = 0; i < count; ++i) {
        BlockRequest request;
        request.operation = discard ? BlockRequest::Operation::discard : BlockRequest::Operation::write_zeroes;
        request.durability = durability();
        request.may_unmap = segments[i].flags & virtio_blk_unmap;
        request.offset = segments[i].sector * virtio_blk_sector;
        request.length = u64 { segments[i].sectors } * virtio_blk_sector;
        submit(slot, std::move(request));
    }
    --slot.parts; // completions wait for the lock that we hold
    return started;
}

} // namespace anyhyve
