// bhyveload(8): its options.
#include "tools/tool_tables.hpp"

namespace anyhyve::tools {

namespace {

constexpr auto none = Argument::none;
constexpr auto required = Argument::required;

OptionGroup kernel_options()
{
    return { "Kernel",
        {
            { 'k', "kernel", required, "file", "Load this kernel: a Linux bzImage or vmlinux, an ELF file with a PVH entry, or a file with a Multiboot 1 header." },
            { 'i', "initrd", required, "file", "Initial RAM disk of the kernel; the first module of a multiboot kernel." },
            { 0, "module", required, "file [words]", "Module of a multiboot kernel. May be repeated." },
            { 'a', "append", required, "text", "Command line of the kernel." },
            { 0, "entry", required, "auto|32|64|pvh|multiboot", "Where and how the kernel is entered. Default: auto, as the kernel says." },
        } };
}

OptionGroup general_options()
{
    return { "General",
        {
            { 'm', "", required, "size", "Memory: a number of MiB, or with a suffix K, M, G or T. Default: 256M." },
            { 'c', "", required, "cons-dev", "Console of the boot loader: a terminal device, or stdio." },
            { 'd', "", required, "disk", "Disk that the boot loader sees. May be repeated." },
            { 'e', "", required, "name=value", "Variable of the boot loader. May be repeated." },
            { 'h', "", required, "host-path", "Host directory that the boot loader sees as host0:." },
            { 'l', "", required, "os-loader", "Boot loader to run." },
            { 'C', "", none, "", "Guest memory is part of a core dump." },
            { 'S', "", none, "", "Guest memory is locked in host memory." },
            { 0, "help", none, "", "Print this text." },
            { 0, "version", none, "", "Print the version." },
        } };
}

} // namespace

Tool const& bhyveload_tool()
{
    static Tool const tool {
        .name = "bhyveload",
        .summary = "load a kernel into a virtual machine",
        .operands = { "vmname" },
        .groups = { kernel_options(), general_options() },
        .description = {
            "Creates the virtual machine, or takes the one of that name back to its start, puts a kernel into its memory, "
            "sets the registers of its first virtual CPU, and exits. The machine then waits for bhyve to run it.",
            "This version loads kernels by -k. The FreeBSD boot loader, which -d, -h, -l and -e belong to, is not part of it.",
        },
        .exit_statuses = {
            { "0", "The machine is ready." },
            { "1", "It is not; one line on the standard error output says why." },
        },
        .examples = {
            { "Prepare a machine and run it:", "bhyveload -m 512M -k vmlinuz -i initrd.img -a console=ttyS0 guest && bhyve -m 512M -l com1,stdio guest" },
        },
        .see_also = { "bhyve 8", "bhyvectl 8" },
    };
    return tool;
}

} // namespace anyhyve::tools
