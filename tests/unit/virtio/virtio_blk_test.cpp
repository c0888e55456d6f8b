// The virtio block device end to end, through both transports: data, errors, durability, interrupts, reset in flight, saving.
#include <fstream>

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "device/virtio/virtio_blk.hpp"
#include "device/virtio/virtio_blk_registers.hpp"
#include "guest_driver.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {
namespace {

// The system calls that decide about durability, in order, and how slow they are.
struct DiskLog {
    std::mutex mutex;
    std::string calls; // w: write, W: write that is durable by itself, s: sync
    std::atomic<int> delay_milliseconds { 0 };
    void note(char call)
    {
        if (delay_milliseconds)
            std::this_thread::sleep_for(std::chrono::milliseconds(delay_milliseconds));
        std::lock_guard lock(mutex);
        calls += call;
    }
    std::string take()
    {
        std::lock_guard lock(mutex);
        return std::exchange(calls, {});
    }
} s_disk;

} // namespace
} // namespace anyhyve

// Stand before the C library's own, so that the test sees every write and sync of the back end.
extern "C" int fdatasync(int file)
{
    static auto* const real = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "fdatasync"));
    int const result = real(file);
    anyhyve::s_disk.note('s');
    return result;
}
extern "C" ssize_t pwritev2(int file, iovec const* pieces, int count, off_t offset, int flags)
{
    static auto* const real = reinterpret_cast<ssize_t (*)(int, iovec const*, int, off_t, int)>(dlsym(RTLD_NEXT, "pwritev2"));
    ssize_t const result = real(file, pieces, count, offset, flags);
    anyhyve::s_disk.note(flags & RWF_DSYNC ? 'W' : 'w');
    return result;
}

namespace anyhyve {
namespace {

using testing::ElementsAre;
using testing::Pair;

constexpr u64 header_at = 0x200000, data_at = 0x210000, status_at = 0x240000;

struct VirtioBlkTest : testing::TestWithParam<Transport> {
    TemporaryFolder folder;
    std::string path = folder.path() + "/image";
    VirtioBoard board;
    std::unique_ptr<VirtioBlk> disk;
    std::unique_ptr<GuestDriver> driver;
    u16 used = 0;

    void open(std::string const& options = {}, VirtioWires::Interrupts interrupts = VirtioWires::Interrupts::msix)
    {
        auto created = VirtioBlk::create(board.wires(interrupts), { 0, 4, 0 }, DeviceOptions::parse(path + (options.empty() ? "" : "," + options), "path"));
        ASSERT_TRUE(created.ok()) << created.error().message();
        disk = created.release_value();
        board.plug(*disk);
        driver = std::make_unique<GuestDriver>(board, *disk, GetParam());
    }
    void SetUp() override
    {
        s_disk.delay_milliseconds = 0;
        s_disk.take();
        std::ofstream image(path, std::ios::binary);
        for (u32 i = 0; i < 2048; ++i) {
            std::string sector(512, static_cast<char>(i % 251));
            image << sector;
        }
    }
    void TearDown() override
    {
        driver.reset();
        disk.reset();
    }
    void start(u64 features = virtio_blk_flush)
    {
        driver->start(features);
        used = 0;
    }
    void put_header(VirtioBlkRequest type, u64 sector)
    {
        board.memory->write_value(Gpa(header_at), static_cast<u32>(type));
        board.memory->write_value(Gpa(header_at + 4), u32 { 0 });
        board.memory->write_value(Gpa(header_at + 8), sector);
        board.memory->write_value(Gpa(status_at), u8 { 0xee });
    }
    // Offers the chain that starts at descriptor 0 and waits.
    u8 run()
    {
        driver->ring().offer(0);
        driver->kick();
        EXPECT_TRUE(driver->wait_for_used(static_cast<u16>(++used)));
        u8 status = 0;
        board.memory->read_value(Gpa(status_at), status);
        return status;
    }
    u8 request(VirtioBlkRequest type, u64 sector, u32 bytes)
    {
        put_header(type, sector);
        bool const reads = type == VirtioBlkRequest::in || type == VirtioBlkRequest::get_id;
        auto& ring = driver->ring();
        ring.describe(0, header_at, 16, ring_next, bytes ? 1 : 2);
        ring.describe(1, data_at, bytes, static_cast<u16>(ring_next | (reads ? ring_write : 0)), 2);
        ring.describe(2, status_at, 1, ring_write);
        return run();
    }
    u32 written() const { return driver->ring().used_length(static_cast<u16>(used - 1)); }
    u8 data(u64 offset) const
    {
        u8 value = 0;
        board.memory->read_value(Gpa(data_at + offset), value);
        return value;
    }
    char file_byte(u64 offset) const
    {
        std::ifstream image(path, std::ios::binary);
        image.seekg(static_cast<std::streamoff>(offset));
        return static_cast<char>(image.get());
    }
    u8 segments(VirtioBlkRequest type, std::vector<std::array<u64, 3>> const& list)
    {
        u64 at = data_at;
        for (auto const& [sector, sectors, flags] : list) {
            board.memory->write_value(Gpa(at), sector);
            board.memory->write_value(Gpa(at + 8), static_cast<u32>(sectors));
            board.memory->write_value(Gpa(at + 12), static_cast<u32>(flags));
            at += 16;
        }
        return request(type, 0, static_cast<u32>(at - data_at));
    }
};

TEST_P(VirtioBlkTest, IdentityAndConfiguration)
{
    open("ser=disk-one,sectorsize=512/4096");
    EXPECT_EQ(disk->config_read(0, 4), 0x10011af4U);
    EXPECT_EQ(disk->config_read(0x2c, 4), 0x00021af4U);
    EXPECT_EQ(disk->config_read(8, 1), 0U);
    EXPECT_EQ(disk->name(), "virtio-blk@0:4:0");
    u64 const offered = driver->offered();
    EXPECT_EQ(offered & 0xffffffff, virtio_blk_segments_max | virtio_blk_geometry | virtio_blk_block_size | virtio_blk_flush | virtio_blk_topology
            | virtio_blk_config_writeback | virtio_blk_discard | virtio_blk_write_zeroes | virtio_any_layout | virtio_indirect_descriptors
            | virtio_event_index);
    EXPECT_EQ(offered >> 32, driver->legacy() ? 0U : 1U);
    start();
    EXPECT_EQ(driver->config(0, 4), 2048U);
    EXPECT_EQ(driver->config(4, 4), 0U);
    EXPECT_EQ(driver->config(12, 4), 126U);
    EXPECT_EQ(driver->config(20, 4), 512U);
    EXPECT_EQ(driver->config(24, 1), 3U);
    EXPECT_EQ(driver->config(32, 1), 1U);
    EXPECT_EQ(request(VirtioBlkRequest::get_id, 0, 20), virtio_blk_ok);
    EXPECT_EQ(data(0), 'd');
    EXPECT_EQ(data(7), 'e');
    EXPECT_EQ(data(8), 0);
    EXPECT_EQ(written(), 21U);
}

TEST_P(VirtioBlkTest, ReadsAndWrites)
{
    open();
    start();
    EXPECT_EQ(request(VirtioBlkRequest::in, 5, 4096), virtio_blk_ok);
    EXPECT_EQ(written(), 4097U);
    for (u32 i = 0; i < 8; ++i)
        EXPECT_EQ(data(512 * i + 511), 5 + i);
    std::vector<u8> const pattern(4096, 0xab);
    board.memory->write(Gpa(data_at), pattern.data(), pattern.size());
    EXPECT_EQ(request(VirtioBlkRequest::out, 2040, 4096), virtio_blk_ok);
    EXPECT_EQ(written(), 1U);
    EXPECT_EQ(file_byte(2040 * 512), '\xab');
    EXPECT_EQ(file_byte(2048 * 512 - 1), '\xab');
    EXPECT_EQ(file_byte(2040 * 512 - 1), static_cast<char>(2039 % 251));
    auto const statistics = disk->statistics();
    EXPECT_EQ(statistics[0].value, 1U);
    EXPECT_EQ(statistics[5].value, 4096U);
    EXPECT_EQ(statistics[6].value, 4096U);
}

TEST_P(VirtioBlkTest, AnyLayout)
{
    open();
    start();
    put_header(VirtioBlkRequest::in, 9);
    // Header in three parts, data and status in one buffer each cut at odd places.
    auto& ring = driver->ring();
    ring.describe(0, header_at, 3, ring_next, 1);
    ring.describe(1, header_at + 3, 12, ring_next, 2);
    ring.describe(2, header_at + 15, 1, ring_next, 3);
    ring.describe(3, data_at, 100, ring_next | ring_write, 4);
    ring.describe(4, status_at - 412, 413, ring_write);
    EXPECT_EQ(run(), virtio_blk_ok);
    EXPECT_EQ(data(99), 9);
    u8 last = 0;
    board.memory->read_value(Gpa(status_at - 1), last);
    EXPECT_EQ(last, 9);
    EXPECT_EQ(written(), 513U);
}

TEST_P(VirtioBlkTest, Refusals)
{
    open();
    start();
    EXPECT_EQ(request(VirtioBlkRequest::in, 2047, 1024), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::in, 2048, 512), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::in, ~u64 { 0 }, 512), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::in, (~u64 { 0 } >> 9) + 1, 512), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::out, ~u64 { 0 } >> 9, 1024), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::in, 0, 511), virtio_blk_io_error);
    EXPECT_EQ(written(), 1U);
    for (u32 type : { 2U, 3U, 5U, 14U, 0x80000000U, 0xffffffffU })
        EXPECT_EQ(request(static_cast<VirtioBlkRequest>(type), 0, 512), virtio_blk_unsupported) << type;
    EXPECT_EQ(request(VirtioBlkRequest::in, 0, 0), virtio_blk_ok); // nothing, successfully
    // A header that is too short, and none at all.
    auto& ring = driver->ring();
    ring.describe(0, header_at, 15, ring_next, 1);
    ring.describe(1, status_at, 1, ring_write);
    EXPECT_EQ(run(), virtio_blk_io_error);
    ring.describe(0, status_at, 1, ring_write);
    EXPECT_EQ(run(), virtio_blk_io_error);
    // No byte for the status: given back, and nothing is written.
    ring.describe(0, header_at, 16, 0);
    run();
    EXPECT_EQ(written(), 0U);
    ring.describe(0, header_at, 0, 0);
    run();
    EXPECT_EQ(written(), 0U);
    EXPECT_EQ(request(VirtioBlkRequest::in, 1, 512), virtio_blk_ok);
}

TEST_P(VirtioBlkTest, BigSectors)
{
    open("sectorsize=4096");
    start();
    EXPECT_EQ(driver->config(20, 4), 4096U);
    EXPECT_EQ(driver->config(44, 4), 8U);
    EXPECT_EQ(request(VirtioBlkRequest::in, 8, 4096), virtio_blk_ok);
    EXPECT_EQ(data(0), 8);
    EXPECT_EQ(request(VirtioBlkRequest::in, 1, 4096), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::in, 8, 512), virtio_blk_io_error);
    EXPECT_EQ(segments(VirtioBlkRequest::discard, { { 1, 8, 0 } }), virtio_blk_io_error);
}

TEST_P(VirtioBlkTest, ReadOnly)
{
    open("ro");
    EXPECT_TRUE(driver->offered() & virtio_blk_read_only);
    EXPECT_FALSE(driver->offered() & (virtio_blk_discard | virtio_blk_write_zeroes));
    start();
    EXPECT_EQ(request(VirtioBlkRequest::out, 0, 512), virtio_blk_io_error);
    EXPECT_EQ(segments(VirtioBlkRequest::write_zeroes, { { 0, 1, 0 } }), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::in, 3, 512), virtio_blk_ok);
    EXPECT_EQ(request(VirtioBlkRequest::flush, 0, 0), virtio_blk_ok);
}

TEST_P(VirtioBlkTest, DiscardAndZeroes)
{
    open();
    start(virtio_blk_flush | virtio_blk_discard | virtio_blk_write_zeroes);
    EXPECT_EQ(segments(VirtioBlkRequest::write_zeroes, { { 10, 2, 0 }, { 20, 1, 1 } }), virtio_blk_ok);
    EXPECT_EQ(request(VirtioBlkRequest::in, 10, 1024), virtio_blk_ok);
    EXPECT_EQ(data(0), 0);
    EXPECT_EQ(data(1023), 0);
    EXPECT_EQ(file_byte(20 * 512), 0);
    EXPECT_EQ(file_byte(21 * 512), 21);
    EXPECT_EQ(segments(VirtioBlkRequest::discard, { { 64, 64, 0 } }), virtio_blk_ok);
    EXPECT_EQ(segments(VirtioBlkRequest::discard, { { 64, 64, 1 } }), virtio_blk_unsupported);
    EXPECT_EQ(segments(VirtioBlkRequest::write_zeroes, { { 64, 64, 2 } }), virtio_blk_unsupported);
    // Nothing is done when one part is wrong.
    EXPECT_EQ(segments(VirtioBlkRequest::write_zeroes, { { 30, 1, 0 }, { 2048, 1, 0 } }), virtio_blk_io_error);
    EXPECT_EQ(file_byte(30 * 512), 30);
    EXPECT_EQ(segments(VirtioBlkRequest::discard, { { ~u64 { 0 }, 1, 0 } }), virtio_blk_io_error);
    EXPECT_EQ(segments(VirtioBlkRequest::discard, { { 1, 0xffffffff, 0 } }), virtio_blk_io_error);
    EXPECT_EQ(segments(VirtioBlkRequest::discard, std::vector<std::array<u64, 3>>(17, { 0, 1, 0 })), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::discard, 0, 15), virtio_blk_io_error);
    EXPECT_EQ(request(VirtioBlkRequest::discard, 0, 0), virtio_blk_io_error);
}

TEST_P(VirtioBlkTest, WithoutFlushEveryWriteIsDurable)
{
    open();
    start(0);
    EXPECT_EQ(request(VirtioBlkRequest::out, 0, 512), virtio_blk_ok);
    EXPECT_EQ(s_disk.take(), "W");
    EXPECT_EQ(segments(VirtioBlkRequest::write_zeroes, { { 0, 1, 0 } }), virtio_blk_ok);
    EXPECT_EQ(s_disk.take(), "s");
}

TEST_P(VirtioBlkTest, AFlushCompletesAfterTheSync)
{
    open();
    start();
    EXPECT_EQ(request(VirtioBlkRequest::out, 0, 512), virtio_blk_ok);
    EXPECT_EQ(s_disk.take(), "w");
    s_disk.delay_milliseconds = 30;
    EXPECT_EQ(request(VirtioBlkRequest::flush, 0, 0), virtio_blk_ok);
    EXPECT_EQ(s_disk.take(), "s"); // noted before the completion was seen
}

TEST_P(VirtioBlkTest, TheCacheModeRegister)
{
    open();
    start(virtio_blk_flush | virtio_blk_config_writeback);
    driver->set_config(32, 1, 0);
    EXPECT_EQ(driver->config(32, 1), 0U);
    request(VirtioBlkRequest::out, 0, 512);
    EXPECT_EQ(s_disk.take(), "W");
    driver->set_config(32, 1, 1);
    request(VirtioBlkRequest::out, 0, 512);
    EXPECT_EQ(s_disk.take(), "w");
    start(virtio_blk_flush); // not negotiated: the register does nothing
    driver->set_config(32, 1, 0);
    request(VirtioBlkRequest::out, 0, 512);
    EXPECT_EQ(s_disk.take(), "w");
}

TEST_P(VirtioBlkTest, InterruptsByPin)
{
    open();
    start();
    request(VirtioBlkRequest::in, 0, 512);
    disk->quiesce();
    EXPECT_TRUE(board.line());
    EXPECT_EQ(driver->isr(), virtio_isr_queue);
    EXPECT_FALSE(board.line());
    EXPECT_EQ(driver->isr(), 0);
    driver->ring().set_no_interrupt(1);
    request(VirtioBlkRequest::in, 0, 512);
    disk->quiesce();
    EXPECT_FALSE(board.line());
}

TEST_P(VirtioBlkTest, InterruptsByMsix)
{
    open();
    driver->enable_msix();
    driver->set_status(0);
    start();
    driver->route_vectors();
    request(VirtioBlkRequest::in, 3, 512);
    disk->quiesce();
    EXPECT_THAT(board.messages(), ElementsAre(Pair(0xfee00000U, 0x41U)));
    EXPECT_FALSE(board.line());
    EXPECT_EQ(driver->config(0, 4), 2048U); // the legacy configuration has moved by four bytes
    if (driver->legacy()) {
        driver->out(VirtioLegacy::queue_msix_vector, 2, 9);
        EXPECT_EQ(driver->in(VirtioLegacy::queue_msix_vector, 2), 0xffffU);
    }
}

TEST_P(VirtioBlkTest, InterruptsBySingleMsi)
{
    open({}, VirtioWires::Interrupts::msi);
    EXPECT_EQ(driver->msix_capability(), 0);
    u16 const msi = driver->msi_capability();
    ASSERT_NE(msi, 0);
    disk->config_write(static_cast<u16>(msi + 4), 4, 0xfee00000);
    disk->config_write(static_cast<u16>(msi + 12), 2, 0x55);
    disk->config_write(static_cast<u16>(msi + 2), 2, 1);
    start();
    request(VirtioBlkRequest::in, 3, 512);
    disk->quiesce();
    EXPECT_THAT(board.messages(), ElementsAre(Pair(0xfee00000U, 0x55U)));
    EXPECT_EQ(driver->isr(), virtio_isr_queue);
}

TEST_P(VirtioBlkTest, ABrokenRingStopsTheDeviceUntilReset)
{
    open();
    start();
    driver->ring().describe(0, header_at, 16, ring_next, 0);
    driver->ring().offer(0);
    driver->kick();
    EXPECT_EQ(driver->status() & virtio_needs_reset, driver->legacy() ? 0 : virtio_needs_reset);
    EXPECT_EQ(driver->isr(), driver->legacy() ? 0 : virtio_isr_config);
    driver->kick();
    EXPECT_EQ(driver->ring().used_index(), 0);
    start();
    EXPECT_EQ(request(VirtioBlkRequest::in, 4, 512), virtio_blk_ok);
}

TEST_P(VirtioBlkTest, ManyRequestsInFlight)
{
    open();
    start(virtio_blk_flush | virtio_indirect_descriptors | virtio_event_index);
    auto& ring = driver->ring();
    u16 const size = ring.layout.size;
    for (u16 round = 0; round < 20; ++round) {
        for (u16 i = 0; i < size; ++i) {
            u64 const table = 0x300000 + u64 { i } * 0x1000;
            u64 const sector = static_cast<u64>(round * 97 + i * 13) % 2048;
            board.memory->write_value(Gpa(table + 0x100), u64 { 0 });
            board.memory->write_value(Gpa(table + 0x108), sector);
            ring.describe_at(table, 0, table + 0x100, 16, ring_next, 1);
            ring.describe_at(table, 1, table + 0x200, 512, ring_next | ring_write, 2);
            ring.describe_at(table, 2, table + 0x400, 1, ring_write);
            ring.describe(i, table, 48, ring_indirect);
            ring.offer(i);
        }
        driver->kick();
        used = static_cast<u16>(used + size);
        ASSERT_TRUE(driver->wait_for_used(used));
        for (u16 i = 0; i < size; ++i) {
            u64 const table = 0x300000 + u64 { i } * 0x1000;
            u8 byte = 0, status = 0xee;
            board.memory->read_value(Gpa(table + 0x200), byte);
            board.memory->read_value(Gpa(table + 0x400), status);
            ASSERT_EQ(status, virtio_blk_ok);
            ASSERT_EQ(byte, (round * 97 + i * 13) % 2048 % 251);
        }
    }
}

TEST_P(VirtioBlkTest, ResetWithRequestsInFlight)
{
    open();
    for (int round = 0; round < 20; ++round) {
        start(virtio_indirect_descriptors);
        auto& ring = driver->ring();
        s_disk.delay_milliseconds = 2;
        put_header(VirtioBlkRequest::out, 0);
        ring.describe(0, header_at, 16, ring_next, 1);
        ring.describe(1, data_at, 512, ring_next, 2);
        ring.describe(2, status_at, 1, ring_write);
        for (u16 i = 0; i < ring.layout.size; ++i)
            ring.offer(0);
        driver->kick();
        driver->set_status(0);
        EXPECT_EQ(driver->status(), 0);
        // From here on the memory is the guest's again.
        u16 const stopped_at = ring.used_index();
        board.memory->write_value(Gpa(status_at), u8 { 0x77 });
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        u8 status = 0;
        board.memory->read_value(Gpa(status_at), status);
        EXPECT_EQ(status, 0x77);
        EXPECT_EQ(ring.used_index(), stopped_at);
        driver->kick();
        EXPECT_EQ(ring.used_index(), stopped_at);
    }
    s_disk.delay_milliseconds = 0;
    start();
    EXPECT_EQ(request(VirtioBlkRequest::in, 4, 512), virtio_blk_ok);
}

TEST_P(VirtioBlkTest, ResetWhileAnotherVcpuWorks)
{
    open();
    start();
    std::atomic<bool> stop { false };
    std::thread other([&] {
        while (!stop) {
            driver->kick();
            driver->isr();
            driver->status();
            driver->config(0, 4);
        }
    });
    for (int i = 0; i < 200; ++i) {
        driver->set_status(0);
        driver->set_status(virtio_acknowledge);
    }
    stop = true;
    other.join();
    start();
    EXPECT_EQ(request(VirtioBlkRequest::in, 4, 512), virtio_blk_ok);
}

TEST_P(VirtioBlkTest, ASavedDeviceGoesOn)
{
    open();
    start(virtio_blk_flush);
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(request(VirtioBlkRequest::in, 4, 512), virtio_blk_ok);
    disk->quiesce();
    driver->isr();
    Encoder encoder;
    disk->save(encoder);
    disk->reset();
    EXPECT_EQ(driver->status(), 0);
    Decoder decoder(encoder.bytes());
    auto const restored = disk->restore(decoder, 1);
    ASSERT_TRUE(restored.ok()) << restored.error().message();
    EXPECT_EQ(request(VirtioBlkRequest::in, 6, 512), virtio_blk_ok);
    EXPECT_EQ(data(0), 6);
    EXPECT_EQ(driver->ring().used_index(), 6);
    for (std::size_t cut = 0; cut < encoder.bytes().size(); cut += 5) {
        Decoder damaged(std::span(encoder.bytes()).first(cut));
        EXPECT_FALSE(disk->restore(damaged, 1).ok());
    }
}

TEST_P(VirtioBlkTest, ConfigurationAccessCapability)
{
    open();
    start();
    u16 const at = driver->access_capability();
    ASSERT_NE(at, 0);
    auto const window = [&](u32 bar, u32 offset, u32 length) {
        disk->config_write(static_cast<u16>(at + 4), 1, bar);
        disk->config_write(static_cast<u16>(at + 8), 4, offset);
        disk->config_write(static_cast<u16>(at + 12), 4, length);
    };
    window(4, 0x2000, 4);
    EXPECT_EQ(disk->config_read(static_cast<u16>(at + 16), 4), 2048U);
    window(4, 22, 2);
    disk->config_write(static_cast<u16>(at + 16), 2, 7);
    EXPECT_EQ(disk->config_read(static_cast<u16>(at + 16), 2), 7U);
    // Points at nothing: harmless.
    for (auto const& [bar, offset, length] : std::vector<std::array<u32, 3>> { { 1, 0, 4 }, { 2, 0, 4 }, { 5, 0, 4 }, { 255, 0, 4 }, { 4, 0x4000, 4 },
             { 4, 0xfffffffc, 4 }, { 4, 0, 0 }, { 4, 0, 8 }, { 4, 1, 4 }, { 4, 0x3fff, 2 } }) {
        window(bar, offset, length);
        disk->config_write(static_cast<u16>(at + 16), 4, 0xffffffff);
        EXPECT_EQ(disk->config_read(static_cast<u16>(at + 16), 4), 0xffffffffU);
    }
}

TEST_P(VirtioBlkTest, RandomRegisterAccesses)
{
    open();
    u64 random = 7 + static_cast<u64>(GetParam());
    auto const next = [&] { return (random = random * 6364136223846793005 + 1442695040888963407) >> 33; };
    u64 const port = disk->bar_address(0), modern = disk->bar_address(4), msix = disk->bar_address(1);
    for (int i = 0; i < 60'000; ++i) {
        unsigned const width = 1U << (next() % 4);
        u64 const value = next() % 3 ? next() % 16 : next() << (next() % 40);
        u64 ignored = 0;
        switch (next() % 8) {
        case 0:
            board.port_bus.read(port + next() % 128, std::min(width, 4U), ignored);
            break;
        case 1:
            board.port_bus.write(port + next() % 24, std::min(width, 4U), value);
            break;
        case 2:
            board.memory_bus.read(modern + next() % 0x4000, width, ignored);
            break;
        case 3:
        case 4:
            board.memory_bus.write(modern + (next() % 64), width, value);
            break;
        case 5:
            board.memory_bus.write(modern + 0x2000 + next() % 0x1010, width, value);
            break;
        case 6:
            board.memory_bus.write(msix + next() % 64, width, value);
            break;
        default:
            disk->config_read(static_cast<u16>(next() % 260), std::min(width, 4U));
            disk->config_write(static_cast<u16>(0x40 + next() % 0xc0), std::min(width, 4U), static_cast<u32>(value));
        }
    }
    disk->reset();
    driver = std::make_unique<GuestDriver>(board, *disk, GetParam());
    start();
    EXPECT_EQ(request(VirtioBlkRequest::in, 4, 512), virtio_blk_ok);
}

INSTANTIATE_TEST_SUITE_P(Transports, VirtioBlkTest, testing::Values(Transport::legacy, Transport::modern),
    [](auto const& parameter) { return parameter.param == Transport::legacy ? "legacy" : "modern"; });

TEST(VirtioBlk, RefusesWrongOptions)
{
    VirtioBoard board;
    auto const refusal = [&](std::string const& options) {
        auto const created = VirtioBlk::create(board.wires(), { 0, 4, 0 }, DeviceOptions::parse(options, "path"));
        return created.ok() ? "created" : created.error().message();
    };
    EXPECT_EQ(refusal("/nonexistent/disk"), "/nonexistent/disk: No such file or directory");
    EXPECT_THAT(refusal("/nonexistent/disk,ser=123456789012345678901"), testing::HasSubstr("more than 20 characters"));
    EXPECT_EQ(refusal(""), "the disk has no path");
}

} // namespace
} // namespace anyhyve
