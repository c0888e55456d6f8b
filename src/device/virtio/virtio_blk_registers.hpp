// Numbers of the virtio block device (virtio 1.2, 5.2).
#pragma once

#include "base/bits.hpp"

namespace anyhyve {

// Features (5.2.3).
constexpr u64 virtio_blk_segments_max = bit(2);
constexpr u64 virtio_blk_geometry = bit(4);
constexpr u64 virtio_blk_read_only = bit(5);
constexpr u64 virtio_blk_block_size = bit(6);
constexpr u64 virtio_blk_flush = bit(9);
constexpr u64 virtio_blk_topology = bit(10);
constexpr u64 virtio_blk_config_writeback = bit(11);
constexpr u64 virtio_blk_discard = bit(13);
constexpr u64 virtio_blk_write_zeroes = bit(14);

// Device configuration (5.2.4).
enum class VirtioBlkConfig : u64 {
    capacity = 0,                 // 8, in units of 512 bytes whatever the block size
    size_max = 8,                 // 4
    segments_max = 12,            // 4
    cylinders = 16,               // 2
    heads = 18,                   // 1
    sectors = 19,                 // 1
    block_size = 20,              // 4
    physical_block_exponent = 24, // 1
    alignment_offset = 25,        // 1
    minimum_io_size = 26,         // 2
    optimal_io_size = 28,         // 4
    writeback = 32,               // 1, W
    queues = 34,                  // 2
    discard_sectors_max = 36,     // 4
    discard_segments_max = 40,    // 4
    discard_sector_alignment = 44,// 4
    zeroes_sectors_max = 48,      // 4
    zeroes_segments_max = 52,     // 4
    zeroes_may_unmap = 56,        // 1
};

// Request types and status (5.2.6).
enum class VirtioBlkRequest : u32 {
    in = 0,
    out = 1,
    flush = 4,
    get_id = 8,
    discard = 11,
    write_zeroes = 13,
};
constexpr u8 virtio_blk_ok = 0;
constexpr u8 virtio_blk_io_error = 1;
constexpr u8 virtio_blk_unsupported = 2;

constexpr u32 virtio_blk_sector = 512;
constexpr u32 virtio_blk_unmap = 1; // flag of a write zeroes segment

// Limits of one segment: what a worker does in a second or so.
constexpr u32 largest_discard_sectors = 4 * 1024 * 1024;
constexpr u32 largest_zeroes_sectors = 256 * 1024;

} // namespace anyhyve
