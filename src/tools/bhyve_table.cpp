// bhyve(8): its options.
#include "tools/tool_tables.hpp"

namespace anyhyve::tools {

namespace {

constexpr auto none = Argument::none;
constexpr auto required = Argument::required;

OptionGroup machine_options()
{
    return { "Machine",
        {
            { 'c', "", required, "topology", "Virtual CPUs: a number, or [[cpus=]N][,sockets=n][,cores=n][,threads=n]; the product of the three is N. Default: 1." },
            { 'm', "", required, "size", "Memory: a number of MiB, or with a suffix K, M, G or T. Default: 256M." },
            { 's', "", required, "slot,device[,conf]", "A PCI device at SLOT, SLOT:FUNCTION or BUS:SLOT:FUNCTION. -s help lists the devices." },
            { 'l', "", required, "device[,conf]", "A device on the LPC bridge, as com1,stdio. -l help lists them." },
            { 'b', "", required, "linux,kernel=F[,initrd=F][,entry=auto|32|64|pvh][,cmdline=...]",
                "Load a kernel and start it, in one step. The VM is created when there is none of this name, and then destroyed at the end. "
                "cmdline comes last and takes the rest, commas included." },
            { 'b', "", required, "multiboot,kernel=F[,cmdline=...][,module=F[ words]]...",
                "The same for a kernel with a Multiboot 1 header. Each module is a file, and words for the kernel behind its name." },
            { 'u', "", none, "", "The real-time clock keeps UTC; without this, local time." },
            { 'U', "", required, "uuid", "UUID of the machine, in its SMBIOS tables." },
            { 'f', "", required, "[name=]NAME,(string|file)=DATA", "A file for firmware that reads fw_cfg." },
            { 'n', "", required, "id=N,size=S,cpus=LIST", "A NUMA domain of the guest." },
            { 'K', "", required, "layout", "Keyboard layout." },
        } };
}

OptionGroup cpu_options()
{
    return { "Virtual CPUs",
        {
            { 'H', "", none, "", "HLT lets the thread of the virtual CPU sleep." },
            { 'P', "", none, "", "PAUSE in a loop lets other threads run." },
            { 'p', "", required, "vcpu:hostcpu", "Pin a virtual CPU, or a range of them, to a host CPU or range." },
            { 'x', "", none, "", "Local APICs may be used in x2APIC mode." },
            { 'a', "", none, "", "Local APICs in xAPIC mode only." },
            { 'w', "", none, "", "Unknown model-specific registers read as 0 and ignore writes; without this they raise #GP." },
            { 'e', "", none, "", "End with an error when the guest uses an I/O port where nothing is." },
        } };
}

OptionGroup board_options()
{
    return { "Tables and memory",
        {
            { 'A', "", none, "", "ACPI tables. They are always made: accepted for old command lines." },
            { 'I', "", none, "", "I/O APIC. It is always there: accepted for old command lines." },
            { 'Y', "", none, "", "No MultiProcessor Specification table." },
            { 'W', "", none, "", "Virtio devices use a single MSI in place of MSI-X." },
            { 'C', "", none, "", "Guest memory is part of a core dump." },
            { 'S', "", none, "", "Guest memory is locked in host memory." },
        } };
}

OptionGroup running_options()
{
    return { "Running",
        {
            { 'k', "", required, "file", "Read configuration variables from a file, a key=value to a line." },
            { 'o', "", required, "key=value",
                "Set a configuration variable. engine=auto|kvm|soft chooses what runs the virtual CPUs; log.file=PATH appends messages to a file in place of the standard error output; memory.huge_pages=false asks the host for no huge pages; soft.perf_map=true writes /tmp/perf-PID.map, by which perf(1) names translated code; "
                "config.dump=1 prints all variables and exits." },
            { 'D', "", none, "", "Destroy the VM when the guest powers off." },
            { 'M', "", none, "", "Monitor mode: the VM is created when there is none, and destroyed at the end." },
            { 'N', "", none, "", "Do not restart the VM when the guest reboots: exit with status 0." },
            { 'G', "", required, "[w][address:]port", "Debug server for gdb." },
            { 'r', "", required, "file", "Resume from a snapshot." },
            { 0, "doctor", none, "", "Tell what this host offers, and which engine would run." },
            { 0, "profile", Argument::optional, "file",
                "Watch where the time goes, which costs some of it, and report that at the end: to the file, or to the standard error output. "
                "Asked for earlier by bhyvectl --profile. Short for soft.profile and soft.profile_file." },
            { 0, "json", none, "", "With --doctor or --profile: as JSON." },
            { 'h', "help", none, "", "Print this text." },
            { 0, "version", none, "", "Print the version." },
        } };
}

} // namespace

Tool const& bhyve_tool()
{
    static Tool const tool {
        .name = "bhyve",
        .summary = "run a virtual machine",
        .operands = { "vmname", "-s help", "-l help", "--doctor [--json]" },
        .groups = { machine_options(), cpu_options(), board_options(), running_options() },
        .description = {
            "Runs a virtual machine that bhyveload has prepared, or one whose kernel -b names. "
            "All options are short for configuration variables: the order counts, and the last word on a variable wins.",
            "A reboot of the guest restarts the machine in place, unless -N is given. "
            "SIGTERM presses the ACPI power button when the guest has turned ACPI on, and ends the VM when it has not; a second SIGTERM ends the VM. "
            "SIGHUP ends it too.",
            "A console on stdio takes the terminal over. Ctrl-A x leaves it and ends the VM, Ctrl-A Ctrl-A sends one Ctrl-A.",
        },
        .exit_statuses = {
            { "0", "The guest rebooted, and -N was given." },
            { "1", "The guest powered off, or the command line was wrong." },
            { "2", "The guest halted for good." },
            { "3", "The guest ended by a triple fault." },
            { "4", "Trouble with the host, or a wrong configuration." },
            { "2v+1", "The guest wrote v to port 0xf4, and there was the device debug-exit or pc-testdev; the lowest 8 bits of it." },
        },
        .examples = {
            { "Boot a Linux kernel with its console on the terminal:",
                "bhyve -c 2 -m 512M -l com1,stdio -b linux,kernel=vmlinuz,initrd=initrd.img,cmdline=console=ttyS0 guest" },
            { "The same, and where its time went:",
                "bhyve --profile=report.txt -o soft.perf_map=true -m 512M -l com1,stdio -b linux,kernel=vmlinuz,initrd=initrd.img,cmdline=console=ttyS0 guest" },
            { "Run what bhyveload has prepared, with a disk:", "bhyve -m 1G -s 0,hostbridge -s 31,lpc -s 2,virtio-blk,disk.img -l com1,stdio guest" },
        },
        .see_also = { "bhyvectl 8", "bhyveload 8" },
    };
    return tool;
}

} // namespace anyhyve::tools
