// Configuration accesses, BAR mapping, saving and reset of a PCI function.
#include "device/pci/pci_function.hpp"

#include <bit>

#include "base/assert.hpp"
#include "base/bits.hpp"

namespace anyhyve {

namespace {

constexpr u16 bar_offset(unsigned bar)
{
    return static_cast<u16>(offset_of(PciRegister::base_address_0) + 4 * bar);
}

constexpr u16 writable_command_bits = pci_command_io | pci_command_memory | pci_command_bus_master | pci_command_parity
    | pci_command_serr | pci_command_interrupt_disable;

// Low bits of a BAR (PCI Local Bus 3.0, 6.2.5.1).
constexpr u32 bar_is_ports = 1;
constexpr u32 bar_is_64_bit = 4;

} // namespace

PciFunction::PciFunction(PciWires wires, PciAddress address, std::string model, PciIdentity const& identity)
    : m_wires(wires)
    , m_address(address)
    , m_name(fmt::format("{}@{}", model, address.text()))
    , m_config(identity.kind == PciIdentity::Kind::express ? pci_express_config_size : pci_config_size)
{
    auto const set = [this](PciRegister reg, unsigned width, u32 value) { m_config.set(offset_of(reg), width, value); };
    set(PciRegister::vendor_id, 2, identity.vendor);
    set(PciRegister::device_id, 2, identity.device);
    set(PciRegister::revision_id, 1, identity.revision);
    set(PciRegister::class_code, 3, identity.class_code);
    set(PciRegister::subsystem_vendor_id, 2, identity.subsystem_vendor);
    set(PciRegister::subsystem_id, 2, identity.subsystem);
    set(PciRegister::interrupt_line, 1, 0xff); // no line (6.2.4)
    m_config.set_writable(offset_of(PciRegister::command), 2, writable_command_bits);
    m_config.set_clearable(offset_of(PciRegister::status), 2, pci_status_errors);
    m_config.set_writable(offset_of(PciRegister::cache_line_size), 1, 0xff);
    m_config.set_writable(offset_of(PciRegister::latency_timer), 1, 0xff);
    m_config.set_writable(offset_of(PciRegister::interrupt_line), 1, 0xff);
    for (unsigned i = 0; i < pci_bar_count; ++i) {
        m_bars[i].window.m_function = this;
        m_bars[i].window.m_bar = i;
    }
}

PciFunction::~PciFunction()
{
    for (auto& bar : m_bars)
        m_wires.bars.withdraw(bar.window);
    m_intx.lower();
}

u32 PciFunction::config_read(u16 offset, unsigned width)
{
    config_reading(offset, width);
    std::lock_guard lock(m_config_mutex);
    return m_config.read(offset, width);
}

void PciFunction::config_write(u16 offset, unsigned width, u32 value)
{
    {
        std::lock_guard lock(m_config_mutex);
        m_config.write(offset, width, value);
        u16 const end = static_cast<u16>(offset + width);
        auto const touches = [&](u16 begin, unsigned size) { return offset < begin + size && end > begin; };
        bool const command_written = touches(offset_of(PciRegister::command), 2);
        for (unsigned i = 0; i < pci_bar_count; ++i) {
            unsigned const size = m_bars[i].shape.kind == BarKind::memory64 ? 8 : 4;
            if (command_written || touches(bar_offset(i), size))
                update_bar_locked(i);
        }
        if (command_written || (m_msi && touches(m_msi, 4)) || (m_msix && touches(m_msix, 4)))
            update_interrupts_locked();
    }
    config_written(offset, width);
}

u32 PciFunction::config_value(u16 offset, unsigned width) const
{
    std::lock_guard lock(m_config_mutex);
    return m_config.get(offset, width);
}

void PciFunction::set_config_value(u16 offset, unsigned width, u32 value)
{
    std::lock_guard lock(m_config_mutex);
    m_config.set(offset, width, value);
}

void PciFunction::add_bar(unsigned bar, BarKind kind, u64 size)
{
    ASSERT(bar < pci_bar_count && m_bars[bar].shape.kind == BarKind::none, "a BAR is added twice");
    ASSERT(std::has_single_bit(size) && size >= (kind == BarKind::ports ? 4U : 16U), "a BAR's size is a power of two");
    m_bars[bar].shape = { kind, size };
    u64 const mask = ~(size - 1);
    m_config.set_writable(bar_offset(bar), 4, static_cast<u32>(mask));
    if (kind == BarKind::ports) {
        ASSERT(size <= 256, "a function may ask for at most 256 ports in one BAR");
        m_config.set(bar_offset(bar), 4, bar_is_ports);
    }
    if (kind == BarKind::memory64) {
        ASSERT(bar + 1 < pci_bar_count && m_bars[bar + 1].shape.kind == BarKind::none, "a 64-bit BAR needs the next one too");
        m_config.set(bar_offset(bar), 4, bar_is_64_bit);
        m_config.set_writable(bar_offset(bar + 1), 4, static_cast<u32>(mask >> 32));
        m_bars[bar + 1].shape = { BarKind::upper_half, 0 };
    }
}

u64 PciFunction::bar_address_locked(unsigned bar) const
{
    auto const& shape = m_bars[bar].shape;
    u64 address = m_config.get(bar_offset(bar), 4);
    if (shape.kind == BarKind::memory64)
        address |= u64 { m_config.get(bar_offset(bar + 1), 4) } << 32;
    return shape.size ? address & ~(shape.size - 1) : 0;
}

u64 PciFunction::bar_address(unsigned bar) const
{
    std::lock_guard lock(m_config_mutex);
    return bar_address_locked(bar);
}

bool PciFunction::bar_is_mapped(unsigned bar) const
{
    return m_wires.bars.is_mapped(m_bars[bar].window);
}

void PciFunction::set_bar_address(unsigned bar, u64 address)
{
    std::lock_guard lock(m_config_mutex);
    auto const& shape = m_bars[bar].shape;
    ASSERT(shape.size && is_aligned(address, shape.size), "a BAR lies at a multiple of its size");
    u32 const kind_bits = m_config.get(bar_offset(bar), 4) & static_cast<u32>(shape.size - 1) & 0xf;
    m_config.set(bar_offset(bar), 4, static_cast<u32>(address) | kind_bits);
    if (shape.kind == BarKind::memory64)
        m_config.set(bar_offset(bar + 1), 4, static_cast<u32>(address >> 32));
    update_bar_locked(bar);
}

void PciFunction::set_command(u16 command)
{
    std::lock_guard lock(m_config_mutex);
    m_config.set(offset_of(PciRegister::command), 2, command & writable_command_bits);
    update_all_locked();
}

void PciFunction::update_bar_locked(unsigned bar)
{
    auto& [shape, window] = m_bars[bar];
    if (shape.kind == BarKind::none || shape.kind == BarKind::upper_half)
        return;
    bool const ports = shape.kind == BarKind::ports;
    u32 const command = m_config.get(offset_of(PciRegister::command), 2);
    u64 const address = bar_address_locked(bar);
    u64 const limit = ports ? 0x10000 : shape.kind == BarKind::memory32 ? 4 * GiB : bit(52);
    bool const decodes = command & (ports ? pci_command_io : pci_command_memory);
    // Address 0 is "not assigned"; addresses outside of what the CPU can reach answer to nobody.
    if (!decodes || address == 0 || address >= limit || shape.size > limit - address) {
        m_wires.bars.withdraw(window);
        return;
    }
    m_wires.bars.place(ports ? BarMapper::Space::ports : BarMapper::Space::memory, address, shape.size, window,
        fmt::format("{} BAR {}", m_name, bar));
}

void PciFunction::update_all_locked()
{
    for (unsigned i = 0; i < pci_bar_count; ++i)
        update_bar_locked(i);
    update_interrupts_locked();
}

u64 PciFunction::window_read(unsigned bar, u64 offset, unsigned width)
{
    if (m_msix_table && bar == m_msix_bar) {
        std::lock_guard lock(m_config_mutex);
        return m_msix_table->read(offset, width);
    }
    return bar_read(bar, offset, width) & mask_of_bytes(width);
}

void PciFunction::window_write(unsigned bar, u64 offset, unsigned width, u64 value)
{
    if (m_msix_table && bar == m_msix_bar) {
        std::lock_guard lock(m_config_mutex);
        m_msix_table->write(offset, width, value);
        return;
    }
    bar_write(bar, offset, width, value & mask_of_bytes(width));
}

u64 PciFunction::bar_read(unsigned, u64, unsigned width)
{
    return mask_of_bytes(width);
}

void PciFunction::bar_write(unsigned, u64, unsigned, u64)
{
}

void PciFunction::set_multifunction()
{
    std::lock_guard lock(m_config_mutex);
    u16 const offset = offset_of(PciRegister::header_type);
    m_config.set(offset, 1, m_config.get(offset, 1) | 0x80);
}

void PciFunction::capture_power_on_state()
{
    std::lock_guard lock(m_config_mutex);
    m_power_on = m_config;
}

void PciFunction::save(Encoder& encoder) const
{
    {
        std::lock_guard lock(m_config_mutex);
        encoder.put_bytes(m_config.bytes());
        encoder.put_bool(m_intx_asserted);
        if (m_msix_table)
            m_msix_table->save(encoder);
    }
    save_device(encoder);
}

Result<void> PciFunction::restore_config(Decoder& decoder)
{
    std::lock_guard lock(m_config_mutex);
    auto const bytes = decoder.get_vector(pci_express_config_size);
    if (!decoder.ok() || !m_config.restore(bytes, m_power_on ? *m_power_on : m_config))
        return make_error(EINVAL, "the saved configuration space belongs to another device");
    m_intx_asserted = decoder.get_bool() && m_wants_intx;
    if (m_msix_table)
        TRY(m_msix_table->restore(decoder));
    return {};
}

Result<void> PciFunction::restore(Decoder& decoder, u32 version)
{
    reset();
    auto const restored = [&]() -> Result<void> {
        if (version != state_version())
            return make_error(EINVAL, "saved in version {} of its state, this program knows {}", version, state_version());
        TRY(restore_config(decoder));
        TRY(restore_device(decoder));
        if (!decoder.ok() || !decoder.at_end())
            return make_error(EINVAL, "the saved state has the wrong length");
        return {};
    }();
    if (!restored.ok()) {
        reset();
        return make_error(restored.error().code(), "{}: {}", m_name, restored.error().message());
    }
    {
        std::lock_guard lock(m_config_mutex);
        update_all_locked();
    }
    config_restored();
    return {};
}

void PciFunction::reset()
{
    reset_device();
    {
        std::lock_guard lock(m_config_mutex);
        if (m_power_on)
            m_config = *m_power_on;
        m_intx_asserted = false;
        if (m_msix_table)
            m_msix_table->reset();
        update_all_locked();
    }
    config_restored();
}

} // namespace anyhyve
