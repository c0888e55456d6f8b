// Loads the kernel of a boot request into a machine's memory: what bhyveload does, and bhyve at each start and reboot.
#pragma once

#include "boot/kernel.hpp"
#include "machine/machine_config.hpp"

namespace anyhyve::machine {

// The words of the command line: auto, 32, 64, pvh, multiboot; and the loaders' own names for them.
Result<boot::KernelEntry> parse_entry(std::string_view);

// What a module is given as: the path of its file, a blank, and the words that its reader finds beside it.
struct ModuleWords {
    std::string path, text;
};
ModuleWords split_module(std::string const&);

// Finds wrong files before a machine is touched for them.
Result<void> check_boot_files(BootRequest const&);

// Opens the files and loads them; memory is the whole of the machine's.
Result<boot::LoadedGuest> load_guest(GuestMemory&, BootRequest const&);

// The command line that a Linux kernel gets: the user's, and behind it what it should not measure on a busy host.
std::string with_clock_hints(std::string command_line);

} // namespace anyhyve::machine
