// What the worker threads of a disk do: vectored reads and writes, flushes, discards, zeroes.
#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.hpp"
#include "device/storage/block_backend.hpp"

namespace anyhyve {

namespace {

using Operation = BlockRequest::Operation;
using Durability = BlockRequest::Durability;

bool is_unsupported(int code)
{
    return code == EOPNOTSUPP || code == ENOSYS || code == EINVAL || code == ENOTTY;
}

off_t file_offset(u64 offset)
{
    return static_cast<off_t>(offset);
}

} // namespace

int BlockBackend::execute(BlockRequest& request)
{
    bool const changes = request.operation != Operation::read && request.operation != Operation::flush;
    if (changes && m_read_only)
        return EROFS;
    if (request.operation != Operation::flush && (request.offset > m_size || request.length > m_size - request.offset))
        return EIO;
    int error = 0;
    switch (request.operation) {
    case Operation::read:
        return transfer(request);
    case Operation::write:
        return transfer(request); // durable by RWF_DSYNC
    case Operation::flush:
        return flush();
    case Operation::discard:
        error = deallocate(request);
        break;
    case Operation::write_zeroes:
        error = zero(request);
        break;
    }
    return error == 0 && request.durability == Durability::durable ? flush() : error;
}

// O_DIRECT wants offset, length and memory aligned (open(2), NOTES).
bool BlockBackend::suits_direct(BlockRequest const& request) const
{
    u64 combined = request.offset | request.length;
    for (auto const& piece : request.pieces) {
        // SAFETY: only the number of the address is looked at.
        combined |= reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len;
    }
    return is_aligned(combined, m_direct_alignment);
}

int BlockBackend::transfer(BlockRequest& request)
{
    bool const buffered = m_direct_alignment && !suits_direct(request);
    return transfer_pieces(buffered ? m_buffered_file : m_file, request, request.pieces);
}

// Goes on after short transfers and over IOV_MAX pieces; consumes `pieces`.
int BlockBackend::transfer_pieces(int file, BlockRequest const& request, std::vector<iovec>& pieces)
{
    bool const reading = request.operation == Operation::read;
    int const flags = !reading && request.durability == Durability::durable ? RWF_DSYNC : 0;
    u64 offset = request.offset;
    std::size_t first = 0;
    while (first < pieces.size()) {
        if (pieces[first].iov_len == 0) {
            ++first;
            continue;
        }
        int const count = static_cast<int>(std::min<std::size_t>(pieces.size() - first, IOV_MAX));
        ssize_t const moved = reading ? ::preadv(file, &pieces[first], count, file_offset(offset))
                                      : ::pwritev2(file, &pieces[first], count, file_offset(offset), flags);
        if (moved < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        if (moved == 0)
            return EIO; // somebody made the image shorter
        offset += static_cast<u64>(moved);
        std::size_t left = static_cast<std::size_t>(moved);
        while (left != 0) {
            std::size_t const step = std::min(left, pieces[first].iov_len);
            pieces[first].iov_base = static_cast<u8*>(pieces[first].iov_base) + step;
            pieces[first].iov_len -= step;
            left -= step;
            if (pieces[first].iov_len == 0)
                ++first;
        }
    }
    return 0;
}

int BlockBackend::flush()
{
    if (m_read_only)
        return 0;
    while (::fdatasync(m_file) != 0) {
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

int BlockBackend::deallocate(BlockRequest const& request)
{
    // Advice: a file system that keeps the blocks has done no harm.
    if (!can_discard() || request.length == 0)
        return 0;
    int const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (::fallocate(m_file, mode, file_offset(request.offset), file_offset(request.length)) != 0) {
        if (is_unsupported(errno))
            return 0;
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

int BlockBackend::zero(BlockRequest const& request)
{
    if (request.length == 0)
        return 0;
    // A hole reads as zeroes too, and gives the blocks back, where the guest and the user allow that.
    bool const punch = request.may_unmap && can_discard();
    for (int const mode : { punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
             FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE }) {
        int result = 0;
        do
            result = ::fallocate(m_file, mode, file_offset(request.offset), file_offset(request.length));
        while (result != 0 && errno == EINTR);
        if (result == 0)
            return 0;
        if (!is_unsupported(errno))
            return errno;
    }
    return write_zero_bytes(request.offset, request.length);
}

int BlockBackend::write_zero_bytes(u64 offset, u64 length)
{
    alignas(4096) static std::array<u8, 64 * KiB> zeroes {}; // not const: then it takes no room in the file
    int const file = m_buffered_file >= 0 ? m_buffered_file : m_file;
    while (length != 0) {
        ssize_t const moved = ::pwrite(file, zeroes.data(), std::min<u64>(length, zeroes.size()), file_offset(offset));
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return moved < 0 ? errno : EIO;
        offset += static_cast<u64>(moved);
        length -= static_cast<u64>(moved);
    }
    return 0;
}

} // namespace anyhyve
