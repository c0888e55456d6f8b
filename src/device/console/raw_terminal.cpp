// Raw mode of terminals and its undoing.
#include "device/console/raw_terminal.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include <unistd.h>

namespace anyhyve {

namespace {

// One for stdio and one for each COM port at most: found by a signal handler, hence atomics and no allocation.
struct SavedTerminal {
    std::atomic<int> file { -1 };
    termios mode {};
};
std::array<SavedTerminal, 8> s_saved;
std::once_flag s_at_exit;

} // namespace

Result<void> RawTerminal::enter(int file, std::string const& name)
{
    restore();
    if (tcgetattr(file, &m_saved) != 0)
        return Error::from_errno(errno, name);
    termios raw = m_saved;
    tcflag_t const output = raw.c_oflag;
    cfmakeraw(&raw);
    raw.c_oflag = output; // messages of this program use the same screen
    raw.c_cflag |= CLOCAL;
    if (tcsetattr(file, TCSANOW, &raw) != 0)
        return Error::from_errno(errno, name);
    m_file = file;
    for (auto& saved : s_saved) {
        if (saved.file.load() < 0) {
            saved.mode = m_saved;
            saved.file.store(file);
            break;
        }
    }
    std::call_once(s_at_exit, [] { std::atexit([] { restore_all(); }); });
    return {};
}

void RawTerminal::restore()
{
    if (m_file < 0)
        return;
    for (auto& saved : s_saved) {
        int expected = m_file;
        saved.file.compare_exchange_strong(expected, -1);
    }
    tcsetattr(m_file, TCSANOW, &m_saved);
    m_file = -1;
}

void RawTerminal::restore_all()
{
    for (auto& saved : s_saved) {
        if (int const file = saved.file.exchange(-1); file >= 0)
            tcsetattr(file, TCSANOW, &saved.mode);
    }
}

} // namespace anyhyve
