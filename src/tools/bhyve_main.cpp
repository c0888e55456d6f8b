// bhyve: runs a virtual machine.
#include <cstdlib>

#include "base/log.hpp"
#include "machine/device_table.hpp"
#include "tools/bhyve_options.hpp"
#include "tools/bhyve_runner.hpp"
#include "tools/doctor.hpp"
#include "tools/fatal_signals.hpp"
#include "tools/message.hpp"
#include "tools/tool_tables.hpp"

using namespace anyhyve;
using namespace anyhyve::tools;

namespace {

int print(std::string const& text)
{
    return std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? exit_error : EXIT_SUCCESS;
}

// config.dump=1: the variables, ready for -k.
int dump(ConfigTree& variables)
{
    if (auto const erased = variables.erase("config.dump"); !erased.ok())
        complain("bhyve", erased.error().message());
    if (auto const set = machine::set_default_variables(variables); !set.ok())
        complain("bhyve", set.error().message());
    print(variables.dump());
    return exit_power_off;
}

int run(ConfigTree variables)
{
    auto const wants_dump = variables.boolean_or("config.dump", false);
    if (wants_dump.ok() && wants_dump.value())
        return dump(variables);
    install_fatal_signal_handlers("bhyve", exit_error);
    BhyveRunner runner(std::move(variables));
    auto const code = runner.run();
    if (code.ok())
        return code.value();
    complain("bhyve", code.error().message());
    return exit_error;
}

int act(BhyveCommand& command)
{
    using Action = BhyveCommand::Action;
    switch (command.action) {
    case Action::usage:
    case Action::help:
        // libvirt reads it from here.
        std::fputs(usage_text(bhyve_tool()).c_str(), stderr);
        return EXIT_SUCCESS;
    case Action::version:
        return print(version_text(bhyve_tool()));
    case Action::doctor: {
        auto const report = examine_host();
        return print(command.json ? report_json(report) : report_text(report));
    }
    case Action::list_pci_devices:
        return print(machine::device_help());
    case Action::list_lpc_devices:
        return print(machine::lpc_device_help());
    case Action::run:
        break;
    }
    return run(std::move(command.variables));
}

} // namespace

int main(int count, char** arguments)
{
    auto parsed = parse_bhyve_command(count, arguments);
    if (!parsed.refusal)
        return act(parsed.command);
    complain("bhyve", parsed.refusal->message);
    if (parsed.refusal->show_usage)
        std::fputs(usage_text(bhyve_tool()).c_str(), stderr);
    return parsed.refusal->exit_code;
}
