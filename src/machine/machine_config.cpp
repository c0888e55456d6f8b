// The configuration variables of a machine, read once into plain values.
#include "machine/machine_config.hpp"

#include <algorithm>

#include "host/thread.hpp"
#include "machine/device_table.hpp"

namespace anyhyve::machine {

namespace {

struct AbsentVariable {
    char const* key;
    char const* what;
};

// Variables whose function this version does not have: ignoring them would surprise.
constexpr AbsentVariable absent_variables[] = {
    { "gdb.port", "the debug server" },
    { "domains", "NUMA domains of the guest" },
    { "keyboard.layout", "the keyboard" },
    { "bootrom", "firmware" },
    { "bootvars", "firmware" },
    { "lpc.bootrom", "firmware" },
    { "lpc.bootvars", "firmware" },
    { "lpc.fwcfg", "fw_cfg, which firmware reads" },
    { "tpm", "the TPM" },
};

Result<void> refuse_absent(ConfigTree const& tree)
{
    for (auto const& absent : absent_variables) {
        std::string_view const key = absent.key;
        if (tree.has(key) || tree.has_node(key))
            return make_error(ENOTSUP, "{}: {} is not part of this version", key, absent.what);
    }
    return {};
}

// The full keys of all values below a node, the node itself not included.
void collect_keys(ConfigTree const& tree, std::string const& node, std::vector<std::string>& keys)
{
    for (auto const& word : tree.children(node)) {
        std::string const key = node.empty() ? word : node + "." + word;
        if (tree.has(key))
            keys.push_back(key);
        else
            collect_keys(tree, key, keys);
    }
}

Result<unsigned> read_count(ConfigTree const& tree, std::string const& key)
{
    auto const text = TRY(tree.value(key));
    if (!text)
        return 0U;
    u64 const number = TRY(parse_number(*text, key));
    if (number < 1 || number > 65535)
        return make_error(EINVAL, "{}={} is not between 1 and 65535", key, *text);
    return static_cast<unsigned>(number);
}

Result<void> read_processors(ConfigTree const& tree, MachineConfig& config)
{
    config.topology = TRY(MachineConfig::read_topology(tree));
    config.x2apic = TRY(tree.boolean_or("x86.x2apic", true));
    config.strict_io = TRY(tree.boolean_or("x86.strictio", false));
    config.strict_msr = TRY(tree.boolean_or("x86.strictmsr", true));
    config.exit_on_halt = TRY(tree.boolean_or("x86.vmexit_on_hlt", false));
    config.exit_on_pause = TRY(tree.boolean_or("x86.vmexit_on_pause", false));
    config.mp_table = TRY(tree.boolean_or("x86.mptable", true));
    for (unsigned vcpu = 0; vcpu < config.topology.cpus; ++vcpu) {
        auto const list = TRY(tree.value(fmt::format("vcpu.{}.cpuset", vcpu)));
        if (list)
            config.host_cpus[vcpu] = TRY(host::parse_cpu_list(*list));
    }
    return {};
}

Result<void> read_lifetime(ConfigTree const& tree, MachineConfig& config)
{
    config.destroy_on_power_off = TRY(tree.boolean_or("destroy_on_poweroff", false));
    config.monitor = TRY(tree.boolean_or("monitor.enabled", false));
    config.restart_on_reset = !TRY(tree.boolean_or("monitor.no_reboot", false));
    return {};
}

Result<void> read_engine(ConfigTree const& tree, MachineConfig& config)
{
    config.engine = TRY(tree.value_or("engine", "auto"));
    config.engine_options.perf_map = TRY(tree.boolean_or("soft.perf_map", false));
    config.engine_options.profile = TRY(tree.boolean_or("soft.profile", false));
    config.profile_file = TRY(tree.value_or("soft.profile_file", ""));
    auto const format = TRY(tree.value_or("soft.profile_format", "text"));
    if (format != "text" && format != "json")
        return make_error(EINVAL, "soft.profile_format={}: text or json", format);
    config.profile_json = format == "json";
    return {};
}

Result<void> read_boot(ConfigTree const& tree, BootRequest& boot)
{
    boot.kernel = TRY(tree.value_or("boot.kernel", ""));
    boot.initrd = TRY(tree.value_or("boot.initrd", ""));
    boot.command_line = TRY(tree.value_or("boot.cmdline", ""));
    boot.entry = TRY(tree.value_or("boot.entry", "auto"));
    for (std::string key = "boot.module.0"; tree.has(key); key = fmt::format("boot.module.{}", boot.modules.size()))
        boot.modules.push_back(TRY(tree.value_or(key, "")));
    if (boot.wanted())
        return {};
    if (!boot.initrd.empty() || !boot.command_line.empty() || tree.has("boot.protocol"))
        return Error("boot.kernel is missing", EINVAL);
    return {};
}

// "4" in "pci.0.4.0": a bus, slot or function number.
Result<u8> read_place(std::string const& word, u64 most, std::string const& key)
{
    u64 const number = TRY(parse_number(word, key));
    if (number > most)
        return make_error(EINVAL, "{}: buses are 0-255, slots 0-31, functions 0-7", key);
    return static_cast<u8>(number);
}

Result<void> read_pci_function(ConfigTree const& tree, PciAddress address, std::string const& node, MachineConfig& config)
{
    auto const device = TRY(tree.value(node + ".device"));
    if (!device)
        return make_error(EINVAL, "{}.device is missing", node);
    if (!find_device(*device))
        return make_error(ENODEV, "pci slot {}:{}: unknown device \"{}\"", address.slot, address.function, *device);
    PciDeviceConfig function { address, *device, {} };
    std::vector<std::string> keys;
    collect_keys(tree, node, keys);
    for (auto const& key : keys)
        if (key != node + ".device")
            function.options.set(key.substr(node.size() + 1), TRY(tree.value_or(key, "")));
    config.pci_devices.push_back(std::move(function));
    return {};
}

Result<void> read_pci_devices(ConfigTree const& tree, MachineConfig& config)
{
    for (auto const& bus : tree.children("pci")) {
        if (bus == "enable_bars")
            continue;
        std::string const bus_node = "pci." + bus;
        for (auto const& slot : tree.children(bus_node)) {
            std::string const slot_node = bus_node + "." + slot;
            for (auto const& function : tree.children(slot_node)) {
                PciAddress const address { TRY(read_place(bus, 255, bus_node)), TRY(read_place(slot, 31, slot_node)), TRY(read_place(function, 7, slot_node)) };
                TRY(read_pci_function(tree, address, slot_node + "." + function, config));
            }
        }
    }
    std::sort(config.pci_devices.begin(), config.pci_devices.end(),
        [](PciDeviceConfig const& a, PciDeviceConfig const& b) { return a.address < b.address; });
    return {};
}

Result<void> read_lpc_devices(ConfigTree const& tree, MachineConfig& config)
{
    for (unsigned number = 1; number <= 4; ++number) {
        ComPortConfig port { number, TRY(tree.value_or(fmt::format("lpc.com{}.path", number), "")), TRY(tree.value_or(fmt::format("lpc.com{}.tcp", number), "")) };
        if (!port.path.empty() || !port.tcp.empty())
            config.com_ports.push_back(std::move(port));
    }
    config.test_device = TRY(tree.boolean_or("lpc.pc-testdev", false));
    config.debug_exit = TRY(tree.boolean_or("lpc.debug-exit", false));
    return {};
}

Result<void> read_smbios(ConfigTree const& tree, MachineConfig& config)
{
    for (std::string const node : { "bios", "system", "board", "chassis", "oemstring" }) {
        std::vector<std::string> keys;
        collect_keys(tree, node, keys);
        for (auto const& key : keys)
            config.smbios[key] = TRY(tree.value_or(key, ""));
    }
    config.uuid = TRY(tree.value_or("uuid", ""));
    return {};
}

} // namespace

Result<MachineConfig> MachineConfig::read(ConfigTree const& tree)
{
    TRY(refuse_absent(tree));
    MachineConfig config;
    config.name = TRY(tree.value_or("name", ""));
    std::string const memory_size = TRY(tree.value_or("memory.size", "256M"));
    config.memory_size = TRY(parse_memory_size(memory_size));
    config.memory_wired = TRY(tree.boolean_or("memory.wired", false));
    config.memory_huge_pages = TRY(tree.boolean_or("memory.huge_pages", true));
    config.memory_in_core = TRY(tree.boolean_or("memory.guest_in_core", false));
    config.rtc_local_time = TRY(tree.boolean_or("rtc.use_localtime", true));
    config.virtio_msix = TRY(tree.boolean_or("virtio_msix", true));
    TRY(read_processors(tree, config));
    TRY(read_lifetime(tree, config));
    TRY(read_engine(tree, config));
    TRY(read_boot(tree, config.boot));
    TRY(read_pci_devices(tree, config));
    TRY(read_lpc_devices(tree, config));
    TRY(read_smbios(tree, config));
    return config;
}

Result<Topology> MachineConfig::read_topology(ConfigTree const& tree)
{
    unsigned const cpus = TRY(read_count(tree, "cpus"));
    unsigned const sockets = TRY(read_count(tree, "sockets"));
    unsigned const cores = TRY(read_count(tree, "cores"));
    unsigned const threads = TRY(read_count(tree, "threads"));
    return complete_topology(cpus, sockets, cores, threads);
}

Result<BootRequest> MachineConfig::read_boot_request(ConfigTree const& tree)
{
    BootRequest boot;
    TRY(read_boot(tree, boot));
    return boot;
}

Result<void> set_default_variables(ConfigTree& tree)
{
    constexpr std::pair<char const*, char const*> defaults[] = {
        { "acpi_tables", "true" },
        { "acpi_tables_in_memory", "true" },
        { "memory.size", "256M" },
        { "x86.strictmsr", "true" },
    };
    for (auto const& [key, value] : defaults)
        if (!tree.has(key))
            TRY(tree.set(key, value));
    return {};
}

} // namespace anyhyve::machine
