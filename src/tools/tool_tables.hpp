// The option tables of the four tools.
#pragma once

#include "tools/option_table.hpp"

namespace anyhyve::tools {

Tool const& bhyve_tool();
Tool const& bhyveload_tool();
Tool const& bhyvectl_tool();
Tool const& grub_bhyve_tool();

} // namespace anyhyve::tools
