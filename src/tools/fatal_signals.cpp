// Signals that end a tool whatever it does.
#include "tools/fatal_signals.hpp"

#include <csignal>
#include <cstring>
#include <unistd.h>

#include "device/console/raw_terminal.hpp"

namespace anyhyve::tools {

namespace {

char const* s_tool = "";
int s_exit_code = 1;

void write_text(char const* text)
{
    [[maybe_unused]] ssize_t const ignored = write(STDERR_FILENO, text, std::strlen(text));
}

// SAFETY: async-signal-safe calls only.
void on_bus_error(int)
{
    RawTerminal::restore_all();
    write_text(s_tool);
    write_text(": the host has no more memory for the virtual machine\n");
    _exit(s_exit_code);
}

// SAFETY: async-signal-safe calls only; the default action follows.
void on_abort(int)
{
    RawTerminal::restore_all();
    std::signal(SIGABRT, SIG_DFL);
    std::raise(SIGABRT);
}

} // namespace

void install_fatal_signal_handlers(char const* tool, int exit_code)
{
    s_tool = tool;
    s_exit_code = exit_code;
    // SAFETY: both handlers keep to async-signal-safe functions.
    struct sigaction action {};
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, nullptr);
    action.sa_handler = on_abort;
    sigaction(SIGABRT, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

} // namespace anyhyve::tools
