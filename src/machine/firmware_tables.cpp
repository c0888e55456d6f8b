// The tables that firmware would leave in memory.
#include "machine/firmware_tables.hpp"

#include <cpuid.h>

#include "base/log.hpp"
#include "boot/mp_table.hpp"
#include "boot/smbios.hpp"

namespace anyhyve::machine {

namespace {

std::vector<boot::PciInterruptRoute> routes_of(PciBus const& pci)
{
    std::vector<boot::PciInterruptRoute> routes;
    for (auto const& route : pci.interrupt_routes())
        routes.push_back({ .bus = route.bus, .slot = route.slot, .pin = route.pin, .ioapic_pin = route.gsi, .pirq = route.pirq });
    return routes;
}

boot::ComPort com_port(unsigned number)
{
    constexpr boot::ComPort ports[] = {
        { ports::com1, board::com1_irq },
        { ports::com2, board::com2_irq },
        { ports::com3, board::com3_irq },
        { ports::com4, board::com4_irq },
    };
    return ports[number - 1];
}

Result<boot::AcpiTables> build_acpi(MachineConfig const& config, PciBus const& pci)
{
    boot::AcpiConfiguration acpi;
    acpi.vcpus = config.topology.cpus;
    acpi.ram_size = config.memory_size;
    acpi.routes = routes_of(pci);
    for (auto const& port : config.com_ports)
        acpi.com_ports.push_back(com_port(port.number));
    acpi.has_lpc_bridge = false;
    for (auto const& device : config.pci_devices) {
        if (device.device != "lpc")
            continue;
        acpi.has_lpc_bridge = true;
        acpi.lpc_slot = device.address.slot;
    }
    return boot::AcpiTables::build(acpi);
}

Result<std::vector<u8>> build_mp(MachineConfig const& config, PciBus const& pci)
{
    if (!config.mp_table)
        return std::vector<u8> {};
    if (pci.buses().size() > 1) {
        log::warning("{}: an MP table knows only PCI bus 0, so there is none", config.name);
        return std::vector<u8> {};
    }
    boot::MpConfiguration mp;
    mp.vcpus = config.topology.cpus;
    unsigned ebx = 0, ecx = 0;
    __get_cpuid(1, &mp.cpu_signature, &ebx, &ecx, &mp.cpu_features);
    mp.routes = routes_of(pci);
    return boot::build_mp_table(mp);
}

struct SmbiosText {
    char const* key;
    std::string boot::SmbiosConfiguration::*member;
};

constexpr SmbiosText smbios_texts[] = {
    { "bios.vendor", &boot::SmbiosConfiguration::bios_vendor },
    { "bios.version", &boot::SmbiosConfiguration::bios_version },
    { "bios.release_date", &boot::SmbiosConfiguration::bios_release_date },
    { "system.manufacturer", &boot::SmbiosConfiguration::system_manufacturer },
    { "system.product_name", &boot::SmbiosConfiguration::system_product_name },
    { "system.version", &boot::SmbiosConfiguration::system_version },
    { "system.serial_number", &boot::SmbiosConfiguration::system_serial_number },
    { "system.sku", &boot::SmbiosConfiguration::system_sku },
    { "system.family_name", &boot::SmbiosConfiguration::system_family_name },
    { "board.manufacturer", &boot::SmbiosConfiguration::board_manufacturer },
    { "board.product_name", &boot::SmbiosConfiguration::board_product_name },
    { "board.version", &boot::SmbiosConfiguration::board_version },
    { "board.serial_number", &boot::SmbiosConfiguration::board_serial_number },
    { "board.asset_tag", &boot::SmbiosConfiguration::board_asset_tag },
    { "board.location", &boot::SmbiosConfiguration::board_location },
    { "chassis.manufacturer", &boot::SmbiosConfiguration::chassis_manufacturer },
    { "chassis.version", &boot::SmbiosConfiguration::chassis_version },
    { "chassis.serial_number", &boot::SmbiosConfiguration::chassis_serial_number },
    { "chassis.asset_tag", &boot::SmbiosConfiguration::chassis_asset_tag },
    { "chassis.sku", &boot::SmbiosConfiguration::chassis_sku },
};

Result<std::vector<u8>> build_smbios_table(MachineConfig const& config)
{
    boot::SmbiosConfiguration smbios;
    for (auto const& text : smbios_texts)
        if (auto const found = config.smbios.find(text.key); found != config.smbios.end())
            smbios.*text.member = found->second;
    for (auto const& [key, value] : config.smbios)
        if (key.starts_with("oemstring."))
            smbios.oem_strings.push_back(value);
    smbios.uuid = config.uuid.empty() ? boot::uuid_from_name(config.name) : TRY(boot::Uuid::parse(config.uuid));
    smbios.sockets = config.topology.sockets;
    smbios.cores = config.topology.cores;
    smbios.threads = config.topology.threads;
    smbios.ram_size = config.memory_size;
    return boot::build_smbios(smbios);
}

Result<void> install_table(GuestMemory& memory, u64 address, std::vector<u8> const& bytes, char const* name)
{
    if (!bytes.empty() && !memory.write(Gpa(address), bytes.data(), bytes.size()))
        return make_error(EFAULT, "the {} table does not lie in memory", name);
    return {};
}

} // namespace

Result<FirmwareTables> FirmwareTables::build(MachineConfig const& config, PciBus const& pci)
{
    auto mp = TRY(build_mp(config, pci));
    auto smbios = TRY(build_smbios_table(config));
    auto acpi = TRY(build_acpi(config, pci));
    return FirmwareTables { std::move(mp), std::move(smbios), std::move(acpi) };
}

Result<void> FirmwareTables::install(GuestMemory& memory) const
{
    TRY(install_table(memory, memory_map::mp_table, mp, "MP"));
    TRY(install_table(memory, memory_map::smbios_table, smbios, "SMBIOS"));
    return acpi.install(memory);
}

} // namespace anyhyve::machine
