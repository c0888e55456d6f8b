// The ACPI tables with fixed layouts, their places in memory, and the script by which firmware places them itself.
#include "boot/acpi_tables.hpp"

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "boot/acpi_header.hpp"

namespace anyhyve::boot {

namespace {

namespace map = memory_map;

// FADT (ACPI specification 5.2.9). Offsets are those that hold addresses of other tables.
enum FadtOffset : std::size_t { fadt_firmware_control = 36, fadt_dsdt = 40, fadt_x_firmware_control = 132, fadt_x_dsdt = 140 };
enum FadtFlags : u32 {
    fadt_wbinvd = 1 << 0, fadt_c1_supported = 1 << 2, fadt_no_sleep_button = 1 << 5, fadt_no_rtc_alarm = 1 << 6, fadt_timer_32_bits = 1 << 8,
    fadt_reset_register = 1 << 10, fadt_headless = 1 << 12, fadt_apic_physical = 1 << 19
};
enum FadtBootFlags : u16 { boot_legacy_devices = 1 << 0, boot_8042 = 1 << 1, boot_no_vga = 1 << 2, boot_no_aspm = 1 << 4 };
constexpr u8 fadt_revision = 5;
constexpr std::size_t fadt_length = 268;
enum class AddressSpace : u8 { memory = 0, io = 1 };

// Generic Address Structure (5.2.3.2); a width of 0 bits is an absent register.
void put_address(ByteWriter& out, AddressSpace space, unsigned width_bits, u8 access_size, u64 address)
{
    out.put_u8(static_cast<u8>(space));
    out.put_u8(width_bits);
    out.put_u8(0);
    out.put_u8(access_size);
    out.put_u64(address);
}

void put_fixed_registers(ByteWriter& out)
{
    out.put_u32(ports::pm1_event);
    out.put_u32(0); // PM1b event
    out.put_u32(ports::pm1_control);
    out.put_u32(0); // PM1b control
    out.put_u32(0); // PM2 control
    out.put_u32(ports::pm_timer);
    out.put_u32(0); // GPE0
    out.put_u32(0); // GPE1
    out.put_u8(ports::pm1_event_size);
    out.put_u8(ports::pm1_control_size);
    out.put_u8(0);
    out.put_u8(ports::pm_timer_size);
    out.put_u8(0);
    out.put_u8(0);
    out.put_u8(0); // base of GPE1
    out.put_u8(0); // _CST
}

std::vector<u8> build_fadt(AcpiConfiguration const& configuration)
{
    u16 const no_c2 = 101, no_c3 = 1001; // latencies that say "not supported"
    u16 const boot_flags = static_cast<u16>((configuration.has_lpc_bridge ? u16 { boot_legacy_devices } : 0)
        | (configuration.has_keyboard_controller ? u16 { boot_8042 } : 0) | (configuration.has_vga ? 0 : u16 { boot_no_vga }) | u16 { boot_no_aspm });
    u32 const flags = u32 { fadt_wbinvd } | fadt_c1_supported | fadt_no_sleep_button | fadt_no_rtc_alarm | fadt_timer_32_bits | fadt_reset_register
        | fadt_apic_physical | (configuration.has_display ? 0 : u32 { fadt_headless });

    ByteWriter out = start_acpi_table("FACP", fadt_revision, "BVFACP");
    out.put_u32(0); // FACS
    out.put_u32(0); // DSDT
    out.put_u8(1);  // interrupt model of ACPI 1.0
    out.put_u8(0);  // profile: unspecified
    out.put_u16(board::sci_irq);
    out.put_u32(ports::smi_command);
    out.put_u8(board::smi_acpi_enable);
    out.put_u8(board::smi_acpi_disable);
    out.put_u8(0); // S4BIOS
    out.put_u8(0); // P-state control
    put_fixed_registers(out);
    out.put_u16(no_c2);
    out.put_u16(no_c3);
    out.put_u16(0); // cache flush size and stride: WBINVD works
    out.put_u16(0);
    out.put_u8(0); // duty cycle
    out.put_u8(0);
    out.put_u8(0); // RTC day and month alarms
    out.put_u8(0);
    out.put_u8(board::rtc_century_register);
    out.put_u16(boot_flags);
    out.put_u8(0);
    out.put_u32(flags);
    put_address(out, AddressSpace::io, 8, 1, ports::reset_control);
    out.put_u8(board::reset_value);
    out.put_u16(0); // ARM boot flags
    out.put_u8(1);  // minor revision
    out.put_u64(0); // FACS
    out.put_u64(0); // DSDT
    put_address(out, AddressSpace::io, 32, 2, ports::pm1_event);
    put_address(out, AddressSpace::io, 0, 0, 0);
    put_address(out, AddressSpace::io, 16, 2, ports::pm1_control);
    put_address(out, AddressSpace::io, 0, 0, 0);
    put_address(out, AddressSpace::io, 0, 0, 0);
    put_address(out, AddressSpace::io, 32, 3, ports::pm_timer);
    put_address(out, AddressSpace::io, 0, 0, 0);
    put_address(out, AddressSpace::io, 0, 0, 0);
    put_address(out, AddressSpace::io, 0, 0, 0); // sleep control
    put_address(out, AddressSpace::io, 0, 0, 0); // sleep status
    ASSERT(out.size() == fadt_length, "the FADT of revision 5 has 268 bytes");
    return finish_acpi_table(out);
}

// FACS (5.2.10): no header of the common form and no checksum.
std::vector<u8> build_facs()
{
    constexpr std::size_t length = 64;
    ByteWriter out;
    out.text("FACS");
    out.put_u32(length);
    out.zeros(24); // hardware signature, waking vectors, lock, flags
    out.put_u8(2); // version
    out.zeros(length - out.size());
    return out.take();
}

// MADT (5.2.12).
enum MadtEntry : u8 { madt_local_apic = 0, madt_ioapic = 1, madt_override = 2, madt_local_nmi = 4, madt_x2apic = 9, madt_x2apic_nmi = 10 };
enum MpsFlags : u16 { conforms = 0, level_active_low = 3 << 2 | 3, edge_active_high = 1 << 2 | 1 };
constexpr u32 first_x2apic_id = 255;

void put_processors(ByteWriter& out, u32 vcpus)
{
    for (u32 id = 0; id < vcpus; ++id) {
        if (id < first_x2apic_id) {
            out.put_u8(madt_local_apic);
            out.put_u8(8);
            out.put_u8(id); // ACPI processor uid
            out.put_u8(id); // local APIC id
            out.put_u32(1); // enabled
        } else {
            out.put_u8(madt_x2apic);
            out.put_u8(16);
            out.put_u16(0);
            out.put_u32(id);
            out.put_u32(1);
            out.put_u32(id);
        }
    }
}

void put_override(ByteWriter& out, u8 isa_irq, u32 pin, u16 flags)
{
    out.put_u8(madt_override);
    out.put_u8(10);
    out.put_u8(0); // ISA
    out.put_u8(isa_irq);
    out.put_u32(pin);
    out.put_u16(flags);
}

std::vector<u8> build_madt(AcpiConfiguration const& configuration)
{
    u8 const all_processors = 0xff, lint1 = 1;
    ByteWriter out = start_acpi_table("APIC", 5, "BVMADT");
    out.put_u32(map::local_apic);
    out.put_u32(1); // two 8259s are there too
    put_processors(out, configuration.vcpus);
    out.put_u8(madt_ioapic);
    out.put_u8(12);
    out.put_u8(board::ioapic_id);
    out.put_u8(0);
    out.put_u32(map::ioapic);
    out.put_u32(0); // first global interrupt
    put_override(out, board::pit_irq, board::pit_ioapic_pin, conforms);
    put_override(out, board::sci_irq, board::sci_irq, level_active_low);
    out.put_u8(madt_local_nmi);
    out.put_u8(6);
    out.put_u8(all_processors);
    out.put_u16(edge_active_high);
    out.put_u8(lint1);
    if (configuration.vcpus > first_x2apic_id) {
        out.put_u8(madt_x2apic_nmi);
        out.put_u8(12);
        out.put_u16(edge_active_high);
        out.put_u32(0xffffffff);
        out.put_u8(lint1);
        out.zeros(3);
    }
    return finish_acpi_table(out);
}

std::vector<u8> build_hpet(AcpiConfiguration const& configuration)
{
    ByteWriter out = start_acpi_table("HPET", 1, "BVHPET");
    out.put_u32(configuration.hpet_id);
    put_address(out, AddressSpace::memory, 0, 0, map::hpet);
    out.put_u8(0); // number
    out.put_u16(configuration.hpet_minimum_tick);
    out.put_u8(1); // nothing else is within 4 KiB of it
    return finish_acpi_table(out);
}

std::vector<u8> build_mcfg()
{
    ByteWriter out = start_acpi_table("MCFG", 1, "BVMCFG");
    out.put_u64(0);
    out.put_u64(map::pci_ecam);
    out.put_u16(0); // segment
    out.put_u8(0);  // first bus
    out.put_u8(map::pci_last_bus);
    out.put_u32(0);
    return finish_acpi_table(out);
}

// RSDP (5.2.5.3).
enum RootOffset : std::size_t { root_checksum = 8, root_rsdt = 16, root_xsdt = 24, root_extended_checksum = 32, root_size_1 = 20, root_size = 36 };

std::vector<u8> build_root_pointer()
{
    ByteWriter out;
    out.text("RSD PTR ");
    out.put_u8(0);
    out.text(acpi_header::oem_id);
    out.put_u8(2); // revision
    out.put_u32(0);
    out.put_u32(root_size);
    out.put_u64(0);
    out.put_u8(0);
    out.zeros(3);
    return out.take();
}

void fix_checksums(AcpiTable& table)
{
    ByteWriter out;
    out.bytes(table.bytes);
    if (table.signature == "RSD ") {
        out.patch_checksum(root_checksum, 0, root_size_1);
        out.patch_checksum(root_extended_checksum, 0, root_size);
    } else if (table.signature != "FACS") {
        out.patch_checksum(acpi_header::checksum_offset, 0, out.size());
    }
    table.bytes = out.take();
}

} // namespace

std::size_t AcpiTables::add(std::string signature, std::vector<u8> bytes)
{
    m_tables.push_back({ std::move(signature), 0, std::move(bytes) });
    return m_tables.size() - 1;
}

Result<AcpiTables> AcpiTables::build(AcpiConfiguration const& configuration)
{
    AcpiTables set;
    std::size_t const root = set.add("RSD ", build_root_pointer());
    std::size_t const facs = set.add("FACS", build_facs());
    std::size_t const dsdt = set.add("DSDT", build_dsdt(configuration));
    std::size_t const fadt = set.add("FACP", build_fadt(configuration));
    set.add_pointer(fadt, fadt_firmware_control, 4, facs);
    set.add_pointer(fadt, fadt_dsdt, 4, dsdt);
    set.add_pointer(fadt, fadt_x_firmware_control, 8, facs);
    set.add_pointer(fadt, fadt_x_dsdt, 8, dsdt);

    std::vector<std::size_t> listed { fadt, set.add("APIC", build_madt(configuration)) };
    if (configuration.has_hpet)
        listed.push_back(set.add("HPET", build_hpet(configuration)));
    listed.push_back(set.add("MCFG", build_mcfg()));

    auto const add_list = [&](std::string_view signature, unsigned width, std::size_t root_offset) {
        ByteWriter out = start_acpi_table(signature, 1, signature == "RSDT" ? "BVRSDT" : "BVXSDT");
        out.zeros(listed.size() * width);
        std::size_t const list = set.add(std::string(signature), finish_acpi_table(out));
        for (std::size_t i = 0; i < listed.size(); ++i)
            set.add_pointer(list, acpi_header::size + i * width, width, listed[i]);
        set.add_pointer(root, root_offset, width, list);
    };
    add_list("RSDT", 4, root_rsdt);
    add_list("XSDT", 8, root_xsdt);
    TRY(set.lay_out());
    return set;
}

Result<void> AcpiTables::lay_out()
{
    constexpr u64 alignment = 64; // the FACS needs it
    u64 address = map::acpi_tables;
    for (auto& table : m_tables) {
        table.address = address;
        address = align_up(address + table.bytes.size(), alignment);
        if (address > map::acpi_tables_end)
            return make_error(E2BIG, "the ACPI tables need more than the {} KiB that the board has for them", largest / KiB);
    }
    for (auto const& pointer : m_pointers) {
        u64 const target = m_tables[pointer.target].address;
        for (unsigned i = 0; i < pointer.width; ++i)
            m_tables[pointer.table].bytes[pointer.offset + i] = static_cast<u8>(target >> (8 * i));
    }
    for (auto& table : m_tables)
        fix_checksums(table);
    return {};
}

AcpiTable const* AcpiTables::find(std::string_view signature) const
{
    auto const found = std::find_if(m_tables.begin(), m_tables.end(), [&](auto const& table) { return table.signature == signature; });
    return found == m_tables.end() ? nullptr : &*found;
}

Result<void> AcpiTables::install(GuestMemory& memory) const
{
    for (auto const& table : m_tables) {
        if (!memory.write(Gpa(table.address), table.bytes.data(), table.bytes.size()))
            return make_error(ENOMEM, "the guest's memory of {} KiB has no room for the ACPI tables at {:#x}", memory.size() / KiB, table.address);
    }
    return {};
}

} // namespace anyhyve::boot
