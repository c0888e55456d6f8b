// generate-man: writes the manual pages of all tools into a folder.
#include <cstdlib>

#include "tools/message.hpp"
#include "tools/tool_tables.hpp"

using namespace anyhyve::tools;

int main(int count, char** arguments)
{
    if (count != 2) {
        complain("generate-man", "name the folder for the manual pages");
        return EXIT_FAILURE;
    }
    for (Tool const* tool : { &bhyve_tool(), &bhyveload_tool(), &bhyvectl_tool(), &grub_bhyve_tool() }) {
        std::string const path = fmt::format("{}/{}.8", arguments[1], tool->name);
        std::FILE* const file = std::fopen(path.c_str(), "we");
        if (!file) {
            complain("generate-man", fmt::format("{}: {}", path, std::strerror(errno)));
            return EXIT_FAILURE;
        }
        bool const written = std::fputs(manual_page(*tool).c_str(), file) >= 0;
        if (std::fclose(file) != 0 || !written) {
            complain("generate-man", fmt::format("{}: {}", path, std::strerror(errno)));
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
