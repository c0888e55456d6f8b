// bhyvectl: creates, destroys, inspects and changes virtual machines.
#include <cstdlib>

#include "tools/bhyvectl.hpp"
#include "tools/message.hpp"
#include "tools/tool_tables.hpp"

using namespace anyhyve;
using namespace anyhyve::tools;

namespace {

int run(int count, char** arguments)
{
    Tool const& tool = bhyvectl_tool();
    auto line = parse_command_line(tool, count, arguments);
    if (!line.ok()) {
        complain(tool.name, line.error().message());
        return EXIT_FAILURE;
    }
    for (auto const& given : line.value().options) {
        if (print_information(tool, given))
            return EXIT_SUCCESS;
    }
    if (count < 2) {
        std::fputs(usage_text(tool).c_str(), stderr);
        return EXIT_FAILURE;
    }
    if (!line.value().operands.empty()) {
        complain(tool.name, fmt::format("'{}' is no option", line.value().operands[0]));
        return EXIT_FAILURE;
    }
    Bhyvectl control(line.value());
    auto const done = control.run();
    if (!done.ok()) {
        complain(tool.name, done.error().message());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

} // namespace

int main(int count, char** arguments)
{
    return run(count, arguments);
}
