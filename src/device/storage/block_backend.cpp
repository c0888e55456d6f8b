// Opening of disk images, and the queue between devices and worker threads.
#include "device/storage/block_backend.hpp"

#include <algorithm>
#include <bit>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.hpp"
#include "host/thread.hpp"

namespace anyhyve {

namespace {

// O_NONBLOCK: opening a FIFO by mistake must not hang. It means nothing for files and block devices.
int open_image(BlockOptions const& options, int access)
{
    int const flags = access | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (options.synchronous ? O_SYNC : 0);
    return ::open(options.path.c_str(), flags);
}

bool is_no_permission(int code)
{
    return code == EACCES || code == EPERM || code == EROFS || code == ETXTBSY;
}

} // namespace

Result<std::unique_ptr<BlockBackend>> BlockBackend::open(BlockOptions const& wanted)
{
    BlockOptions options = wanted;
    int file = open_image(options, options.read_only ? O_RDONLY : O_RDWR);
    if (file < 0 && !options.read_only && is_no_permission(errno)) {
        int const code = errno;
        file = open_image(options, O_RDONLY);
        if (file < 0)
            return Error::from_errno(code, options.path);
        log::warning("{}: {}; the disk is read-only", options.path, std::strerror(code));
        options.read_only = true;
    }
    if (file < 0 && errno == EISDIR)
        return make_error(EISDIR, "{}: is a directory, not a disk image", options.path);
    if (file < 0)
        return Error::from_errno(errno, options.path);
    std::unique_ptr<BlockBackend> backend(new BlockBackend(std::move(options), file));
    TRY(backend->inspect());
    TRY(backend->lock_image());
    TRY(backend->start_workers());
    return backend;
}

BlockBackend::BlockBackend(BlockOptions options, int file)
    : m_options(std::move(options))
    , m_file(file)
    , m_read_only(m_options.read_only)
{
}

BlockBackend::~BlockBackend()
{
    {
        std::lock_guard lock(m_mutex);
        m_stopping = true;
    }
    m_work_arrived.notify_all();
    for (auto& worker : m_workers)
        worker.join();
    ::close(m_file);
    if (m_buffered_file >= 0)
        ::close(m_buffered_file);
}

Result<void> BlockBackend::inspect()
{
    struct stat status {};
    if (::fstat(m_file, &status) != 0)
        return Error::from_errno(errno, path());
    if (S_ISDIR(status.st_mode))
        return make_error(EISDIR, "{}: is a directory, not a disk image", path());
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return make_error(EINVAL, "{}: is neither a file nor a block device", path());
    u64 bytes = static_cast<u64>(status.st_size);
    u32 logical = 512;
    u32 physical = std::clamp<u32>(std::bit_floor(static_cast<u32>(status.st_blksize)), 512, 4096);
    if (S_ISBLK(status.st_mode)) {
        m_is_device = true;
        int device_logical = 0;
        unsigned device_physical = 0;
        if (::ioctl(m_file, BLKGETSIZE64, &bytes) != 0 || ::ioctl(m_file, BLKSSZGET, &device_logical) != 0)
            return Error::from_errno(errno, path());
        logical = static_cast<u32>(device_logical);
        physical = ::ioctl(m_file, BLKPBSZGET, &device_physical) == 0 ? device_physical : logical;
    }
    if (m_options.logical_sector) {
        if (m_is_device && m_options.logical_sector < logical)
            return make_error(EINVAL, "{}: sectorsize={} is below the device's own {}", path(), m_options.logical_sector, logical);
        logical = m_options.logical_sector;
        physical = m_options.physical_sector;
    }
    m_logical_sector = logical;
    m_physical_sector = std::max(logical, physical);
    m_size = bytes / logical * logical;
    if (m_size == 0)
        return make_error(EINVAL, "{}: {} bytes are less than one sector of {}", path(), bytes, logical);
    if (m_size != bytes)
        log::warning("{}: {} bytes are no multiple of the sector size {}; the last {} bytes are not used", path(), bytes, logical, bytes - m_size);

    if (m_options.no_cache) {
        // The same image twice: direct for what is aligned, through the page cache for the rest. The kernel keeps both coherent.
        m_buffered_file = open_image(m_options, m_read_only ? O_RDONLY : O_RDWR);
        if (m_buffered_file < 0)
            return Error::from_errno(errno, path());
        if (::fcntl(m_file, F_SETFL, O_DIRECT) != 0)
            log::warning("{}: its file system has no direct access ({}); nocache has no effect", path(), std::strerror(errno));
        else
            m_direct_alignment = std::max<u32>(512, m_is_device ? logical : std::bit_floor(static_cast<u32>(status.st_blksize)));
    }
    return {};
}

// An open-file-description lock: it belongs to this open image, not to the process, and goes with it in any case.
Result<void> BlockBackend::lock_image()
{
    struct flock range {};
    range.l_type = m_read_only ? F_RDLCK : F_WRLCK;
    range.l_whence = SEEK_SET;
    if (::fcntl(m_file, F_OFD_SETLK, &range) == 0)
        return {};
    if (errno == EAGAIN || errno == EACCES)
        return make_error(EBUSY, "{}: is in use by another machine{}", path(), m_read_only ? " that writes it" : "");
    log::warning("{}: cannot be locked against use by another machine: {}", path(), std::strerror(errno));
    return {};
}

Result<void> BlockBackend::start_workers()
{
    for (unsigned i = 0; i < worker_count; ++i)
        m_workers.push_back(TRY(host::start_thread(fmt::format("disk {}", i), [this] { work(); })));
    return {};
}

void BlockBackend::submit(BlockRequest request)
{
    bool wake = false;
    {
        std::lock_guard lock(m_mutex);
        m_queue.push_back(std::move(request));
        wake = m_waiting_workers != 0;
    }
    if (wake)
        m_work_arrived.notify_one();
}

void BlockBackend::work()
{
    std::unique_lock lock(m_mutex);
    for (;;) {
        while (m_queue.empty() && !m_stopping) {
            ++m_waiting_workers;
            m_work_arrived.wait(lock);
            --m_waiting_workers;
        }
        if (m_queue.empty())
            return;
        BlockRequest request = std::move(m_queue.front());
        m_queue.pop_front();
        ++m_running;
        lock.unlock();
        int const error = execute(request);
        if (request.completed)
            request.completed(error);
        lock.lock();
        if (--m_running == 0 && m_queue.empty())
            m_idle.notify_all();
    }
}

void BlockBackend::drain()
{
    std::unique_lock lock(m_mutex);
    m_idle.wait(lock, [this] { return m_running == 0 && m_queue.empty(); });
}

void BlockBackend::cancel()
{
    std::unique_lock lock(m_mutex);
    m_queue.clear();
    m_idle.wait(lock, [this] { return m_running == 0 && m_queue.empty(); });
}

} // namespace anyhyve
