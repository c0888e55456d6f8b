// A lock on an open file that goes away with its holder, however that ends (fcntl(2), open file description locks).
// It belongs to the open file: threads and forked children share it, and O_CLOEXEC drops it at exec.
#pragma once

#include <string>

#include "base/result.hpp"

namespace anyhyve::host {

// Takes the whole file, which must be open for writing, for itself; EWOULDBLOCK at once when another open of it has it.
// Closing the file gives it back. `object` names the file in messages.
Result<void> try_lock_file(int file, std::string const& object);
// The same, but waits up to `milliseconds` (then ETIMEDOUT).
Result<void> lock_file(int file, unsigned milliseconds, std::string const& object);
void unlock_file(int file);
// Does another open of the file hold the lock right now? Only looks: nobody's attempt fails because of it.
bool file_is_locked(int file);

} // namespace anyhyve::host
