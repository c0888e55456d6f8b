// grub-bhyve: takes grub-bhyve's command line, checks it, and says what this version cannot do.
#include <cstdlib>
#include <unistd.h>

#include "machine/quantities.hpp"
#include "tools/message.hpp"
#include "tools/tool_tables.hpp"

using namespace anyhyve;
using namespace anyhyve::tools;

namespace {

struct Settings {
    std::string root = "host";
    std::string device_map;
    std::string directory = "/boot/grub";
    std::string configuration = "grub.cfg";
};

Result<void> check_option(GivenOption const& given, Settings& settings)
{
    switch (given.option->letter) {
    case 'r':
        settings.root = given.value;
        break;
    case 'm':
        settings.device_map = given.value;
        break;
    case 'd':
        settings.directory = given.value;
        break;
    case 'g':
        settings.configuration = given.value;
        break;
    case 'M':
        TRY(machine::parse_memory_size(given.value));
        break;
    default:
        break;
    }
    return {};
}

Result<void> check_files(Settings const& settings)
{
    if (!settings.device_map.empty() && access(settings.device_map.c_str(), R_OK) != 0)
        return Error::from_errno(errno, settings.device_map);
    return {};
}

int run(int count, char** arguments)
{
    Tool const& tool = grub_bhyve_tool();
    auto line = parse_command_line(tool, count, arguments);
    if (!line.ok()) {
        complain(tool.name, line.error().message());
        std::fputs(usage_text(tool).c_str(), stderr);
        return EXIT_FAILURE;
    }
    Settings settings;
    for (auto const& given : line.value().options) {
        if (print_information(tool, given))
            return EXIT_SUCCESS;
        if (auto const checked = check_option(given, settings); !checked.ok()) {
            complain(tool.name, checked.error().message());
            return EXIT_FAILURE;
        }
    }
    if (line.value().operands.size() != 1) {
        complain(tool.name, line.value().operands.empty() ? "the name of a virtual machine is missing" : "only one virtual machine can be named");
        return EXIT_FAILURE;
    }
    if (auto const checked = check_files(settings); !checked.ok()) {
        complain(tool.name, checked.error().message());
        return EXIT_FAILURE;
    }
    complain(tool.name,
        fmt::format("{}: this version cannot read ({}){}/{}; load the kernel with 'bhyveload -k' or 'bhyve -b linux,kernel=...'", line.value().operands[0],
            settings.root, settings.directory, settings.configuration));
    return EXIT_FAILURE;
}

} // namespace

int main(int count, char** arguments)
{
    return run(count, arguments);
}
