// What tools say to their user: one line on the standard error output, behind the tool's name.
#pragma once

#include <cstdio>
#include <string_view>

#include <fmt/core.h>

namespace anyhyve::tools {

inline void complain(std::string_view tool, std::string_view message)
{
    std::string const line = fmt::format("{}: {}\n", tool, message);
    std::fputs(line.c_str(), stderr);
}

} // namespace anyhyve::tools
