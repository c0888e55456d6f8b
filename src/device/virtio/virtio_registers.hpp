// Numbers of the virtio specification: features, status bits, PCI register layouts.
// Spec: OASIS virtio 1.2, chapters 2, 4.1 and 5; "legacy" parts as its Legacy Interface sections.
#pragma once

#include "base/bits.hpp"

namespace anyhyve {

// Device types (5).
enum class VirtioType : u16 {
    network = 1,
    block = 2,
    entropy = 4,
};

// Features of every device (6).
constexpr u64 virtio_any_layout = bit(27);
constexpr u64 virtio_indirect_descriptors = bit(28);
constexpr u64 virtio_event_index = bit(29);
constexpr u64 virtio_version_1 = bit(32);

// Device status (2.1).
enum VirtioStatus : u8 {
    virtio_acknowledge = 1,
    virtio_driver = 2,
    virtio_driver_ok = 4,
    virtio_features_ok = 8,
    virtio_needs_reset = 64,
    virtio_failed = 128,
};

// ISR status (4.1.4.5).
constexpr u8 virtio_isr_queue = 1;
constexpr u8 virtio_isr_config = 2;

constexpr u16 virtio_no_vector = 0xffff;
constexpr u16 virtio_pci_vendor = 0x1af4;

// Common configuration (4.1.4.3).
enum class VirtioCommon : u64 {
    device_feature_select = 0, // RW 4
    device_feature = 4,        // R 4
    driver_feature_select = 8, // RW 4
    driver_feature = 12,       // RW 4
    config_msix_vector = 16,   // RW 2
    num_queues = 18,           // R 2
    device_status = 20,        // RW 1
    config_generation = 21,    // R 1
    queue_select = 22,         // RW 2
    queue_size = 24,           // RW 2
    queue_msix_vector = 26,    // RW 2
    queue_enable = 28,         // RW 2
    queue_notify_offset = 30,  // R 2
    queue_descriptors = 32,    // RW 8
    queue_available = 40,      // RW 8
    queue_used = 48,           // RW 8
    end = 56,
};

// Legacy I/O BAR (4.1.4.10).
enum class VirtioLegacy : u64 {
    device_features = 0,    // R 4
    driver_features = 4,    // RW 4
    queue_address = 8,      // RW 4: page number
    queue_size = 12,        // R 2
    queue_select = 14,      // RW 2
    queue_notify = 16,      // W 2
    device_status = 18,     // RW 1
    isr_status = 19,        // R 1, clears
    config_msix_vector = 20,// RW 2, while MSI-X is enabled
    queue_msix_vector = 22, // RW 2, while MSI-X is enabled
};
constexpr u64 virtio_legacy_config = 20;
constexpr u64 virtio_legacy_config_with_msix = 24;
constexpr u64 virtio_legacy_page = 4096;

// Vendor-specific capabilities that place the structures in BARs (4.1.4).
enum class VirtioStructure : u8 { common = 1, notify = 2, isr = 3, device = 4, config_access = 5 };

} // namespace anyhyve
