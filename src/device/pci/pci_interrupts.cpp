// Capabilities and interrupts of a PCI function: INTx, MSI, MSI-X, and which of them the guest lets through.
#include <bit>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "device/pci/pci_function.hpp"

namespace anyhyve {

namespace {

// MSI capability with 64-bit address (PCI Local Bus 3.0, 6.8.1).
enum MsiField : u16 {
    msi_control = 2,      // W 2
    msi_address_low = 4,  // W 4
    msi_address_high = 8, // W 4
    msi_data = 12,        // W 2
    msi_size = 14,
};
constexpr u32 msi_enable = 1 << 0;
constexpr u32 msi_64_bit = 1 << 7;

// MSI-X capability (6.8.2.3).
enum MsixField : u16 {
    msix_control = 2,        // W 2
    msix_table_place = 4,    // R 4: offset, BAR in bits 2..0
    msix_pending_place = 8,  // R 4
    msix_size = 12,
};
constexpr u32 msix_function_mask = 1 << 14;
constexpr u32 msix_enable = 1 << 15;

// PCI Express capability, version 1 (PCI Express Base 1.1, 7.8).
enum ExpressField : u16 {
    express_capabilities = 2,      // R 2: version in 3..0, type in 7..4
    express_device_control = 8,    // W 2
    express_device_status = 10,    // C 2
    express_link_capabilities = 12,// R 4: speed in 3..0, width in 9..4
    express_link_control = 16,     // W 2
    express_link_status = 18,      // R 2
    express_root_control = 28,     // W 2
    express_root_size = 36,
    express_endpoint_size = 20,
};

} // namespace

u16 PciFunction::add_capability(PciCapabilityId id, unsigned size)
{
    u16 const offset = m_next_capability;
    ASSERT(offset + size <= pci_config_size, "the capabilities do not fit into the configuration space");
    m_next_capability = static_cast<u16>(align_up(offset + size, 4));
    m_config.set(m_last_capability_link, 1, offset);
    m_last_capability_link = static_cast<u16>(offset + 1);
    m_config.set(offset, 1, static_cast<u8>(id));
    u16 const status = offset_of(PciRegister::status);
    m_config.set(status, 2, m_config.get(status, 2) | pci_status_capabilities);
    return offset;
}

void PciFunction::add_msi(unsigned vectors)
{
    ASSERT(std::has_single_bit(vectors) && vectors <= 32, "MSI has 1, 2, 4, 8, 16 or 32 vectors");
    u16 const at = m_msi = add_capability(PciCapabilityId::msi, msi_size);
    u32 const capable = static_cast<u32>(std::countr_zero(vectors));
    m_config.set(at + msi_control, 2, capable << 1 | msi_64_bit);
    m_config.set_writable(at + msi_control, 2, msi_enable | 7 << 4);
    m_config.set_writable(at + msi_address_low, 4, ~u32 { 3 });
    m_config.set_writable(at + msi_address_high, 4, ~u32 { 0 });
    m_config.set_writable(at + msi_data, 2, 0xffff);
}

void PciFunction::add_msix(unsigned bar, unsigned vectors)
{
    m_msix_table.emplace(m_wires.messages, vectors);
    m_msix_bar = bar;
    add_bar(bar, BarKind::memory32, m_msix_table->bar_size());
    u16 const at = m_msix = add_capability(PciCapabilityId::msix, msix_size);
    m_config.set(at + msix_control, 2, vectors - 1);
    m_config.set_writable(at + msix_control, 2, msix_function_mask | msix_enable);
    m_config.set(at + msix_table_place, 4, m_msix_table->table_offset() | bar);
    m_config.set(at + msix_pending_place, 4, m_msix_table->pending_offset() | bar);
}

void PciFunction::add_express(ExpressType type)
{
    ASSERT(m_config.size() == pci_express_config_size, "only an express function has the express capability");
    bool const root = type == ExpressType::root_port;
    u16 const at = add_capability(PciCapabilityId::express, root ? express_root_size : express_endpoint_size);
    m_config.set(at + express_capabilities, 2, 1 | u32 { static_cast<u8>(type) } << 4);
    m_config.set_writable(at + express_device_control, 2, 0x7fff);
    m_config.set_clearable(at + express_device_status, 2, 0x000f);
    if (type == ExpressType::integrated_endpoint)
        return; // has no link
    u32 const first_generation_x1 = 1 | 1 << 4;
    m_config.set(at + express_link_capabilities, 4, first_generation_x1);
    m_config.set(at + express_link_status, 2, first_generation_x1);
    m_config.set_writable(at + express_link_control, 2, 0x00c3);
    if (root)
        m_config.set_writable(at + express_root_control, 2, 0x000f);
}

void PciFunction::connect_intx(u8 pin, IrqLine line)
{
    std::lock_guard lock(m_config_mutex);
    m_intx = line;
    m_config.set(offset_of(PciRegister::interrupt_pin), 1, pin);
}

u8 PciFunction::intx_pin() const
{
    return static_cast<u8>(config_value(offset_of(PciRegister::interrupt_pin), 1));
}

void PciFunction::set_interrupt_line(u8 irq)
{
    set_config_value(offset_of(PciRegister::interrupt_line), 1, irq);
}

void PciFunction::update_interrupts_locked()
{
    bool const msix_on = m_msix && (m_config.get(m_msix + msix_control, 2) & msix_enable);
    bool const msi_on = m_msi && (m_config.get(m_msi + msi_control, 2) & msi_enable);
    if (m_msix_table) {
        bool const masked = m_config.get(m_msix + msix_control, 2) & msix_function_mask;
        m_msix_table->set_gate(!msix_on ? MsixTable::Gate::disabled : masked ? MsixTable::Gate::masked : MsixTable::Gate::open);
    }
    u16 const status_offset = offset_of(PciRegister::status);
    u32 const status = m_config.get(status_offset, 2) & ~u32 { pci_status_interrupt };
    m_config.set(status_offset, 2, status | (m_intx_asserted ? u32 { pci_status_interrupt } : 0));
    bool const disabled = m_config.get(offset_of(PciRegister::command), 2) & pci_command_interrupt_disable;
    m_intx.set(m_intx_asserted && !disabled && !msix_on && !msi_on);
}

bool PciFunction::msix_enabled() const
{
    return m_msix && (config_value(m_msix + msix_control, 2) & msix_enable);
}

bool PciFunction::msi_enabled() const
{
    return m_msi && (config_value(m_msi + msi_control, 2) & msi_enable);
}

void PciFunction::set_intx(bool asserted)
{
    std::lock_guard lock(m_config_mutex);
    if (asserted == m_intx_asserted)
        return;
    m_intx_asserted = asserted;
    update_interrupts_locked();
}

void PciFunction::send_msi(unsigned vector)
{
    std::lock_guard lock(m_config_mutex);
    u32 const control = m_msi ? m_config.get(m_msi + msi_control, 2) : 0;
    if (!(control & msi_enable))
        return;
    // 6.8.1.3: the guest may allow fewer messages than there are; the rest share the last. More than offered is reserved.
    u32 const capable = static_cast<u32>(bits(control, 3, 1));
    u32 const allowed = static_cast<u32>(bits(control, 6, 4));
    u32 const count = u32 { 1 } << (allowed < capable ? allowed : capable);
    u32 const data = m_config.get(m_msi + msi_data, 2);
    u64 const address = m_config.get(m_msi + msi_address_low, 4) | u64 { m_config.get(m_msi + msi_address_high, 4) } << 32;
    m_wires.messages.send_msi(address, (data & ~(count - 1)) | (vector < count ? vector : count - 1));
}

void PciFunction::send_msix(unsigned vector)
{
    std::lock_guard lock(m_config_mutex);
    if (m_msix_table)
        m_msix_table->raise(vector);
}

} // namespace anyhyve
