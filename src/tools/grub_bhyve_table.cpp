// grub-bhyve(8): its options.
#include "tools/tool_tables.hpp"

namespace anyhyve::tools {

namespace {

constexpr auto none = Argument::none;
constexpr auto required = Argument::required;

OptionGroup options()
{
    return { "Options",
        {
            { 'r', "root", required, "device", "Root device, as hd0,msdos1 or cd0 or host. Default: host." },
            { 'm', "device-map", required, "file", "Map of devices: lines such as (hd0) disk.img." },
            { 'd', "directory", required, "dir", "Directory of grub's files. Default: /boot/grub." },
            { 'g', "grub-cfg", required, "name", "Name of grub's configuration file. Default: grub.cfg." },
            { 'M', "memory", required, "size", "Memory: a number of MiB, or with a suffix K, M, G or T. Default: 256M." },
            { 'c', "cons-dev", required, "device", "Terminal device of the menu." },
            { 'n', "no-insert", none, "", "Do not put console=ttyS0 into the command lines of Linux kernels." },
            { 'e', "evga", none, "", "Leave the size of the VGA screen out of the boot parameters." },
            { 'S', "wire", none, "", "Guest memory is locked in host memory." },
            { 'v', "verbose", none, "", "Print more messages." },
            { 'H', "hold", Argument::optional, "seconds", "Wait before anything else, for a debugger." },
            { 'h', "help", none, "", "Print this text." },
            { 'V', "version", none, "", "Print the version." },
        } };
}

} // namespace

Tool const& grub_bhyve_tool()
{
    static Tool const tool {
        .name = "grub-bhyve",
        .summary = "load a kernel into a virtual machine by its grub.cfg",
        .operands = { "vmname" },
        .groups = { options() },
        .description = {
            "Takes the options of grub-bhyve and checks them. "
            "This version has no code to read file systems of guests, so it ends with a message that names the device. Kernels outside of disk images load by bhyveload -k or bhyve -b.",
        },
        .exit_statuses = { { "1", "No machine was prepared; one line on the standard error output says why." } },
        .examples = {},
        .see_also = { "bhyve 8", "bhyveload 8" },
    };
    return tool;
}

} // namespace anyhyve::tools
