// A disk's contents: a raw image file or a block device, read and written by worker threads.
// Threads: all calls from any thread. Completions run on a worker thread without locks of the back end.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <sys/uio.h>

#include "device/storage/block_options.hpp"
#include "vmm/statistics.hpp"

namespace anyhyve {

struct BlockRequest {
    enum class Operation : u8 { read, write, flush, discard, write_zeroes };
    // Whether success means that the data is on stable storage, or only that the next flush will put it there.
    enum class Durability : u8 { cached, durable };

    Operation operation = Operation::flush;
    Durability durability = Durability::cached;
    bool may_unmap = false;  // write_zeroes: the blocks may be given back
    u64 offset = 0;          // bytes; with length inside the disk
    u64 length = 0;          // bytes; for read and write the sum of the pieces
    std::vector<iovec> pieces; // memory that stays valid until completion
    std::function<void(int error)> completed; // an errno value, 0 for success
};

class BlockBackend {
public:
    static constexpr unsigned worker_count = 4;

    // Errors are sentences that name the path: missing, unreadable, a directory, in use by another machine, too small.
    static Result<std::unique_ptr<BlockBackend>> open(BlockOptions const&);
    ~BlockBackend();
    BlockBackend(BlockBackend const&) = delete;
    BlockBackend& operator=(BlockBackend const&) = delete;

    std::string const& path() const { return m_options.path; }
    u64 size() const { return m_size; } // bytes, a multiple of the logical sector
    u32 logical_sector() const { return m_logical_sector; }
    u32 physical_sector() const { return m_physical_sector; }
    bool read_only() const { return m_read_only; }
    bool can_discard() const { return !m_read_only && !m_options.no_delete; }
    BlockOptions const& options() const { return m_options; }

    // Offset and length must lie inside the disk, and the disk be writable for anything but reading and flushing: else EIO or EROFS
    // at completion. The order of requests in flight is not defined; a flush covers those that completed before it was submitted.
    void submit(BlockRequest request);
    // Waits until everything submitted has completed.
    void drain();
    // Drops what no worker has begun (it never completes) and waits for the rest. For a reset: after it nothing touches the pieces.
    void cancel();

private:
    BlockBackend(BlockOptions options, int file);
    Result<void> inspect();
    Result<void> lock_image();
    Result<void> start_workers();

    void work();
    int execute(BlockRequest&);
    int transfer(BlockRequest&);
    int transfer_pieces(int file, BlockRequest const&, std::vector<iovec>& pieces);
    int deallocate(BlockRequest const&);
    int zero(BlockRequest const&);
    int write_zero_bytes(u64 offset, u64 length);
    int flush();
    bool suits_direct(BlockRequest const&) const;

    BlockOptions m_options;
    int m_file;
    int m_buffered_file = -1; // with nocache: for requests that O_DIRECT cannot do
    u32 m_direct_alignment = 0;
    u64 m_size = 0;
    u32 m_logical_sector = 512;
    u32 m_physical_sector = 512;
    bool m_read_only = false;
    bool m_is_device = false;

    std::mutex m_mutex;
    std::condition_variable m_work_arrived;
    std::condition_variable m_idle;
    std::deque<BlockRequest> m_queue; // bounded by the rings of the device that submits
    unsigned m_waiting_workers = 0;
    unsigned m_running = 0;
    bool m_stopping = false;
    std::vector<std::thread> m_workers;
};

} // namespace anyhyve
