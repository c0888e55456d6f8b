// Whole reads and writes.
#include "host/file_io.hpp"

#include <unistd.h>

#include <algorithm>

namespace anyhyve::host {

Result<std::vector<u8>> read_to_end(int file, u64 most, std::string const& object)
{
    std::vector<u8> bytes;
    for (;;) {
        std::size_t const before = bytes.size();
        // One more byte than allowed tells a file of exactly `most` bytes from a longer one.
        std::size_t const step = static_cast<std::size_t>(std::min<u64>(most - before + 1, std::max<u64>(64 * KiB, before)));
        bytes.resize(before + step);
        ssize_t const count = read(file, bytes.data() + before, step);
        if (count < 0 && errno != EINTR)
            return Error::from_errno(errno, object);
        bytes.resize(before + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        if (count == 0)
            return bytes;
        if (bytes.size() > most)
            return make_error(EFBIG, "{}: longer than {} bytes", object, most);
    }
}

Result<void> write_all(int file, std::span<u8 const> bytes, std::string const& object)
{
    while (!bytes.empty()) {
        ssize_t const count = write(file, bytes.data(), bytes.size());
        if (count < 0 && errno != EINTR)
            return Error::from_errno(errno, object);
        if (count > 0)
            bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
}

} // namespace anyhyve::host
