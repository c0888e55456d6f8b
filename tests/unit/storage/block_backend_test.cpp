// Disk images: opening and its errors, transfers, flush, discard, zeroes, cancelling, locking.
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <numeric>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.hpp"
#include "device/storage/block_backend.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {
namespace {

using testing::HasSubstr;
using Operation = BlockRequest::Operation;

struct BlockBackendTest : testing::Test {
    TemporaryFolder folder;
    std::string path = folder.path() + "/image";

    void make_image(u64 size)
    {
        std::ofstream { path };
        ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(size)), 0);
    }
    Result<std::unique_ptr<BlockBackend>> open(std::string const& options = {})
    {
        auto const parsed = BlockOptions::parse(DeviceOptions::parse(path + (options.empty() ? "" : "," + options), "path"));
        if (!parsed.ok())
            return parsed.error();
        return BlockBackend::open(parsed.value());
    }
    std::string refusal(std::string const& options = {})
    {
        auto const opened = open(options);
        return opened.ok() ? "opened" : opened.error().message();
    }
    // Submits and waits.
    static int run(BlockBackend& backend, Operation operation, u64 offset, std::vector<std::span<u8>> const& pieces, u64 length = 0)
    {
        int result = -1;
        BlockRequest request;
        request.operation = operation;
        request.offset = offset;
        request.length = length;
        request.may_unmap = true;
        for (auto const& piece : pieces) {
            request.pieces.push_back({ piece.data(), piece.size() });
            request.length += piece.size();
        }
        request.completed = [&](int error) { result = error; };
        backend.submit(std::move(request));
        backend.drain();
        return result;
    }
    u64 blocks() const
    {
        struct stat status {};
        ::stat(path.c_str(), &status);
        return static_cast<u64>(status.st_blocks);
    }
};

TEST_F(BlockBackendTest, ErrorsNameThePath)
{
    EXPECT_EQ(refusal(), path + ": No such file or directory");
    path = folder.path();
    EXPECT_THAT(refusal(), HasSubstr(path + ": is a directory"));
    EXPECT_THAT(refusal("ro"), HasSubstr(path + ": is a directory"));
    path = "/dev/null";
    EXPECT_EQ(refusal(), "/dev/null: is neither a file nor a block device");
    path = folder.path() + "/fifo";
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_THAT(refusal(), HasSubstr("is neither a file nor a block device"));
}

TEST_F(BlockBackendTest, Sizes)
{
    make_image(0);
    EXPECT_EQ(refusal(), path + ": 0 bytes are less than one sector of 512");
    make_image(511);
    EXPECT_EQ(refusal(), path + ": 511 bytes are less than one sector of 512");
    make_image(1000);
    EXPECT_EQ(open().value()->size(), 512U);
    make_image(10 * 4096 + 512);
    EXPECT_EQ(open().value()->size(), 10U * 4096 + 512);
    auto const big_sectors = open("sectorsize=4096").release_value();
    EXPECT_EQ(big_sectors->size(), 10U * 4096);
    EXPECT_EQ(big_sectors->logical_sector(), 4096U);
    EXPECT_EQ(big_sectors->physical_sector(), 4096U);
}

TEST_F(BlockBackendTest, Options)
{
    make_image(1 * MiB);
    auto const backend = open("sectorsize=512/8192,nodelete,bootindex=3").release_value();
    EXPECT_EQ(backend->physical_sector(), 8192U);
    EXPECT_FALSE(backend->can_discard());
    EXPECT_EQ(backend->options().boot_index, 3U);
    for (char const* bad : { "sectorsize=513", "sectorsize=256", "sectorsize=4096/512", "sectorsize=x", "sectorsize=512/", "ro=perhaps" })
        EXPECT_THAT(refusal(bad), testing::Not("opened")) << bad;
    path.clear();
    EXPECT_EQ(refusal(), "the disk has no path");
}

TEST_F(BlockBackendTest, AnImageHasOneWriter)
{
    make_image(1 * MiB);
    {
        auto const writer = open().release_value();
        EXPECT_EQ(refusal(), path + ": is in use by another machine");
        EXPECT_EQ(refusal("ro"), path + ": is in use by another machine that writes it");
    }
    auto const reader = open("ro").release_value();
    EXPECT_TRUE(open("ro").ok());
    EXPECT_EQ(refusal(), path + ": is in use by another machine");
}

TEST_F(BlockBackendTest, VectoredTransfers)
{
    make_image(1 * MiB);
    for (char const* options : { "", "direct", "nocache", "nocache,sync" }) {
        auto const backend = open(options).release_value();
        std::vector<u8> written(8192), got(8192);
        std::iota(written.begin(), written.end(), static_cast<u8>(options[0]));
        std::span<u8> const out(written), in(got);
        EXPECT_EQ(run(*backend, Operation::write, 512, { out.subspan(0, 1), out.subspan(1, 4095), out.subspan(4096, 0), out.subspan(4096) }), 0);
        EXPECT_EQ(run(*backend, Operation::flush, 0, {}), 0);
        EXPECT_EQ(run(*backend, Operation::read, 512, { in.subspan(0, 5000), in.subspan(5000) }), 0);
        EXPECT_EQ(got, written) << options;
    }
}

TEST_F(BlockBackendTest, DirectAndAligned)
{
    make_image(1 * MiB);
    auto const backend = open("nocache").release_value();
    alignas(4096) static std::array<u8, 8192> written, got;
    written.fill(0x5a);
    EXPECT_EQ(run(*backend, Operation::write, 4096, { written }), 0);
    EXPECT_EQ(run(*backend, Operation::read, 4096, { got }), 0);
    EXPECT_EQ(got, written);
}

TEST_F(BlockBackendTest, OutsideOfTheDisk)
{
    make_image(1 * MiB);
    auto const backend = open().release_value();
    std::vector<u8> bytes(512);
    EXPECT_EQ(run(*backend, Operation::read, 1 * MiB, { bytes }), EIO);
    EXPECT_EQ(run(*backend, Operation::read, 1 * MiB - 256, { bytes }), EIO);
    EXPECT_EQ(run(*backend, Operation::write, ~u64 { 511 }, { bytes }), EIO);
    EXPECT_EQ(run(*backend, Operation::discard, 512, {}, ~u64 { 0 }), EIO);
    ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
    EXPECT_EQ(run(*backend, Operation::read, 8192, { bytes }), EIO); // the file became shorter
}

TEST_F(BlockBackendTest, ReadOnly)
{
    make_image(1 * MiB);
    auto const backend = open("ro").release_value();
    std::vector<u8> bytes(512);
    EXPECT_TRUE(backend->read_only());
    EXPECT_EQ(run(*backend, Operation::read, 0, { bytes }), 0);
    EXPECT_EQ(run(*backend, Operation::write, 0, { bytes }), EROFS);
    EXPECT_EQ(run(*backend, Operation::discard, 0, {}, 512), EROFS);
    EXPECT_EQ(run(*backend, Operation::write_zeroes, 0, {}, 512), EROFS);
    EXPECT_EQ(run(*backend, Operation::flush, 0, {}), 0);
}

TEST_F(BlockBackendTest, DiscardAndZeroes)
{
    make_image(4 * MiB);
    std::vector<u8> ones(4 * MiB, 0xff), got(1 * MiB), zeroes(1 * MiB);
    {
        auto const backend = open().release_value();
        ASSERT_EQ(run(*backend, Operation::write, 0, { ones }), 0);
        ASSERT_EQ(run(*backend, Operation::flush, 0, {}), 0);
        u64 const full = blocks();
        EXPECT_EQ(run(*backend, Operation::write_zeroes, 1 * MiB, {}, 1 * MiB), 0);
        EXPECT_EQ(run(*backend, Operation::read, 1 * MiB, { got }), 0);
        EXPECT_EQ(got, zeroes);
        EXPECT_EQ(run(*backend, Operation::discard, 2 * MiB, {}, 1 * MiB), 0);
        EXPECT_LT(blocks(), full);
        EXPECT_EQ(run(*backend, Operation::discard, 2 * MiB, {}, 0), 0);
        EXPECT_EQ(run(*backend, Operation::read, 3 * MiB, { got }), 0);
        EXPECT_EQ(got, std::vector<u8>(1 * MiB, 0xff));
    }
    auto const keeps = open("nodelete").release_value();
    u64 const before = blocks();
    EXPECT_EQ(run(*keeps, Operation::discard, 3 * MiB, {}, 1 * MiB), 0);
    EXPECT_EQ(run(*keeps, Operation::write_zeroes, 3 * MiB, {}, 512 * KiB), 0);
    EXPECT_EQ(blocks(), before);
    got.resize(512 * KiB);
    zeroes.resize(512 * KiB);
    EXPECT_EQ(run(*keeps, Operation::read, 3 * MiB, { got }), 0);
    EXPECT_EQ(got, zeroes);
    EXPECT_EQ(run(*keeps, Operation::read, 3 * MiB + 512 * KiB, { got }), 0);
    EXPECT_EQ(got, std::vector<u8>(512 * KiB, 0xff));
}

TEST_F(BlockBackendTest, CancelDropsWhatWaitsAndWaitsForWhatRuns)
{
    make_image(1 * MiB);
    auto const backend = open().release_value();
    std::mutex mutex;
    std::condition_variable changed;
    unsigned entered = 0, completed = 0;
    bool go = false;
    for (unsigned i = 0; i < BlockBackend::worker_count + 20; ++i) {
        BlockRequest request;
        request.completed = [&](int) {
            std::unique_lock lock(mutex);
            ++entered;
            changed.notify_all();
            changed.wait(lock, [&] { return go; });
            ++completed;
        };
        backend->submit(std::move(request));
    }
    {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return entered == BlockBackend::worker_count; });
    }
    std::thread releaser([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        std::lock_guard lock(mutex);
        go = true;
        changed.notify_all();
    });
    backend->cancel();
    EXPECT_EQ(completed, BlockBackend::worker_count);
    releaser.join();
    EXPECT_EQ(run(*backend, Operation::flush, 0, {}), 0);
    EXPECT_EQ(completed, BlockBackend::worker_count);
}

TEST_F(BlockBackendTest, ManyAtOnce)
{
    make_image(8 * MiB);
    auto const backend = open().release_value();
    std::vector<std::vector<u8>> blocks_written;
    std::atomic<int> failures { 0 };
    for (unsigned i = 0; i < 2000; ++i)
        blocks_written.emplace_back(4096, static_cast<u8>(i * 7));
    for (unsigned i = 0; i < 2000; ++i) {
        BlockRequest request;
        request.operation = Operation::write;
        request.offset = u64 { i } * 4096;
        request.length = 4096;
        request.pieces = { { blocks_written[i].data(), 4096 } };
        request.completed = [&](int error) { failures += error != 0; };
        backend->submit(std::move(request));
    }
    backend->drain();
    EXPECT_EQ(failures, 0);
    std::vector<u8> got(2000 * 4096);
    EXPECT_EQ(run(*backend, Operation::read, 0, { got }), 0);
    for (unsigned i = 0; i < 2000; ++i)
        EXPECT_EQ(got[i * 4096 + 17], static_cast<u8>(i * 7));
}

} // namespace
} // namespace anyhyve
