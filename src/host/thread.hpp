// Threads of ours: named, deaf to signals that the main thread takes, and bound to host CPUs on request.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::host {

// Starts `body` on a new thread called `name` (as ps -L and top show it; cut to 15 bytes). All signals but those that an instruction of
// the thread itself causes (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP) are blocked in it.
Result<std::thread> start_thread(std::string_view name, std::function<void()> body);

// Renames the calling thread.
void set_thread_name(std::string_view name);

// Wake-ups of the calling thread's sleeps come as precisely as the host can, instead of up to 50 us late (prctl(2), PR_SET_TIMERSLACK).
void set_precise_wakeups();

// Binds the calling thread to these host CPUs. EINVAL when the host has none of them.
Result<void> pin_thread(std::vector<unsigned> const& cpus);

// "0-3,8" -> 0 1 2 3 8. Numbers up to 65535.
Result<std::vector<unsigned>> parse_cpu_list(std::string_view list);

} // namespace anyhyve::host
