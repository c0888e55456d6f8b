// The DSDT: the board's devices as the guest's ACPI interpreter sees them.
// Spec: ACPI specification 6.5 chapters 5 and 6; PCI Firmware Specification 3.3 chapter 4 (host bridges).
#include <algorithm>
#include <string>

#include "boot/acpi_header.hpp"
#include "boot/acpi_tables.hpp"
#include "boot/aml_writer.hpp"

namespace anyhyve::boot {

namespace {

namespace map = memory_map;
using Sharing = AmlWriter::Sharing;
using Trigger = AmlWriter::Trigger;
using WindowKind = AmlWriter::WindowKind;

constexpr unsigned link_count = 8;
constexpr u8 link_off = 0x80; // in a PIRQ register: routed nowhere

std::string link_name(unsigned link)
{
    return { 'L', 'N', 'K', static_cast<char>('A' + link) };
}
std::string router_field(unsigned link)
{
    return { 'P', 'I', 'R', static_cast<char>('A' + link) };
}

class DsdtBuilder {
public:
    explicit DsdtBuilder(AcpiConfiguration const& configuration) : m_configuration(configuration) {}
    std::vector<u8> build();

private:
    void put_interrupt_model();
    void put_host_bridge();
    void put_windows();
    void put_routing();
    void put_routing_table(std::string_view name, bool by_ioapic);
    void put_lpc_bridge();
    void put_link(unsigned link);
    void put_link_resources(std::string const& router);
    void put_legacy_devices();
    void put_com_ports();
    void put_reserved();
    void put_hpet();
    void put_firmware_config();

    template<typename Body>
    void pnp_device(std::string_view name, std::string_view id, u64 uid, Body const& body)
    {
        m_aml.device(name, [&] {
            m_aml.name("_HID");
            m_aml.eisa_id(id);
            m_aml.name("_UID");
            m_aml.integer(uid);
            body();
        });
    }

    AcpiConfiguration const& m_configuration;
    AmlWriter m_aml;
};

std::vector<u8> DsdtBuilder::build()
{
    m_aml.name("_S5");
    m_aml.package(4, [&] {
        m_aml.integer(board::sleep_type_s5);
        m_aml.integer(board::sleep_type_s5);
        m_aml.integer(0);
        m_aml.integer(0);
    });
    put_interrupt_model();
    m_aml.scope("\\_SB", [&] {
        put_host_bridge();
        if (m_configuration.has_hpet)
            put_hpet();
        if (m_configuration.has_firmware_config)
            put_firmware_config();
    });

    ByteWriter out = start_acpi_table("DSDT", 2, "BVDSDT");
    out.bytes(m_aml.view());
    return finish_acpi_table(out);
}

// The guest tells by _PIC which interrupt controller it uses (5.8.1).
void DsdtBuilder::put_interrupt_model()
{
    m_aml.name("PICM");
    m_aml.integer(0);
    m_aml.method("_PIC", 1, AmlSerialization::none, [&] {
        m_aml.store();
        m_aml.argument(AmlArgument::arg0);
        m_aml.name_string("\\PICM");
    });
}

void DsdtBuilder::put_host_bridge()
{
    m_aml.device("PC00", [&] {
        m_aml.name("_HID");
        m_aml.eisa_id("PNP0A08");
        m_aml.name("_CID");
        m_aml.eisa_id("PNP0A03");
        m_aml.name("_UID");
        m_aml.integer(0);
        m_aml.name("_SEG");
        m_aml.integer(0);
        m_aml.name("_BBN");
        m_aml.integer(0);
        put_windows();
        put_routing();
        if (m_configuration.has_lpc_bridge)
            put_lpc_bridge();
    });
}

void DsdtBuilder::put_windows()
{
    u64 const wide = map::pci_bars_64(m_configuration.ram_size);
    m_aml.name("_CRS");
    m_aml.resource_template([&](AmlWriter& resources) {
        resources.window(WindowKind::bus, 16, 0, map::pci_last_bus);
        resources.io(ports::pci_config_address, 8);
        resources.window(WindowKind::io, 16, 0, ports::pci_config_address - 1);
        resources.window(WindowKind::io, 16, ports::pci_config_address + 8, 0xffff);
        if (m_configuration.has_vga)
            resources.window(WindowKind::memory, 32, map::vga_window, map::vga_window + map::vga_window_size - 1);
        resources.window(WindowKind::memory, 32, map::pci_bars_32, map::pci_bars_32_end - 1);
        resources.window(WindowKind::memory, 64, wide, wide + map::pci_bars_64_size - 1);
    });
}

void DsdtBuilder::put_routing()
{
    if (m_configuration.routes.empty())
        return;
    put_routing_table("APRT", true);
    // Without the bridge there is no PIRQ router, and so no interrupts by the 8259s.
    if (m_configuration.has_lpc_bridge)
        put_routing_table("PPRT", false);
    m_aml.method("_PRT", 0, AmlSerialization::none, [&] {
        if (!m_configuration.has_lpc_bridge) {
            m_aml.return_();
            m_aml.name_string("APRT");
            return;
        }
        m_aml.if_([&] {
            m_aml.name_string("\\PICM");
            m_aml.return_();
            m_aml.name_string("APRT");
        });
        m_aml.return_();
        m_aml.name_string("PPRT");
    });
}

// _PRT (6.2.13): {address, pin, source, index} of each wire of bus 0.
void DsdtBuilder::put_routing_table(std::string_view name, bool by_ioapic)
{
    auto const on_root_bus = [](PciInterruptRoute const& route) { return route.bus == 0; };
    auto const count = std::count_if(m_configuration.routes.begin(), m_configuration.routes.end(), on_root_bus);
    m_aml.name(name);
    m_aml.package(static_cast<u8>(count), [&] {
        for (auto const& route : m_configuration.routes) {
            if (!on_root_bus(route))
                continue;
            m_aml.package(4, [&] {
                m_aml.integer(u64 { route.slot } << 16 | 0xffff);
                m_aml.integer(route.pin - 1u);
                if (by_ioapic) {
                    m_aml.integer(0);
                    m_aml.integer(route.ioapic_pin);
                } else {
                    m_aml.name_string("\\_SB.PC00.ISA." + link_name(route.pirq % link_count));
                    m_aml.integer(0);
                }
            });
        }
    });
}

void DsdtBuilder::put_lpc_bridge()
{
    m_aml.device("ISA", [&] {
        m_aml.name("_ADR");
        m_aml.integer(u64 { m_configuration.lpc_slot } << 16);
        m_aml.operation_region("LPCR", AmlRegionSpace::pci_configuration, 0, 0x100);
        constexpr u32 gap = (board::lpc_pirq_e - board::lpc_pirq_a - 4) * 8;
        m_aml.field("LPCR", AmlFieldAccess::byte,
            { { "", board::lpc_pirq_a * 8 }, { "PIRA", 8 }, { "PIRB", 8 }, { "PIRC", 8 }, { "PIRD", 8 }, { "", gap }, { "PIRE", 8 }, { "PIRF", 8 },
                { "PIRG", 8 }, { "PIRH", 8 } });
        for (unsigned link = 0; link < link_count; ++link)
            put_link(link);
        put_legacy_devices();
        put_com_ports();
        put_reserved();
    });
}

// An interrupt link (6.2.11 to 6.2.16): one register of the PIRQ router.
void DsdtBuilder::put_link(unsigned link)
{
    std::string const router = router_field(link);
    pnp_device(link_name(link), "PNP0C0F", link + 1, [&] {
        m_aml.method("_STA", 0, AmlSerialization::none, [&] {
            m_aml.if_([&] {
                m_aml.and_();
                m_aml.name_string(router);
                m_aml.integer(link_off);
                m_aml.no_target();
                m_aml.return_();
                m_aml.integer(9); // present, not enabled
            });
            m_aml.return_();
            m_aml.integer(0xb); // present, enabled
        });
        m_aml.method("_DIS", 0, AmlSerialization::serialized, [&] {
            m_aml.or_();
            m_aml.name_string(router);
            m_aml.integer(link_off);
            m_aml.name_string(router);
        });
        m_aml.name("_PRS");
        m_aml.resource_template([](AmlWriter& resources) { resources.irq(board::pirq_mask, Trigger::level, Sharing::shared); });
        put_link_resources(router);
    });
}

void DsdtBuilder::put_link_resources(std::string const& router)
{
    constexpr u64 mask_offset = 1; // of an interrupt descriptor
    constexpr u8 irq_bits = 0xf;

    // The template that _CRS fills in; its mask is the word CIRA.
    m_aml.name("CRSB");
    m_aml.resource_template([](AmlWriter& resources) { resources.irq(0, Trigger::level, Sharing::shared); });
    m_aml.create_word_field();
    m_aml.name_string("CRSB");
    m_aml.integer(mask_offset);
    m_aml.name_string("CIRA");
    m_aml.method("_CRS", 0, AmlSerialization::serialized, [&] {
        m_aml.and_();
        m_aml.name_string(router);
        m_aml.integer(link_off | irq_bits);
        m_aml.local(AmlLocal::local0);
        m_aml.if_([&] {
            m_aml.less();
            m_aml.local(AmlLocal::local0);
            m_aml.integer(link_off);
            m_aml.shift_left();
            m_aml.integer(1);
            m_aml.local(AmlLocal::local0);
            m_aml.name_string("CIRA");
        });
        m_aml.else_([&] {
            m_aml.store();
            m_aml.integer(0);
            m_aml.name_string("CIRA");
        });
        m_aml.return_();
        m_aml.name_string("CRSB");
    });
    m_aml.method("_SRS", 1, AmlSerialization::serialized, [&] {
        m_aml.create_word_field();
        m_aml.argument(AmlArgument::arg0);
        m_aml.integer(mask_offset);
        m_aml.name_string("SIRA");
        m_aml.find_set_right_bit();
        m_aml.name_string("SIRA");
        m_aml.local(AmlLocal::local0);
        m_aml.if_([&] {
            m_aml.local(AmlLocal::local0);
            m_aml.decrement();
            m_aml.local(AmlLocal::local0);
            m_aml.store();
            m_aml.local(AmlLocal::local0);
            m_aml.name_string(router);
        });
        m_aml.else_([&] {
            m_aml.store();
            m_aml.integer(link_off);
            m_aml.name_string(router);
        });
    });
}

void DsdtBuilder::put_legacy_devices()
{
    auto const with_resources = [&](std::string_view name, std::string_view id, auto const& resources) {
        pnp_device(name, id, 0, [&] {
            m_aml.name("_CRS");
            m_aml.resource_template(resources);
        });
    };
    with_resources("RTC", "PNP0B00", [](AmlWriter& resources) {
        resources.io(ports::rtc, ports::rtc_size);
        resources.irq_no_flags(1 << board::rtc_irq);
    });
    with_resources("PIC", "PNP0000", [](AmlWriter& resources) {
        resources.io(ports::pic_master, 2);
        resources.io(ports::pic_slave, 2);
        resources.irq_no_flags(1 << board::pic_cascade_irq);
    });
    with_resources("TIMR", "PNP0100", [](AmlWriter& resources) {
        resources.io(ports::pit, ports::pit_size);
        resources.irq_no_flags(1 << board::pit_irq);
    });
    if (!m_configuration.has_keyboard_controller)
        return;
    with_resources("KBD", "PNP0303", [](AmlWriter& resources) {
        resources.io(ports::keyboard_data, 1);
        resources.io(ports::keyboard_command, 1);
        resources.irq_no_flags(1 << board::keyboard_irq);
    });
    with_resources("MOU", "PNP0F13", [](AmlWriter& resources) { resources.irq_no_flags(1 << board::mouse_irq); });
}

void DsdtBuilder::put_com_ports()
{
    u64 uid = 1;
    for (auto const& com : m_configuration.com_ports) {
        pnp_device(fmt::format("COM{}", uid), "PNP0501", uid, [&] {
            m_aml.name("_CRS");
            m_aml.resource_template([&](AmlWriter& resources) {
                resources.io(com.port, ports::com_size);
                resources.irq_no_flags(static_cast<u16>(1u << com.irq));
            });
        });
        ++uid;
    }
}

// Addresses that belong to the board: nothing else may be placed there. MCFG requires it for configuration space.
void DsdtBuilder::put_reserved()
{
    pnp_device("SIO", "PNP0C02", 0, [&] {
        m_aml.name("_CRS");
        m_aml.resource_template([](AmlWriter& resources) {
            resources.io(ports::system_control, 1);
            resources.io(ports::rtc_reserved, ports::rtc_reserved_size);
            resources.io(ports::post_code, 1);
            resources.io(ports::post_code_diagnostic, 1);
            resources.io(ports::system_control_a, 1);
            resources.io(ports::smi_command, 2);
            resources.io(ports::pm1_event, ports::pm1_event_size);
            resources.io(ports::pm1_control, ports::pm1_control_size);
            resources.io(ports::pm_timer, ports::pm_timer_size);
            resources.io(ports::elcr, ports::elcr_size);
            resources.memory32_fixed(static_cast<u32>(map::pci_ecam), static_cast<u32>(map::pci_ecam_size));
        });
    });
}

void DsdtBuilder::put_hpet()
{
    pnp_device("HPET", "PNP0103", 0, [&] {
        m_aml.name("_CRS");
        m_aml.resource_template([](AmlWriter& resources) { resources.memory32_fixed(static_cast<u32>(map::hpet), static_cast<u32>(map::hpet_size)); });
    });
}

void DsdtBuilder::put_firmware_config()
{
    m_aml.device("FWCF", [&] {
        m_aml.name("_HID");
        m_aml.string("QEMU0002");
        m_aml.name("_STA");
        m_aml.integer(0xb); // present, working, not shown
        m_aml.name("_CRS");
        m_aml.resource_template([](AmlWriter& resources) { resources.io(ports::firmware_config, ports::firmware_config_size); });
    });
}

} // namespace

std::vector<u8> build_dsdt(AcpiConfiguration const& configuration)
{
    return DsdtBuilder(configuration).build();
}

} // namespace anyhyve::boot
