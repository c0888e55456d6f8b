// Signals that end a tool whatever it does: the terminal is put back first, and one line says why.
#pragma once

namespace anyhyve::tools {

// SIGBUS: the host has no page for guest memory. SIGABRT: a fault of ours.
void install_fatal_signal_handlers(char const* tool, int exit_code);

} // namespace anyhyve::tools
