// Register accesses of the virtio PCI transport: the legacy I/O layout and the common configuration structure.
#include "device/virtio/virtio_pci.hpp"

namespace anyhyve {

u64 VirtioPci::legacy_config_start() const
{
    return msix_enabled() ? virtio_legacy_config_with_msix : virtio_legacy_config;
}

u64 VirtioPci::legacy_read(u64 offset, unsigned width)
{
    u64 const config_start = legacy_config_start();
    if (offset >= config_start)
        return read_config(offset - config_start, width);
    Queue const* const queue = selected();
    switch (static_cast<VirtioLegacy>(offset)) {
    case VirtioLegacy::device_features:
        return static_cast<u32>(all_features());
    case VirtioLegacy::driver_features:
        return static_cast<u32>(m_driver_features);
    case VirtioLegacy::queue_address:
        return queue && queue->ring.enabled() ? queue->ring.layout().descriptors / virtio_legacy_page : 0;
    case VirtioLegacy::queue_size:
        return queue ? queue->ring.largest_size() : 0;
    case VirtioLegacy::queue_select:
        return m_queue_select;
    case VirtioLegacy::queue_notify:
        return 0;
    case VirtioLegacy::device_status:
        return m_status;
    case VirtioLegacy::isr_status:
        return take_isr();
    case VirtioLegacy::config_msix_vector:
        return m_config_vector;
    case VirtioLegacy::queue_msix_vector:
        return queue ? queue->vector : virtio_no_vector;
    }
    return mask_of_bytes(width);
}

void VirtioPci::legacy_write(Lock& lock, u64 offset, unsigned width, u64 value)
{
    u64 const config_start = legacy_config_start();
    if (offset >= config_start) {
        write_config(offset - config_start, width, value);
        return;
    }
    switch (static_cast<VirtioLegacy>(offset)) {
    case VirtioLegacy::driver_features:
        set_driver_features(value & 0xffff'ffff);
        break;
    case VirtioLegacy::queue_address:
        set_legacy_queue_address(static_cast<u32>(value));
        break;
    case VirtioLegacy::queue_select:
        m_queue_select = static_cast<u16>(value);
        break;
    case VirtioLegacy::queue_notify:
        notify(value & 0xffff);
        break;
    case VirtioLegacy::device_status:
        write_status(lock, static_cast<u8>(value));
        break;
    case VirtioLegacy::config_msix_vector:
        m_config_vector = valid_vector(value & 0xffff);
        break;
    case VirtioLegacy::queue_msix_vector:
        if (auto* const queue = selected())
            queue->vector = valid_vector(value & 0xffff);
        break;
    case VirtioLegacy::device_features:
    case VirtioLegacy::queue_size:
    case VirtioLegacy::isr_status:
        break;
    }
}

// 2.7.2: one page number, from which the places of the three parts follow. Zero takes the queue away.
void VirtioPci::set_legacy_queue_address(u32 page)
{
    Queue* const queue = selected();
    if (!queue)
        return;
    queue->ring.reset();
    if (page == 0)
        return;
    u16 const size = queue->ring.largest_size();
    u64 const descriptors = u64 { page } * virtio_legacy_page;
    u64 const available = descriptors + 16U * size;
    u64 const used = align_up(available + 6 + 2U * size, virtio_legacy_page);
    queue->ring.set_layout({ size, descriptors, available, used });
    queue->ring.set_features(m_driver_features);
    if (!queue->ring.enable())
        queue_broke(m_queue_select);
}

u64 VirtioPci::common_read(u64 offset, unsigned width) const
{
    Queue const* const queue = selected();
    auto const layout = queue ? queue->ring.layout() : Virtqueue::Layout {};
    auto const half = [](u64 features, u32 select) { return select < 2 ? static_cast<u32>(features >> (32 * select)) : 0; };
    // Registers and their widths in the order they lie.
    struct Value {
        VirtioCommon reg;
        unsigned width;
        u64 value;
    };
    Value const values[] = {
        { VirtioCommon::device_feature_select, 4, m_device_feature_select },
        { VirtioCommon::device_feature, 4, half(all_features(), m_device_feature_select) },
        { VirtioCommon::driver_feature_select, 4, m_driver_feature_select },
        { VirtioCommon::driver_feature, 4, half(m_driver_features, m_driver_feature_select) },
        { VirtioCommon::config_msix_vector, 2, m_config_vector },
        { VirtioCommon::num_queues, 2, m_queues.size() },
        { VirtioCommon::device_status, 1, m_status },
        { VirtioCommon::config_generation, 1, m_config_generation },
        { VirtioCommon::queue_select, 2, m_queue_select },
        { VirtioCommon::queue_size, 2, layout.size },
        { VirtioCommon::queue_msix_vector, 2, queue ? queue->vector : virtio_no_vector },
        { VirtioCommon::queue_enable, 2, queue && queue->ring.enabled() },
        { VirtioCommon::queue_notify_offset, 2, queue ? m_queue_select : 0U },
        { VirtioCommon::queue_descriptors, 8, layout.descriptors },
        { VirtioCommon::queue_available, 8, layout.available },
        { VirtioCommon::queue_used, 8, layout.used },
    };
    u64 result = 0;
    for (auto const& [reg, size, value] : values) {
        for (unsigned i = 0; i < size; ++i) {
            u64 const at = static_cast<u64>(reg) + i;
            if (at >= offset && at < offset + width)
                result |= (value >> (8 * i) & 0xff) << (8 * (at - offset));
        }
    }
    return result;
}

void VirtioPci::common_write(Lock& lock, u64 offset, unsigned width, u64 value)
{
    // Upper halves of the 64-bit registers, which drivers may write apart (4.1.3.1).
    u64 const start = offset >= static_cast<u64>(VirtioCommon::queue_descriptors) ? align_down(offset, 8) : offset;
    auto const reg = static_cast<VirtioCommon>(start);
    switch (reg) {
    case VirtioCommon::device_feature_select:
        m_device_feature_select = static_cast<u32>(value);
        break;
    case VirtioCommon::driver_feature_select:
        m_driver_feature_select = static_cast<u32>(value);
        break;
    case VirtioCommon::driver_feature:
        if (m_driver_feature_select < 2 && !(m_status & virtio_features_ok)) {
            unsigned const shift = 32 * m_driver_feature_select;
            u64 const other = m_driver_features & ~(u64 { 0xffff'ffff } << shift);
            set_driver_features(other | (value & 0xffff'ffff) << shift);
            if (m_driver_features & virtio_version_1)
                m_legacy = false;
        }
        break;
    case VirtioCommon::config_msix_vector:
        m_config_vector = valid_vector(value & 0xffff);
        break;
    case VirtioCommon::device_status:
        if (value != 0)
            m_legacy = false;
        write_status(lock, static_cast<u8>(value));
        break;
    case VirtioCommon::queue_select:
        m_queue_select = static_cast<u16>(value);
        break;
    case VirtioCommon::queue_size:
    case VirtioCommon::queue_msix_vector:
    case VirtioCommon::queue_enable:
    case VirtioCommon::queue_descriptors:
    case VirtioCommon::queue_available:
    case VirtioCommon::queue_used:
        if (auto* const queue = selected()) {
            unsigned const shift = static_cast<unsigned>(8 * (offset - start));
            write_queue_field(*queue, reg, value << shift, mask_of_bytes(width) << shift);
        }
        break;
    default:
        break; // read-only
    }
}

// `mask` are the bits of an address that are written.
void VirtioPci::write_queue_field(Queue& queue, VirtioCommon reg, u64 value, u64 mask)
{
    if (reg == VirtioCommon::queue_msix_vector) {
        queue.vector = valid_vector(value & 0xffff);
        return;
    }
    if (queue.ring.enabled())
        return; // 4.1.4.3.2: not while it is enabled
    auto layout = queue.ring.layout();
    auto const merge = [&](u64& address) { address = (address & ~mask) | (value & mask); };
    switch (reg) {
    case VirtioCommon::queue_size:
        layout.size = static_cast<u16>(value);
        break;
    case VirtioCommon::queue_descriptors:
        merge(layout.descriptors);
        break;
    case VirtioCommon::queue_available:
        merge(layout.available);
        break;
    case VirtioCommon::queue_used:
        merge(layout.used);
        break;
    default:
        if ((value & 0xffff) == 1 && !queue.ring.enable())
            queue_broke(m_queue_select);
        return;
    }
    queue.ring.set_layout(layout);
}

} // namespace anyhyve
