// Locks of fcntl(2) F_OFD_SETLK. They conflict between opens of a file, unlike the older F_SETLK, which any close() of it drops.
#include "host/file_lock.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

namespace anyhyve::host {

static struct flock whole_file(short type)
{
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    return lock; // start 0, length 0: to the end, wherever that will be
}

Result<void> try_lock_file(int file, std::string const& object)
{
    struct flock lock = whole_file(F_WRLCK);
    if (fcntl(file, F_OFD_SETLK, &lock) != 0)
        return Error::from_errno(errno == EACCES ? EWOULDBLOCK : errno, object);
    return {};
}

// F_OFD_SETLKW has no timeout, and alarms are not for a library: ask again every few milliseconds.
Result<void> lock_file(int file, unsigned milliseconds, std::string const& object)
{
    constexpr unsigned step = 2;
    for (unsigned waited = 0;; waited += step) {
        auto const taken = try_lock_file(file, object);
        if (taken.ok() || taken.error().code() != EWOULDBLOCK)
            return taken;
        if (waited >= milliseconds)
            return make_error(ETIMEDOUT, "{}: still locked by another process after {} ms", object, milliseconds);
        timespec const pause { 0, step * 1'000'000 };
        nanosleep(&pause, nullptr);
    }
}

void unlock_file(int file)
{
    struct flock lock = whole_file(F_UNLCK);
    fcntl(file, F_OFD_SETLK, &lock);
}

bool file_is_locked(int file)
{
    struct flock lock = whole_file(F_WRLCK);
    return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

} // namespace anyhyve::host
