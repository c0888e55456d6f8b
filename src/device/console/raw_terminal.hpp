// A terminal whose keys all belong to the guest, until this object goes: then it is as it was, also when the program exits early.
#pragma once

#include <termios.h>

#include "base/result.hpp"

namespace anyhyve {

class RawTerminal {
public:
    RawTerminal() = default;
    ~RawTerminal() { restore(); }
    RawTerminal(RawTerminal const&) = delete;
    RawTerminal& operator=(RawTerminal const&) = delete;

    // `file` stays the caller's and must stay open. Not a terminal: an error.
    Result<void> enter(int file, std::string const& name);
    void restore();

    // Restores every raw terminal of the process. Async-signal-safe: for handlers of fatal signals.
    static void restore_all();

private:
    int m_file = -1;
    termios m_saved {};
};

} // namespace anyhyve
