// The virtio block device.
// Spec: virtio 1.2, 5.2. State: reads, writes, flush, identity, discard, write zeroes, writeback mode.
// Missing: several queues, secure erase, zones, lifetime.
// Durability: a flush completes after fdatasync. Without VIRTIO_BLK_F_FLUSH, or with the cache switched to write-through, every write is
// durable when it completes.
// Threads: vCPUs submit, workers of the back end complete; see VirtioPci.
#pragma once

#include <array>
#include <memory>

#include "device/pci/device_options.hpp"
#include "device/storage/block_backend.hpp"
#include "device/virtio/virtio_pci.hpp"
#include "vmm/statistics.hpp"

namespace anyhyve {

class VirtioBlk final : public VirtioPci, public StatisticsSource {
public:
    static DeviceInfo const info; // "virtio-blk": 1af4:1001

    static Result<std::unique_ptr<VirtioBlk>> create(VirtioWires, PciAddress, DeviceOptions const&);
    ~VirtioBlk() override;

    BlockBackend& backend() { return *m_backend; }
    std::string statistics_name() const override { return name(); }
    std::vector<Statistic> statistics() const override;

private:
    static constexpr u16 queue_size = 128;
    static constexpr unsigned identity_size = 20;
    static constexpr unsigned largest_segments = 16; // of one discard or write zeroes request

    // A request that the back end works on.
    struct Slot {
        bool in_use = false;
        bool reads = false;         // its data goes into guest memory
        u16 head = 0;
        u8 error = 0;               // status so far
        u32 data_bytes = 0;         // for the used ring
        unsigned parts = 0;         // back-end requests not yet completed
        Virtqueue::Piece status {}; // its last byte takes the status
        std::vector<Virtqueue::Piece> written;
    };
    struct Counters {
        u64 reads = 0, writes = 0, flushes = 0, discards = 0, zeroes = 0, errors = 0;
        u64 bytes_read = 0, bytes_written = 0;
    };
    struct Header {
        u32 type;
        u32 reserved;
        u64 sector;
    };

    VirtioBlk(VirtioWires, PciAddress, std::unique_ptr<BlockBackend>, std::string const& serial);

    u64 device_features() const override;
    void queue_notified(unsigned queue) override;
    u8 read_config_byte(u64 offset) const override;
    void write_config(u64 offset, unsigned width, u64 value) override;
    void features_accepted(u64 features) override;
    void device_was_reset() override;
    void cancel_requests() override { m_backend->cancel(); }
    void finish_requests() override { m_backend->drain(); }
    void save_model(Encoder&) const override;
    Result<void> restore_model(Decoder&) override;

    void fill_config();
    void serve_queue();
    void serve_later();
    void start(Slot&);
    u8 start_transfer(Slot&, Header const&);
    u8 start_flush(Slot&);
    u8 start_segments(Slot&, Header const&);
    u8 give_identity(Slot&);
    void submit(Slot&, BlockRequest request);
    void part_completed(Slot&, int error);
    void finish(Slot&, u8 status);
    bool inside(u64 sector, u64 bytes) const;
    BlockRequest::Durability durability() const;

    std::unique_ptr<BlockBackend> m_backend;
    std::array<u8, identity_size> m_identity {};
    std::array<u8, 60> m_config {};
    bool m_writeback = true;
    std::array<Slot, queue_size> m_slots;
    unsigned m_in_flight = 0;
    Virtqueue::Chain m_chain; // the one being taken apart
    Counters m_counters;
};

} // namespace anyhyve
