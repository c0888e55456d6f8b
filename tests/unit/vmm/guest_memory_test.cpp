// Tests of guest RAM: its holes, its ends, its guards.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "host/mapping.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve {

namespace {
struct Watcher final : MemoryWatcher {
    void memory_written(Gpa address, u64 size) override { written.push_back({ address.value(), size }); }
    std::vector<std::pair<u64, u64>> written;
};
} // namespace

TEST(GuestMemoryTest, KnowsWhereLowRamEnds)
{
    auto const memory = GuestMemory::create_anonymous(16 * MiB).release_value();
    EXPECT_EQ(memory->low_size(), 16 * MiB);
    EXPECT_EQ(memory->high_size(), 0u);
    EXPECT_EQ(memory->range(Gpa(0), 16 * MiB), memory->host_base());
    EXPECT_EQ(memory->range(Gpa(16 * MiB - 1), 1), memory->host_base() + 16 * MiB - 1);
    EXPECT_EQ(memory->range(Gpa(16 * MiB - 1), 2), nullptr);
    EXPECT_EQ(memory->range(Gpa(16 * MiB), 1), nullptr);
    EXPECT_EQ(memory->range(Gpa(0), 0), nullptr);
    EXPECT_EQ(memory->range(Gpa(0), ~u64 { 0 }), nullptr);
    EXPECT_EQ(memory->range(Gpa(4096), ~u64 { 0 } - 4000), nullptr);
    EXPECT_EQ(memory->range(Gpa(4 * GiB), 1), nullptr);
    EXPECT_EQ(memory->range(Gpa(~u64 { 0 }), 1), nullptr);
    EXPECT_EQ(memory->range(Gpa(~u64 { 0 }), ~u64 { 0 }), nullptr);
}

TEST(GuestMemoryTest, PutsTheRestAboveFourGib)
{
    auto const memory = GuestMemory::create_anonymous(3 * GiB + 8 * MiB).release_value();
    EXPECT_EQ(memory->low_size(), 3 * GiB);
    EXPECT_EQ(memory->high_size(), 8 * MiB);
    EXPECT_EQ(memory->range(Gpa(3 * GiB), 1), nullptr);
    EXPECT_EQ(memory->range(Gpa(3 * GiB - 1), 2), nullptr);
    EXPECT_EQ(memory->range(Gpa(4 * GiB - 1), 2), nullptr);
    EXPECT_EQ(memory->range(Gpa(4 * GiB), 8 * MiB), memory->host_base() + 3 * GiB);
    EXPECT_EQ(memory->range(Gpa(4 * GiB), 8 * MiB + 1), nullptr);
    EXPECT_EQ(memory->range(Gpa(4 * GiB + 8 * MiB), 1), nullptr);
    EXPECT_EQ(memory->range(Gpa(4 * GiB + 4096), ~u64 { 0 }), nullptr);
    EXPECT_EQ(memory->offset_of(Gpa(4 * GiB + 5)), 3 * GiB + 5);
    EXPECT_EQ(memory->offset_of(Gpa(5)), 5u);
    EXPECT_TRUE(memory->write_value(Gpa(4 * GiB + 8 * MiB - 4), u32 { 0x12345678 }));
    u16 value = 0;
    EXPECT_TRUE(memory->read_value(Gpa(4 * GiB + 8 * MiB - 2), value));
    EXPECT_EQ(value, 0x1234);
}

TEST(GuestMemoryTest, CopiesAndTellsTheWatcher)
{
    auto const memory = GuestMemory::create_anonymous(1 * MiB).release_value();
    Watcher watcher;
    memory->set_watcher(&watcher);
    EXPECT_TRUE(memory->write_value(Gpa(0x1000), u64 { 77 }));
    EXPECT_FALSE(memory->write_value(Gpa(1 * MiB - 4), u64 { 77 }));
    EXPECT_TRUE(memory->write(Gpa(7 * GiB), nullptr, 0));
    memory->written(Gpa(0x2000), 16);
    u64 value = 0;
    EXPECT_TRUE(memory->read_value(Gpa(0x1000), value));
    EXPECT_EQ(value, 77u);
    EXPECT_FALSE(memory->read_value(Gpa(1 * MiB - 4), value));
    EXPECT_EQ(watcher.written, (std::vector<std::pair<u64, u64>> { { 0x1000, 8 }, { 0x2000, 16 } }));
    memory->set_watcher(nullptr);
    EXPECT_TRUE(memory->write_value(Gpa(0x1000), u64 { 78 }));
    EXPECT_EQ(watcher.written.size(), 2u);
}

TEST(GuestMemoryTest, RefusesSizesThatMakeNoSense)
{
    EXPECT_EQ(GuestMemory::create_anonymous(0).error().code(), EINVAL);
    EXPECT_EQ(GuestMemory::create_anonymous(4095).error().code(), EINVAL);
    EXPECT_EQ(GuestMemory::create_anonymous(u64 { 1 } << 60).error().code(), EINVAL);
    EXPECT_EQ(GuestMemory::map_file(-1, 4096, "guest").error().code(), EBADF);
}

TEST(GuestMemoryTest, TwoMappingsOfAFileAreTheSameRam)
{
    int const file = memfd_create("guest", MFD_CLOEXEC);
    ASSERT_GE(file, 0);
    auto const first = GuestMemory::map_file(file, 4 * MiB, "guest").release_value();
    auto const second = GuestMemory::map_file(file, 4 * MiB, "guest").release_value();
    struct stat status {};
    ASSERT_EQ(fstat(file, &status), 0);
    EXPECT_EQ(status.st_size, static_cast<off_t>(4 * MiB));
    EXPECT_EQ(status.st_blocks, 0); // sparse
    close(file);
    EXPECT_TRUE(first->write_value(Gpa(3 * MiB), u32 { 0xabcdef }));
    u32 value = 0;
    EXPECT_TRUE(second->read_value(Gpa(3 * MiB), value));
    EXPECT_EQ(value, 0xabcdefu);
}

TEST(GuestMemoryTest, MapsPagesOnceMore)
{
    int const file = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ASSERT_GE(file, 0);
    auto const memory = GuestMemory::map_file(file, 1 * MiB, "guest").release_value();
    auto room = host::Mapping::anonymous(3 * GuestMemory::page_size).release_value();
    EXPECT_TRUE(memory->write_value(Gpa(0x5000), u32 { 7 }));
    EXPECT_TRUE(memory->map_pages(0x5000, GuestMemory::page_size, room.data()));
    EXPECT_EQ(room.data()[0], 7);

    ASSERT_EQ(fcntl(file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    close(file);
    u8* const second = room.data() + GuestMemory::page_size;
    EXPECT_FALSE(memory->map_pages(0x6000, GuestMemory::page_size, second));
    unsigned char resident[3];
    EXPECT_EQ(mincore(room.data(), room.size(), resident), 0) << "there is a hole";
    EXPECT_EQ(room.data()[0], 7);
    EXPECT_FALSE(GuestMemory::create_anonymous(1 * MiB).release_value()->map_pages(0, GuestMemory::page_size, second));
}

TEST(GuestMemoryDeathTest, HasGuardsAtBothEnds)
{
    auto const memory = GuestMemory::create_anonymous(1 * MiB).release_value();
    u8 volatile* base = memory->host_base();
    EXPECT_DEATH(base[-1] = 1, "");
    EXPECT_DEATH(base[1 * MiB] = 1, "");
    EXPECT_DEATH(base[8 * MiB] = 1, "");
}

} // namespace anyhyve
