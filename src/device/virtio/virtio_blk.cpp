// The virtio block device: identity, configuration, the queue and its completions.
#include "device/virtio/virtio_blk.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/log.hpp"
#include "device/virtio/virtio_blk_registers.hpp"

namespace anyhyve {

namespace {

constexpr auto options_of_blk = [] {
    std::array<DeviceOption, std::size(block_option_rows) + 1> rows {};
    std::copy(std::begin(block_option_rows), std::end(block_option_rows), rows.begin());
    rows.back() = { "ser", "serial number, up to 20 characters" };
    return rows;
}();

constexpr u32 class_scsi_storage = 0x010000;

// A name that stays the same as long as the path does (FNV-1a).
std::string default_serial(std::string const& path)
{
    u64 hash = 0xcbf29ce484222325;
    for (char const c : path)
        hash = (hash ^ static_cast<u8>(c)) * 0x100000001b3;
    return fmt::format("BHYVE-{:04X}-{:04X}-{:04X}", hash >> 48, hash >> 32 & 0xffff, hash >> 16 & 0xffff);
}

log::RateLimit s_guest_messages;

} // namespace

DeviceInfo const VirtioBlk::info { "virtio-blk", "path", options_of_blk, "virtio block device" };

Result<std::unique_ptr<VirtioBlk>> VirtioBlk::create(VirtioWires wires, PciAddress address, DeviceOptions const& options)
{
    auto const block_options = TRY(BlockOptions::parse(options));
    std::string serial = options.text("ser", default_serial(block_options.path));
    if (serial.size() > identity_size)
        return make_error(EINVAL, "{}: ser={}: more than {} characters", block_options.path, serial, identity_size);
    auto backend = TRY(BlockBackend::open(block_options));
    return std::unique_ptr<VirtioBlk>(new VirtioBlk(wires, address, std::move(backend), serial));
}

VirtioBlk::VirtioBlk(VirtioWires wires, PciAddress address, std::unique_ptr<BlockBackend> backend, std::string const& serial)
    : VirtioPci(wires, address,
        VirtioModel { .name = std::string(info.name),
            .type = VirtioType::block,
            .transitional_device = 0x1001,
            .class_code = class_scsi_storage,
            .queue_sizes = { queue_size },
            .config_size = sizeof m_config })
    , m_backend(std::move(backend))
{
    std::copy(serial.begin(), serial.end(), m_identity.begin());
    fill_config();
}

VirtioBlk::~VirtioBlk()
{
    m_backend->cancel(); // completions use this object
}

void VirtioBlk::fill_config()
{
    auto const put = [this](VirtioBlkConfig field, unsigned width, u64 value) {
        for (unsigned i = 0; i < width; ++i)
            m_config[static_cast<std::size_t>(field) + i] = static_cast<u8>(value >> (8 * i));
    };
    u64 const sectors = m_backend->size() / virtio_blk_sector;
    u32 const logical = m_backend->logical_sector();
    u32 const per_physical = m_backend->physical_sector() / logical;
    put(VirtioBlkConfig::capacity, 8, sectors);
    put(VirtioBlkConfig::segments_max, 4, queue_size - 2);
    // The translation that BIOSes use for disks without one of their own.
    put(VirtioBlkConfig::cylinders, 2, std::min<u64>(sectors / (255 * 63), 0xffff));
    put(VirtioBlkConfig::heads, 1, 255);
    put(VirtioBlkConfig::sectors, 1, 63);
    put(VirtioBlkConfig::block_size, 4, logical);
    put(VirtioBlkConfig::physical_block_exponent, 1, static_cast<u64>(std::countr_zero(per_physical)));
    put(VirtioBlkConfig::minimum_io_size, 2, per_physical);
    put(VirtioBlkConfig::writeback, 1, 1);
    put(VirtioBlkConfig::discard_sectors_max, 4, largest_discard_sectors);
    put(VirtioBlkConfig::discard_segments_max, 4, largest_segments);
    put(VirtioBlkConfig::discard_sector_alignment, 4, logical / virtio_blk_sector);
    put(VirtioBlkConfig::zeroes_sectors_max, 4, largest_zeroes_sectors);
    put(VirtioBlkConfig::zeroes_segments_max, 4, largest_segments);
    put(VirtioBlkConfig::zeroes_may_unmap, 1, m_backend->can_discard());
}

u64 VirtioBlk::device_features() const
{
    u64 features = virtio_blk_segments_max | virtio_blk_geometry | virtio_blk_block_size | virtio_blk_flush | virtio_blk_topology
        | virtio_blk_config_writeback;
    if (m_backend->read_only())
        return features | virtio_blk_read_only;
    features |= virtio_blk_write_zeroes;
    return m_backend->can_discard() ? features | virtio_blk_discard : features;
}

u8 VirtioBlk::read_config_byte(u64 offset) const
{
    if (offset == static_cast<u64>(VirtioBlkConfig::writeback))
        return m_writeback;
    return m_config[offset];
}

void VirtioBlk::write_config(u64 offset, unsigned width, u64 value)
{
    if (offset == static_cast<u64>(VirtioBlkConfig::writeback) && width == 1 && (features() & virtio_blk_config_writeback))
        m_writeback = value & 1;
}

// 5.2.5.2: a driver that knows neither flush nor the mode register expects write-through.
void VirtioBlk::features_accepted(u64 features)
{
    m_writeback = features & (virtio_blk_flush | virtio_blk_config_writeback);
}

BlockRequest::Durability VirtioBlk::durability() const
{
    return m_writeback ? BlockRequest::Durability::cached : BlockRequest::Durability::durable;
}

void VirtioBlk::device_was_reset()
{
    for (auto& slot : m_slots)
        slot.in_use = false;
    m_in_flight = 0;
    m_writeback = true;
}

void VirtioBlk::queue_notified(unsigned)
{
    serve_queue();
}

void VirtioBlk::serve_queue()
{
    // Requests that fail at once do not fill the slots, so a guest could keep this thread here for ever.
    for (unsigned left = 2 * queue_size; m_in_flight < queue_size; --left) {
        if (left == 0) {
            serve_later();
            break;
        }
        auto const popped = queue(0).pop(m_chain);
        if (popped == Virtqueue::Pop::broken)
            queue_broke(0);
        if (popped != Virtqueue::Pop::chain)
            break;
        auto const slot = std::find_if(m_slots.begin(), m_slots.end(), [](Slot const& each) { return !each.in_use; });
        start(*slot);
    }
    signal_queue(0);
}

// An empty read, whose completion serves the queue again on a worker.
void VirtioBlk::serve_later()
{
    BlockRequest request;
    request.operation = BlockRequest::Operation::read;
    request.completed = [this](int) {
        std::lock_guard lock(m_mutex);
        if (is_live())
            serve_queue();
    };
    m_backend->submit(std::move(request));
}

void VirtioBlk::submit(Slot& slot, BlockRequest request)
{
    ++slot.parts;
    request.completed = [this, &slot](int error) {
        std::lock_guard lock(m_mutex);
        part_completed(slot, error);
        if (is_live())
            serve_queue(); // there may be more than there were slots
    };
    m_backend->submit(std::move(request));
}

void VirtioBlk::part_completed(Slot& slot, int error)
{
    if (error != 0) {
        slot.error = virtio_blk_io_error;
        log::guest(s_guest_messages, "{}: {}: {}", name(), m_backend->path(), std::strerror(error));
    }
    if (--slot.parts == 0)
        finish(slot, slot.error);
}

void VirtioBlk::finish(Slot& slot, u8 status)
{
    m_counters.errors += status != virtio_blk_ok;
    for (auto const& piece : slot.written)
        memory().written(piece.address, piece.length);
    u32 written = 0;
    if (slot.status.length != 0) {
        slot.status.memory[slot.status.length - 1] = status;
        memory().written(slot.status.address + (slot.status.length - 1), 1);
        written = (status == virtio_blk_ok ? slot.data_bytes : 0) + 1;
    }
    queue(0).push(slot.head, written);
    slot.in_use = false;
    --m_in_flight;
}

std::vector<Statistic> VirtioBlk::statistics() const
{
    std::lock_guard lock(m_mutex);
    return {
        { "read requests", m_counters.reads },
        { "write requests", m_counters.writes },
        { "flush requests", m_counters.flushes },
        { "discard requests", m_counters.discards },
        { "write zeroes requests", m_counters.zeroes },
        { "bytes read", m_counters.bytes_read },
        { "bytes written", m_counters.bytes_written },
        { "requests that failed", m_counters.errors },
    };
}

void VirtioBlk::save_model(Encoder& encoder) const
{
    encoder.put_bool(m_writeback);
    encoder.put_u64(m_backend->size());
}

Result<void> VirtioBlk::restore_model(Decoder& decoder)
{
    m_writeback = decoder.get_bool();
    u64 const size = decoder.get_u64();
    if (decoder.ok() && size != m_backend->size())
        return make_error(EINVAL, "{} has {} bytes now, and had {} when it was saved", m_backend->path(), m_backend->size(), size);
    return {};
}

} // namespace anyhyve
