// The virtio PCI transport: both register layouts, status, interrupts.
#include "device/virtio/virtio_pci.hpp"

#include <bit>

#include "base/log.hpp"

namespace anyhyve {

namespace {

constexpr unsigned legacy_bar = 0;
constexpr unsigned msix_bar = 1;
constexpr unsigned modern_bar = 4;

// Places of the structures in the modern BAR.
constexpr u64 common_place = 0x0000;
constexpr u64 isr_place = 0x1000;
constexpr u64 device_place = 0x2000;
constexpr u64 notify_place = 0x3000;
constexpr u64 structure_size = 0x1000;
constexpr u64 modern_bar_size = 0x4000;
constexpr u64 notify_multiplier = 4;

// struct virtio_pci_cap (4.1.4).
enum CapabilityField : u16 {
    capability_length = 2,
    capability_type = 3,
    capability_bar = 4,
    capability_offset = 8,
    capability_size = 12,
    capability_extra = 16, // notify: multiplier; configuration access: data
    capability_bytes = 16,
    capability_bytes_extra = 20,
};

log::RateLimit s_guest_messages;

} // namespace

VirtioPci::VirtioPci(VirtioWires wires, PciAddress address, VirtioModel const& model)
    : PciFunction(wires.pci, address, model.name,
        PciIdentity { .vendor = virtio_pci_vendor,
            .device = model.transitional_device,
            .class_code = model.class_code,
            .subsystem_vendor = virtio_pci_vendor,
            .subsystem = static_cast<u16>(model.type) })
    , m_memory(wires.memory)
    , m_config_size(model.config_size)
{
    for (u16 const size : model.queue_sizes)
        m_queues.push_back({ Virtqueue(wires.memory, size), virtio_no_vector });
    add_bar(legacy_bar, BarKind::ports, std::bit_ceil(virtio_legacy_config_with_msix + m_config_size));
    add_intx();
    if (wires.interrupts == VirtioWires::Interrupts::msix)
        add_msix(msix_bar, static_cast<unsigned>(m_queues.size() + 1));
    else
        add_msi(1);
    add_bar(modern_bar, BarKind::memory32, modern_bar_size);
    add_structures(model.config_size);
}

void VirtioPci::add_structures(u64 config_size)
{
    add_structure(VirtioStructure::common, common_place, static_cast<u32>(VirtioCommon::end));
    add_structure(VirtioStructure::isr, isr_place, 1);
    if (config_size != 0)
        add_structure(VirtioStructure::device, device_place, static_cast<u32>(config_size));
    add_structure(VirtioStructure::notify, notify_place, static_cast<u32>(notify_multiplier * m_queues.size()));
    add_structure(VirtioStructure::config_access, 0, 0);
}

void VirtioPci::add_structure(VirtioStructure type, u32 offset, u32 length)
{
    bool const extra = type == VirtioStructure::notify || type == VirtioStructure::config_access;
    unsigned const size = extra ? capability_bytes_extra : capability_bytes;
    u16 const at = add_capability(PciCapabilityId::vendor_specific, size);
    config().set(at + capability_length, 1, size);
    config().set(at + capability_type, 1, static_cast<u8>(type));
    config().set(at + capability_bar, 1, type == VirtioStructure::config_access ? 0 : modern_bar);
    config().set(at + capability_offset, 4, offset);
    config().set(at + capability_size, 4, length);
    if (type == VirtioStructure::notify)
        config().set(at + capability_extra, 4, notify_multiplier);
    if (type == VirtioStructure::config_access) {
        m_config_access = at;
        config().set_writable(at + capability_bar, 1, 0xff);
        for (u16 const field : { capability_offset, capability_size, capability_extra })
            config().set_writable(static_cast<u16>(at + field), 4, ~u32 { 0 });
    }
}

// 4.1.4.9: configuration space as a window into the BARs, for firmware that cannot map them. Where these bytes of it lead, if they are the
// window's and it points at something.
std::optional<VirtioPci::BarRange> VirtioPci::config_access(u16 offset, unsigned width) const
{
    u16 const data = static_cast<u16>(m_config_access + capability_extra);
    if (offset + width <= data || offset >= data + 4)
        return {};
    BarRange const range { static_cast<u8>(config_value(m_config_access + capability_bar, 1)), config_value(m_config_access + capability_offset, 4),
        config_value(m_config_access + capability_size, 4) };
    u64 const size = range.bar == legacy_bar || range.bar == modern_bar ? bar_shape(range.bar).size : 0;
    u32 const length = range.length;
    bool const whole = length == 1 || length == 2 || length == 4;
    if (!whole || range.offset % length != 0 || range.offset >= size || length > size - range.offset)
        return {};
    return range;
}

void VirtioPci::config_reading(u16 offset, unsigned width)
{
    if (auto const range = config_access(offset, width))
        set_config_value(m_config_access + capability_extra, range->length, static_cast<u32>(bar_read(range->bar, range->offset, range->length)));
}

void VirtioPci::config_written(u16 offset, unsigned width)
{
    if (auto const range = config_access(offset, width))
        bar_write(range->bar, range->offset, range->length, config_value(m_config_access + capability_extra, range->length));
}

u64 VirtioPci::all_features() const
{
    return device_features() | virtio_any_layout | virtio_indirect_descriptors | virtio_event_index | virtio_version_1;
}

bool VirtioPci::is_live() const
{
    // Legacy drivers use their device before they announce DRIVER_OK (3.1.2); others may not.
    u8 const needed = m_legacy ? 0 : virtio_driver_ok;
    return !m_resetting && (m_status & needed) == needed && !(m_status & virtio_needs_reset);
}

u64 VirtioPci::bar_read(unsigned bar, u64 offset, unsigned width)
{
    Lock lock(m_mutex);
    if (bar == legacy_bar)
        return legacy_read(offset, width);
    if (bar != modern_bar)
        return mask_of_bytes(width);
    switch (align_down(offset, structure_size)) {
    case common_place:
        return common_read(offset, width);
    case isr_place:
        return offset == isr_place ? take_isr() : 0;
    case device_place:
        return read_config(offset - device_place, width);
    default:
        return 0; // notifications are written only
    }
}

void VirtioPci::bar_write(unsigned bar, u64 offset, unsigned width, u64 value)
{
    Lock lock(m_mutex);
    if (m_resetting)
        return;
    if (bar == legacy_bar) {
        legacy_write(lock, offset, width, value);
    } else if (bar == modern_bar) {
        switch (align_down(offset, structure_size)) {
        case common_place:
            common_write(lock, offset, width, value);
            break;
        case device_place:
            write_config(offset - device_place, width, value);
            break;
        case notify_place:
            notify((offset - notify_place) / notify_multiplier);
            break;
        default:
            break;
        }
    }
}

u64 VirtioPci::read_config(u64 offset, unsigned width) const
{
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i) {
        u8 const byte = offset + i < m_config_size ? read_config_byte(offset + i) : 0;
        value |= u64 { byte } << (8 * i);
    }
    return value;
}

u8 VirtioPci::take_isr()
{
    u8 const value = m_isr;
    m_isr = 0;
    set_intx(false);
    return value;
}

void VirtioPci::set_driver_features(u64 features)
{
    m_driver_features = features & all_features();
    for (auto& queue : m_queues)
        queue.ring.set_features(m_driver_features);
    features_accepted(m_driver_features);
}

void VirtioPci::write_status(Lock& lock, u8 value)
{
    if (value == 0) {
        reset_locked(lock);
        return;
    }
    u8 const kept = m_status & virtio_needs_reset;
    u8 const rising = value & static_cast<u8>(~m_status);
    if ((rising & virtio_features_ok) && !m_legacy && !(m_driver_features & virtio_version_1))
        value &= static_cast<u8>(~virtio_features_ok); // 2.2.2: the driver sees that and gives up
    m_status = static_cast<u8>((value & ~virtio_needs_reset) | kept);
    if (rising & virtio_driver_ok) {
        for (unsigned i = 0; i < m_queues.size(); ++i)
            notify(i);
    }
}

void VirtioPci::notify(u64 index)
{
    if (index >= m_queues.size() || !is_live())
        return;
    auto& ring = m_queues[index].ring;
    if (ring.enabled() && !ring.broken())
        queue_notified(static_cast<unsigned>(index));
}

void VirtioPci::interrupt(u8 isr, u16 vector)
{
    if (msix_enabled()) {
        if (vector != virtio_no_vector)
            send_msix(vector);
        return;
    }
    m_isr |= isr;
    if (msi_enabled())
        send_msi(0);
    else
        set_intx(true);
}

void VirtioPci::signal_queue(unsigned index)
{
    if (m_queues[index].ring.wants_interrupt())
        interrupt(virtio_isr_queue, m_queues[index].vector);
}

void VirtioPci::config_changed()
{
    ++m_config_generation;
    interrupt(virtio_isr_config, m_config_vector);
}

void VirtioPci::queue_broke(unsigned index)
{
    log::guest(s_guest_messages, "{}: the guest's queue {} is stopped: {}", name(), index, m_queues[index].ring.problem());
    if (m_legacy || (m_status & virtio_needs_reset))
        return; // legacy drivers do not know the bit
    m_status |= virtio_needs_reset;
    config_changed();
}

void VirtioPci::reset_locked(Lock& lock)
{
    if (m_resetting)
        return;
    m_resetting = true;
    lock.unlock();
    cancel_requests();
    lock.lock();
    for (auto& queue : m_queues) {
        queue.ring.reset();
        queue.vector = virtio_no_vector;
    }
    m_status = m_isr = 0;
    m_device_feature_select = m_driver_feature_select = 0;
    m_driver_features = 0;
    m_config_vector = virtio_no_vector;
    m_queue_select = 0;
    m_legacy = true;
    m_resetting = false;
    set_intx(false);
    device_was_reset();
}

void VirtioPci::reset_device()
{
    Lock lock(m_mutex);
    reset_locked(lock);
    m_config_generation = 0;
}

VirtioPci::Queue* VirtioPci::selected()
{
    return m_queue_select < m_queues.size() ? &m_queues[m_queue_select] : nullptr;
}

VirtioPci::Queue const* VirtioPci::selected() const
{
    return m_queue_select < m_queues.size() ? &m_queues[m_queue_select] : nullptr;
}

// 4.1.5.1.2: a vector that does not exist reads back as none.
u16 VirtioPci::valid_vector(u64 value) const
{
    return value <= m_queues.size() ? static_cast<u16>(value) : virtio_no_vector;
}

void VirtioPci::save_device(Encoder& encoder) const
{
    Lock lock(m_mutex);
    encoder.put_u8(m_status);
    encoder.put_u8(m_isr);
    encoder.put_u8(m_config_generation);
    encoder.put_u32(m_device_feature_select);
    encoder.put_u32(m_driver_feature_select);
    encoder.put_u64(m_driver_features);
    encoder.put_u16(m_config_vector);
    encoder.put_u16(m_queue_select);
    encoder.put_bool(m_legacy);
    encoder.put_u16(static_cast<u16>(m_queues.size()));
    for (auto const& queue : m_queues) {
        encoder.put_u16(queue.vector);
        queue.ring.save(encoder);
    }
    save_model(encoder);
}

Result<void> VirtioPci::restore_device(Decoder& decoder)
{
    Lock lock(m_mutex);
    m_status = decoder.get_u8();
    m_isr = decoder.get_u8() & (virtio_isr_queue | virtio_isr_config);
    m_config_generation = decoder.get_u8();
    m_device_feature_select = decoder.get_u32();
    m_driver_feature_select = decoder.get_u32();
    set_driver_features(decoder.get_u64());
    m_config_vector = valid_vector(decoder.get_u16());
    m_queue_select = decoder.get_u16();
    m_legacy = decoder.get_bool();
    if (decoder.get_u16() != m_queues.size())
        return make_error(EINVAL, "the saved device has another number of queues");
    for (auto& queue : m_queues) {
        queue.vector = valid_vector(decoder.get_u16());
        TRY(queue.ring.restore(decoder));
    }
    return restore_model(decoder);
}

} // namespace anyhyve
