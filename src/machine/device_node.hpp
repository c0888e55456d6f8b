// The appearance of a machine at /dev/vmm/NAME, where scripts made for bhyve look for it: a link to the machine's directory.
// Only root can make it, and nothing of ours needs it: failures are not reported.
#pragma once

#include <string>

namespace anyhyve::machine {

void publish_device_node(std::string const& name, std::string const& directory);
// Removes it when it leads to `directory`.
void withdraw_device_node(std::string const& name, std::string const& directory);

} // namespace anyhyve::machine
