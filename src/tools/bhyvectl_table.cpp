// bhyvectl(8): its options.
#include "tools/hardware_fields.hpp"
#include "tools/register_table.hpp"
#include "tools/tool_tables.hpp"

namespace anyhyve::tools {

namespace {

constexpr auto none = Argument::none;
constexpr auto required = Argument::required;

OptionGroup machine_options()
{
    return { "Machines",
        {
            { 0, "vm", required, "name", "The virtual machine." },
            { 0, "cpu", required, "vcpu", "The virtual CPU that registers and counters belong to. Default: 0." },
            { 0, "create", none, "", "Create the machine." },
            { 0, "destroy", none, "", "Destroy it, running or not." },
            { 0, "get-vm-pid", none, "", "Process that runs the machine." },
            { 0, "get-stats", none, "", "Counters of the virtual CPU and of the machine." },
            { 0, "profile", none, "", "Where the time of a running machine went: counters, and samples when it was started with bhyve --profile." },
            { 0, "get-all", none, "", "All registers and settings." },
            { 0, "json", none, "", "Answer in JSON." },
            { 0, "inject-nmi", none, "", "A non-maskable interrupt for the virtual CPU." },
            { 0, "force-reset", none, "", "Reset a running machine." },
            { 0, "force-poweroff", none, "", "Power a running machine off." },
            { 0, "checkpoint", required, "file", "Save a running machine to a file." },
            { 0, "suspend", required, "file", "Save a running machine to a file, and end it." },
            { 0, "pause", none, "", "Stop all virtual CPUs and the clock of a running machine." },
            { 0, "resume", none, "", "Let them go on." },
            { 0, "hold", none, "", "Stop the virtual CPU alone; the others go on." },
            { 0, "step", none, "", "Let a held virtual CPU execute one instruction." },
            { 0, "release", none, "", "Let it go on." },
            { 'h', "help", none, "", "Print this text." },
            { 0, "version", none, "", "Print the version." },
        } };
}

OptionGroup register_options()
{
    OptionGroup group { "Registers", {} };
    for (auto const& row : register_rows())
        group.options.push_back({ 0, fmt::format("get-{}", row.name), none, "", fmt::format("Show {}.", row.name) });
    for (auto const& row : register_rows())
        group.options.push_back({ 0, fmt::format("set-{}", row.name), required, "value", fmt::format("Set {}.", row.name) });
    return group;
}

OptionGroup descriptor_options()
{
    OptionGroup group { "Descriptors",
        {
            { 0, "desc-base", required, "base", "Base for --set-desc." },
            { 0, "desc-limit", required, "limit", "Limit in bytes for --set-desc." },
            { 0, "desc-access", required, "access", "Access rights for --set-desc." },
        } };
    for (auto const& row : descriptor_rows())
        group.options.push_back({ 0, fmt::format("get-desc-{}", row.name), none, "", fmt::format("Show base, limit and access rights of {}.", row.name) });
    for (auto const& row : descriptor_rows())
        group.options.push_back({ 0, fmt::format("set-desc-{}", row.name), none, "", fmt::format("Set base, limit and access rights of {}.", row.name) });
    return group;
}

OptionGroup memory_options()
{
    return { "Memory",
        {
            { 0, "set-mem", required, "MB", "Size of memory, when the machine has none yet." },
            { 0, "get-memseg", none, "", "Memory segments." },
            { 0, "get-memmap", none, "", "Where they appear in the guest." },
            { 0, "get-lowmem", none, "", "Memory below 4 GiB." },
            { 0, "get-highmem", none, "", "Memory above 4 GiB." },
            { 0, "get-gpa-pmap", required, "address", "Whether memory is at this guest physical address." },
        } };
}

OptionGroup device_options()
{
    return { "CPU sets, APIC and clock",
        {
            { 0, "get-active-cpus", none, "", "Virtual CPUs of the machine." },
            { 0, "get-suspended-cpus", none, "", "Virtual CPUs that do not run." },
            { 0, "get-debug-cpus", none, "", "Virtual CPUs that a debugger holds." },
            { 0, "get-cpu-topology", none, "", "Sockets, cores and threads." },
            { 0, "get-x2apic-state", none, "", "Whether the local APIC may be used in x2APIC mode." },
            { 0, "set-x2apic-state", required, "0|1", "Choose that, before the machine runs." },
            { 0, "get-intinfo", none, "", "Event that waits for delivery." },
            { 0, "assert-lapic-lvt", required, "pin", "An interrupt through this entry of the local vector table." },
            { 0, "get-rtc-time", none, "", "Time of the real-time clock." },
            { 0, "set-rtc-time", required, "seconds", "Set it: seconds since 1970." },
            { 0, "get-rtc-nvram", none, "", "Byte of the clock's memory." },
            { 0, "set-rtc-nvram", required, "value", "Set it." },
            { 0, "rtc-nvram-offset", required, "offset", "Which byte." },
            { 0, "capname", required, "name", "Capability of the virtual CPU: hlt_exit, mtrap_exit, pause_exit, unrestricted_guest, enable_invpcid, bpt_exit." },
            { 0, "getcap", none, "", "Show it." },
            { 0, "setcap", required, "0|1", "Set it." },
            { 0, "run", none, "", "Run the virtual CPU." },
            { 0, "unassign-pptdev", required, "bus/slot/function", "Take a passed-through device away." },
        } };
}

OptionGroup hardware_options()
{
    OptionGroup group { "Fields of virtualization hardware", {} };
    for (auto const field : hardware_fields)
        group.options.push_back({ 0, fmt::format("get-{}", field), none, "", "Refused: a machine on the software engine has none." });
    for (auto const field : { "exception-bitmap", "vmcs-entry-interruption-info" })
        group.options.push_back({ 0, fmt::format("set-{}", field), required, "value", "Refused, for the same reason." });
    return group;
}

} // namespace

Tool const& bhyvectl_tool()
{
    static Tool const tool {
        .name = "bhyvectl",
        .summary = "control virtual machines",
        .operands = { "--vm=name [--cpu=N] [options]" },
        .groups = { machine_options(), register_options(), descriptor_options(), memory_options(), device_options(), hardware_options() },
        .description = {
            "Creates, destroys, inspects and changes a virtual machine. "
            "A machine that runs is asked through its control socket; one that does not run is read from, and written to, its saved state.",
            "In one call, what sets comes before what shows. The first error ends the rest. "
            "Numbers may be decimal or hexadecimal with 0x.",
        },
        .exit_statuses = { { "0", "All was done." }, { "1", "Something was not; one line on the standard error output says what." } },
        .examples = {
            { "Where is the first virtual CPU?", "bhyvectl --vm=guest --get-rip --get-cr3" },
            { "Where does its time go? (It was started with bhyve --profile.)", "bhyvectl --vm=guest --profile" },
            { "Remove a machine:", "bhyvectl --vm=guest --destroy" },
        },
        .see_also = { "bhyve 8", "bhyveload 8" },
        .synopsis_lists_options = false,
    };
    return tool;
}

} // namespace anyhyve::tools
