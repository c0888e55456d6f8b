// bhyve's command line, as what to do and the configuration variables it is short for.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/option_table.hpp"
#include "vmm/config_tree.hpp"

namespace anyhyve::tools {

// Variables that one option sets.
using Assignments = std::vector<std::pair<std::string, std::string>>;

// What bhyve ends with (bhyve(8), EXIT STATUS).
enum ExitCode : int { exit_reset = 0, exit_power_off = 1, exit_usage = 1, exit_halted = 2, exit_triple_fault = 3, exit_error = 4 };

struct BhyveCommand {
    enum class Action { run, usage, help, version, doctor, list_pci_devices, list_lpc_devices };
    Action action = Action::run;
    bool json = false;
    ConfigTree variables;
};

struct BhyveRefusal {
    std::string message;
    bool show_usage = false;
    int exit_code = exit_error;
};

// `command` is what the user wants, unless `refusal` says why that cannot be.
struct ParsedBhyveCommand {
    BhyveCommand command;
    std::optional<BhyveRefusal> refusal;
};

ParsedBhyveCommand parse_bhyve_command(int count, char* const* arguments);

// The parts, for tests and for other tools.
Result<Assignments> parse_cpu_option(std::string_view text);
Result<Assignments> parse_slot_option(std::string_view text);
Result<Assignments> parse_lpc_option(std::string_view text);
Result<Assignments> parse_boot_option(std::string_view text);
Result<Assignments> parse_pin_option(std::string_view text);

} // namespace anyhyve::tools
