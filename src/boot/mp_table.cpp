// Builds the MP table.
#include "boot/mp_table.hpp"

#include <algorithm>

#include "boot/byte_writer.hpp"

namespace anyhyve::boot {

namespace {

namespace map = memory_map;

enum Entry : u8 { processor_entry = 0, bus_entry = 1, ioapic_entry = 2, io_interrupt_entry = 3, local_interrupt_entry = 4 };
enum InterruptType : u8 { vectored = 0, nmi = 1, external = 3 };
enum ProcessorFlags : u8 { enabled = 1, bootstrap = 2 };
enum InterruptFlags : u16 { conforms = 0, level_active_low = 3 << 2 | 3 };
enum HeaderOffset : std::size_t { header_length = 4, header_checksum = 7, header_count = 34 };
constexpr u8 pci_bus = 0, isa_bus = 1;
constexpr u8 local_apic_version = 0x14, ioapic_enabled = 1;
constexpr u8 isa_interrupts = 16;
constexpr u8 all_local_apics = 0xff;
constexpr u8 revision_1_4 = 4;
constexpr u32 most_processors = 255; // local APIC ids have 8 bits here

class MpTable {
public:
    explicit MpTable(MpConfiguration const& configuration) : m_configuration(configuration) {}

    std::vector<u8> build()
    {
        put_header();
        put_processors();
        put_bus(pci_bus, "PCI   ");
        put_bus(isa_bus, "ISA   ");
        put_ioapic();
        put_isa_interrupts();
        put_pci_interrupts();
        put_interrupt(local_interrupt_entry, external, conforms, isa_bus, 0, all_local_apics, 0);
        put_interrupt(local_interrupt_entry, nmi, conforms, isa_bus, 0, all_local_apics, 1);
        m_out.patch(header_length, m_out.size(), 2);
        m_out.patch(header_count, m_count, 2);
        m_out.patch_checksum(header_checksum, 0, m_out.size());
        return m_out.take();
    }

private:
    void put_header()
    {
        m_out.text("PCMP");
        m_out.put_u16(0);
        m_out.put_u8(revision_1_4);
        m_out.put_u8(0);
        m_out.text("BHyVe   ");
        m_out.text("Hypervisor  ");
        m_out.put_u32(0); // OEM table
        m_out.put_u16(0);
        m_out.put_u16(0); // count of entries
        m_out.put_u32(map::local_apic);
        m_out.put_u16(0); // extended table
        m_out.put_u8(0);
        m_out.put_u8(0);
    }
    void put_processors()
    {
        for (u32 id = 0; id < m_configuration.vcpus; ++id) {
            begin(processor_entry);
            m_out.put_u8(id);
            m_out.put_u8(local_apic_version);
            m_out.put_u8(enabled | (id == 0 ? u8 { bootstrap } : 0));
            m_out.put_u32(m_configuration.cpu_signature);
            m_out.put_u32(m_configuration.cpu_features);
            m_out.zeros(8);
        }
    }
    void put_bus(u8 id, std::string_view type)
    {
        begin(bus_entry);
        m_out.put_u8(id);
        m_out.text(type);
    }
    void put_ioapic()
    {
        begin(ioapic_entry);
        m_out.put_u8(board::ioapic_id);
        m_out.put_u8(board::ioapic_version);
        m_out.put_u8(ioapic_enabled);
        m_out.put_u32(map::ioapic);
    }
    // 0 is on pin 2, which the cascade leaves free; 9 is the SCI; the others are one to one.
    void put_isa_interrupts()
    {
        put_interrupt(io_interrupt_entry, external, conforms, isa_bus, 0, board::ioapic_id, 0);
        for (u8 irq = 0; irq < isa_interrupts; ++irq) {
            if (irq == board::pic_cascade_irq)
                continue;
            put_interrupt(io_interrupt_entry, vectored, irq == board::sci_irq ? level_active_low : conforms, isa_bus, irq, board::ioapic_id,
                irq == board::pit_irq ? board::pit_ioapic_pin : irq);
        }
    }
    void put_pci_interrupts()
    {
        for (auto const& route : m_configuration.routes) {
            if (route.bus == pci_bus)
                put_interrupt(io_interrupt_entry, vectored, level_active_low, pci_bus, static_cast<u8>(route.slot << 2 | (route.pin - 1)), board::ioapic_id,
                    route.ioapic_pin);
        }
    }
    void put_interrupt(Entry kind, InterruptType type, u16 flags, u8 bus, u8 source, u8 apic, u8 pin)
    {
        begin(kind);
        m_out.put_u8(type);
        m_out.put_u16(flags);
        m_out.put_u8(bus);
        m_out.put_u8(source);
        m_out.put_u8(apic);
        m_out.put_u8(pin);
    }
    void begin(Entry kind)
    {
        m_out.put_u8(kind);
        ++m_count;
    }

    MpConfiguration const& m_configuration;
    ByteWriter m_out;
    u16 m_count = 0;
};

} // namespace

Result<std::vector<u8>> build_mp_table(MpConfiguration const& configuration)
{
    constexpr std::size_t pointer_size = 16, room = map::smbios_table - map::mp_table;
    constexpr std::size_t pointer_checksum = 10;
    if (configuration.vcpus > most_processors)
        return make_error(E2BIG, "an MP table cannot describe {} processors; use -Y to go without", configuration.vcpus);

    ByteWriter out;
    out.text("_MP_");
    out.put_u32(map::mp_table + pointer_size);
    out.put_u8(1); // length in paragraphs
    out.put_u8(revision_1_4);
    out.put_u8(0);
    out.zeros(5); // a table follows; no PIC mode
    out.patch_checksum(pointer_checksum, 0, pointer_size);
    out.bytes(MpTable(configuration).build());
    if (out.size() > room)
        return make_error(E2BIG, "the MP table of {} processors does not fit into {} bytes; use -Y to go without", configuration.vcpus, room);
    return out.take();
}

} // namespace anyhyve::boot
