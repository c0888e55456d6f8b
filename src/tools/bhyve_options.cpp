// bhyve's command line: each flag is short for one or several configuration variables.
#include "tools/bhyve_options.hpp"

#include <algorithm>
#include <set>

#include "machine/device_table.hpp"
#include "machine/quantities.hpp"
#include "tools/tool_tables.hpp"

namespace anyhyve::tools {

using machine::parse_number;
using machine::split;

Result<Assignments> parse_cpu_option(std::string_view text)
{
    if (text.empty())
        return Assignments { { "cpus", "1" } };
    Assignments assignments;
    for (auto const part : split(text, ',')) {
        auto const equals = part.find('=');
        std::string const key(equals == std::string_view::npos ? "cpus" : part.substr(0, equals));
        std::string const value(equals == std::string_view::npos ? part : part.substr(equals + 1));
        if (key != "cpus" && key != "sockets" && key != "cores" && key != "threads")
            return make_error(EINVAL, "CPU topology '{}': there is no '{}', only cpus, sockets, cores and threads", text, key);
        u64 const number = TRY(parse_number(value, fmt::format("CPU topology '{}': {}", text, key)));
        if (number < 1 || number > 65535)
            return make_error(EINVAL, "CPU topology '{}': {} is not between 1 and 65535", text, key);
        assignments.emplace_back(key, value);
    }
    return assignments;
}

namespace {

struct Slot {
    u64 bus = 0, slot = 0, function = 0;
};

// SLOT, SLOT:FUNCTION or BUS:SLOT:FUNCTION, decimal.
Result<Slot> parse_slot(std::string_view text)
{
    auto const parts = split(text, ':');
    std::vector<u64> numbers;
    for (auto const part : parts) {
        auto const number = parse_number(part, "PCI slot");
        if (!number.ok() || part.starts_with("0x"))
            return make_error(EINVAL, "PCI slot '{}' is not SLOT, SLOT:FUNCTION or BUS:SLOT:FUNCTION", text);
        numbers.push_back(number.value());
    }
    Slot slot;
    if (numbers.size() == 1)
        slot = { 0, numbers[0], 0 };
    else if (numbers.size() == 2)
        slot = { 0, numbers[0], numbers[1] };
    else if (numbers.size() == 3)
        slot = { numbers[0], numbers[1], numbers[2] };
    else
        return make_error(EINVAL, "PCI slot '{}' is not SLOT, SLOT:FUNCTION or BUS:SLOT:FUNCTION", text);
    if (slot.bus > 255 || slot.slot > 31 || slot.function > 7)
        return make_error(EINVAL, "PCI slot '{}': buses are 0-255, slots 0-31, functions 0-7", text);
    return slot;
}


} // namespace

Result<Assignments> parse_slot_option(std::string_view text)
{
    auto const comma = text.find(',');
    auto const slot = TRY(parse_slot(text.substr(0, comma)));
    if (comma == std::string_view::npos || comma + 1 == text.size())
        return make_error(EINVAL, "-s {}: the name of a device is missing", text);
    std::string_view const rest = text.substr(comma + 1);
    auto const conf_at = rest.find(',');
    std::string const device(rest.substr(0, conf_at));
    std::string_view const conf = conf_at == std::string_view::npos ? std::string_view {} : rest.substr(conf_at + 1);
    // libvirt probes by this line whether passwords can be set.
    if (device == "fbuf" && (conf.starts_with("password") || conf.find(",password") != std::string_view::npos))
        return Error("Invalid fbuf emulation \"password\"", EINVAL);
    auto const* row = machine::find_device(device);
    if (!row)
        return make_error(ENODEV, "pci slot {}:{}: unknown device \"{}\"", slot.slot, slot.function, device);
    std::string const node = fmt::format("pci.{}.{}.{}", slot.bus, slot.slot, slot.function);
    Assignments assignments { { node + ".device", device } };
    auto const options = conf.empty() ? DeviceOptions() : DeviceOptions::parse(conf, row->info->first);
    if (auto const unknown = options.unknown(*row->info); !unknown.empty())
        return make_error(EINVAL, "pci slot {}:{}: {} has no option \"{}\"", slot.slot, slot.function, device, unknown);
    for (auto const& [name, value] : options.values())
        assignments.emplace_back(node + "." + name, value);
    return assignments;
}

Result<Assignments> parse_lpc_option(std::string_view text)
{
    auto const comma = text.find(',');
    std::string device(text.substr(0, comma));
    std::transform(device.begin(), device.end(), device.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    bool const known = machine::is_lpc_device(device);
    if (!known)
        return make_error(EINVAL, "invalid lpc device configuration '{}'", text);
    if (machine::is_plain_lpc_device(device)) {
        if (comma != std::string_view::npos)
            return make_error(EINVAL, "-l {}: {} has no options", text, device);
        return Assignments { { "lpc." + device, "true" } };
    }
    if (comma == std::string_view::npos || comma + 1 == text.size())
        return make_error(EINVAL, "-l {}: what the port is connected to is missing, as in {},stdio", text, device);
    std::string_view const backend = text.substr(comma + 1);
    if (backend.starts_with("tcp="))
        return Assignments { { "lpc." + device + ".tcp", std::string(backend.substr(4)) } };
    return Assignments { { "lpc." + device + ".path", std::string(backend) } };
}

// The variable's value is this text: a percent sign means nothing more.
static std::string literal(std::string_view text)
{
    std::string out;
    for (char const c : text)
        out += c == '%' ? std::string("%%") : std::string(1, c);
    return out;
}

namespace {

constexpr std::string_view multiboot_names[] = { "kernel=", "cmdline=", "module=" };

// Up to the next comma that one of the names follows: command lines have commas, too.
std::string_view take_multiboot_item(std::string_view& rest)
{
    std::size_t end = rest.size();
    for (auto const name : multiboot_names)
        end = std::min(end, rest.find(fmt::format(",{}", name)));
    std::string_view const item = rest.substr(0, end);
    rest = end < rest.size() ? rest.substr(end + 1) : std::string_view {};
    return item;
}

// kernel=F[,cmdline=...][,module=F[ words]]...
Result<Assignments> parse_multiboot_option(std::string_view text)
{
    Assignments assignments { { "boot.protocol", "multiboot" }, { "boot.entry", "multiboot" } };
    unsigned modules = 0;
    bool has_kernel = false;
    for (std::string_view rest = text; !rest.empty();) {
        std::string_view const item = take_multiboot_item(rest);
        auto const equals = item.find('=');
        std::string const name(item.substr(0, equals));
        if (equals == std::string_view::npos || (name != "kernel" && name != "cmdline" && name != "module"))
            return make_error(EINVAL, "-b multiboot: '{}' is not kernel=, cmdline= or module=", item);
        has_kernel |= name == "kernel" && equals + 1 < item.size();
        std::string const key = name == "module" && equals + 1 < item.size() ? fmt::format("boot.module.{}", modules++) : "boot." + name;
        if (equals + 1 < item.size())
            assignments.emplace_back(key, literal(item.substr(equals + 1)));
    }
    if (!has_kernel)
        return make_error(EINVAL, "-b multiboot,{}: kernel= is missing", text);
    return assignments;
}

} // namespace

// cmdline= comes last: kernels want commas in it.
Result<Assignments> parse_boot_option(std::string_view text)
{
    auto const comma = text.find(',');
    if (text.substr(0, comma) == "multiboot")
        return parse_multiboot_option(comma == std::string_view::npos ? std::string_view {} : text.substr(comma + 1));
    if (text.substr(0, comma) != "linux")
        return make_error(EINVAL, "-b {}: only 'linux,kernel=...' and 'multiboot,kernel=...' are known", text);
    Assignments assignments { { "boot.protocol", "linux" } };
    bool has_kernel = false;
    std::string_view rest = comma == std::string_view::npos ? std::string_view {} : text.substr(comma + 1);
    while (!rest.empty()) {
        bool const is_command_line = rest.starts_with("cmdline=");
        std::string_view const item = is_command_line ? rest : rest.substr(0, rest.find(','));
        rest = item.size() < rest.size() ? rest.substr(item.size() + 1) : std::string_view {};
        auto const equals = item.find('=');
        std::string const name(item.substr(0, equals));
        if (equals == std::string_view::npos || (name != "kernel" && name != "initrd" && name != "entry" && name != "cmdline"))
            return make_error(EINVAL, "-b linux: '{}' is not kernel=, initrd=, entry= or cmdline=", item);
        has_kernel |= name == "kernel" && equals + 1 < item.size();
        if (equals + 1 < item.size())
            assignments.emplace_back("boot." + name, literal(item.substr(equals + 1)));
    }
    if (!has_kernel)
        return make_error(EINVAL, "-b {}: kernel= is missing", text);
    return assignments;
}

namespace {

struct Range {
    u64 first, last;
};

Result<Range> parse_range(std::string_view text, std::string_view object)
{
    auto const dash = text.find('-');
    u64 const first = TRY(parse_number(text.substr(0, dash), object));
    u64 const last = dash == std::string_view::npos ? first : TRY(parse_number(text.substr(dash + 1), object));
    if (first > last || last >= 1024)
        return make_error(EINVAL, "{} '{}' is not a range", object, text);
    return Range { first, last };
}

} // namespace

// vcpuN[-vcpuM]:hostcpuX[-hostcpuY]: the N-th goes to the N-th, or all to one.
Result<Assignments> parse_pin_option(std::string_view text)
{
    auto const colon = text.find(':');
    if (colon == std::string_view::npos)
        return make_error(EINVAL, "-p {}: not VCPU:HOSTCPU", text);
    auto const vcpus = TRY(parse_range(text.substr(0, colon), fmt::format("-p {}: virtual CPU", text)));
    auto const host_cpus = TRY(parse_range(text.substr(colon + 1), fmt::format("-p {}: host CPU", text)));
    u64 const vcpu_count = vcpus.last - vcpus.first + 1, host_count = host_cpus.last - host_cpus.first + 1;
    if (host_count != 1 && vcpu_count != 1 && vcpu_count != host_count)
        return make_error(EINVAL, "-p {}: the ranges have different lengths", text);
    Assignments assignments;
    for (u64 i = 0; i < vcpu_count; ++i) {
        std::string hosts = fmt::format("{}", host_cpus.first + (host_count == 1 ? 0 : i));
        if (vcpu_count == 1 && host_count > 1)
            hosts = fmt::format("{}-{}", host_cpus.first, host_cpus.last);
        assignments.emplace_back(fmt::format("vcpu.{}.cpuset", vcpus.first + i), hosts);
    }
    return assignments;
}

namespace {

// Flags that set one variable to a fixed value.
struct SimpleFlag {
    char letter;
    char const* key;
    char const* value;
};

constexpr SimpleFlag simple_flags[] = {
    { 'A', "acpi_tables", "true" },
    { 'a', "x86.x2apic", "false" },
    { 'x', "x86.x2apic", "true" },
    { 'C', "memory.guest_in_core", "true" },
    { 'D', "destroy_on_poweroff", "true" },
    { 'e', "x86.strictio", "true" },
    { 'H', "x86.vmexit_on_hlt", "true" },
    { 'P', "x86.vmexit_on_pause", "true" },
    { 'M', "monitor.enabled", "true" },
    { 'N', "monitor.no_reboot", "true" },
    { 'S', "memory.wired", "true" },
    { 'u', "rtc.use_localtime", "false" },
    { 'W', "virtio_msix", "false" },
    { 'w', "x86.strictmsr", "false" },
    { 'Y', "x86.mptable", "false" },
};

// Flags of bhyve whose function this version does not have.
struct AbsentFunction {
    char letter;
    char const* what;
};

constexpr AbsentFunction absent_functions[] = {
    { 'G', "the debug server" },
    { 'r', "resuming from a snapshot" },
    { 'n', "NUMA domains of the guest" },
    { 'f', "fw_cfg, which firmware reads" },
    { 'K', "the keyboard" },
};

template<typename Row, std::size_t count>
Row const* find_row(Row const (&rows)[count], char letter)
{
    auto const* const found = std::find_if(std::begin(rows), std::end(rows), [letter](Row const& row) { return row.letter == letter; });
    return found == std::end(rows) ? nullptr : found;
}

Result<Assignments> assignments_of(GivenOption const& given)
{
    char const letter = given.option->letter;
    if (given.option->name == "profile") {
        Assignments assignments { { "soft.profile", "true" } };
        if (!given.value.empty())
            assignments.emplace_back("soft.profile_file", literal(given.value));
        return assignments;
    }
    if (auto const* flag = find_row(simple_flags, letter))
        return Assignments { { flag->key, flag->value } };
    if (auto const* absent = find_row(absent_functions, letter))
        return make_error(ENOTSUP, "-{} {}: {} is not part of this version", letter, given.value, absent->what);
    switch (letter) {
    case 'c':
        return parse_cpu_option(given.value);
    case 'm':
        TRY(machine::parse_memory_size(given.value));
        return Assignments { { "memory.size", given.value } };
    case 's':
        return parse_slot_option(given.value);
    case 'l':
        return parse_lpc_option(given.value);
    case 'b':
        return parse_boot_option(given.value);
    case 'p':
        return parse_pin_option(given.value);
    case 'U':
        return Assignments { { "uuid", given.value } };
    default: // -I
        return Assignments {};
    }
}

// Options that make bhyve print something and end.
bool choose_action(GivenOption const& given, BhyveCommand& command)
{
    using Action = BhyveCommand::Action;
    if (given.option->letter == 'h')
        command.action = Action::help;
    else if (given.option->name == "version")
        command.action = Action::version;
    else if (given.option->name == "doctor")
        command.action = Action::doctor;
    else if (given.option->name == "json")
        command.json = true;
    else if (given.option->letter == 's' && given.value == "help")
        command.action = Action::list_pci_devices;
    else if (given.option->letter == 'l' && given.value == "help")
        command.action = Action::list_lpc_devices;
    else
        return false;
    return true;
}

// Several options may speak of one slot through variables, but only one -s may fill it.
Result<void> check_slot_is_free(Assignments const& assignments, std::set<std::string>& occupied)
{
    for (auto const& [key, value] : assignments) {
        if (!key.ends_with(".device") || occupied.insert(key).second)
            continue;
        std::string slot = key.substr(4, key.size() - 4 - 7); // without "pci." and ".device"
        std::replace(slot.begin(), slot.end(), '.', ':');
        return make_error(EEXIST, "pci slot {} already occupied", slot);
    }
    return {};
}

Result<void> apply(GivenOption const& given, ConfigTree& variables, std::set<std::string>& occupied)
{
    if (given.option->letter == 'k')
        return variables.load_file(given.value);
    if (given.option->letter == 'o')
        return variables.assign(given.value);
    auto const assignments = TRY(assignments_of(given));
    if (given.option->letter == 's')
        TRY(check_slot_is_free(assignments, occupied));
    for (auto const& [key, value] : assignments)
        TRY(variables.set(key, value));
    return {};
}

} // namespace

ParsedBhyveCommand parse_bhyve_command(int count, char* const* arguments)
{
    ParsedBhyveCommand result;
    auto& command = result.command;
    auto const refuse = [&result](std::string message, bool usage = false, int code = exit_error) {
        result.refusal = BhyveRefusal { std::move(message), usage, code };
        return result;
    };
    auto line = parse_command_line(bhyve_tool(), count, arguments);
    if (!line.ok())
        return refuse(line.error().message(), true, exit_usage);
    std::set<std::string> occupied;
    for (auto const& given : line.value().options) {
        if (choose_action(given, command)) {
            if (command.action != BhyveCommand::Action::run && command.action != BhyveCommand::Action::doctor)
                return result;
            continue;
        }
        if (auto const applied = apply(given, command.variables, occupied); !applied.ok())
            return refuse(applied.error().message());
    }
    if (command.action == BhyveCommand::Action::doctor)
        return result;
    if (command.json)
        if (auto const chosen = command.variables.set("soft.profile_format", "json"); !chosen.ok())
            return refuse(chosen.error().message());
    auto const& operands = line.value().operands;
    if (operands.size() > 1)
        return refuse(fmt::format("one name of a virtual machine is wanted, not {}", operands.size()), true, exit_usage);
    if (operands.size() == 1)
        if (auto const named = command.variables.set("name", operands[0]); !named.ok())
            return refuse(named.error().message());
    if (!command.variables.has("name"))
        return refuse("the name of a virtual machine is missing", true, exit_usage);
    return result;
}

} // namespace anyhyve::tools
