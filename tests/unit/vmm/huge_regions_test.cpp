// Tests of guest RAM in huge pages: when a region gets one, that its bytes stay, and what is left alone.
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include "host/mapping.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve {

namespace {

class HugeRegionsTest : public testing::Test {
protected:
    void SetUp() override
    {
        int const file = memfd_create("huge-regions-test", MFD_CLOEXEC);
        ASSERT_GE(file, 0);
        m_memory = GuestMemory::map_file(file, 5 * MiB, "test memory").release_value();
        close(file);
    }
    unsigned uses_until_worth(u64 offset)
    {
        for (unsigned i = 1; i <= 100; ++i) {
            if (m_memory->huge_regions().count_use(offset))
                return i;
        }
        return 0;
    }
    std::unique_ptr<GuestMemory> m_memory;
};

} // namespace

TEST_F(HugeRegionsTest, ARegionIsWorthItOnceAndByItself)
{
    unsigned const uses = uses_until_worth(0x1000);
    EXPECT_GT(uses, 1u);
    EXPECT_EQ(uses_until_worth(0x5000), 0u) << "the same region";
    EXPECT_EQ(uses_until_worth(2 * MiB), uses) << "the next region";
    EXPECT_EQ(uses_until_worth(5 * MiB - 1), uses) << "the piece at the end";
}

TEST_F(HugeRegionsTest, BytesStayAndTheEndIsLeftAlone)
{
    u64 const value = 0x1122334455667788;
    for (u64 address : { u64 { 0 }, 2 * MiB - 8, 2 * MiB, 3 * MiB, 4 * MiB, 5 * MiB - 8 })
        ASSERT_TRUE(m_memory->write_value(Gpa(address), value ^ address));
    auto& regions = m_memory->huge_regions();
    for (u64 offset : { u64 { 0 }, 2 * MiB, 4 * MiB, 5 * MiB - 1 })
        regions.collapse(offset);
    EXPECT_LE(regions.collapsed(), 2u) << "the last MiB is none";
    for (u64 address : { u64 { 0 }, 2 * MiB - 8, 2 * MiB, 3 * MiB, 4 * MiB, 5 * MiB - 8 }) {
        u64 found = 0;
        ASSERT_TRUE(m_memory->read_value(Gpa(address), found));
        EXPECT_EQ(found, value ^ address);
    }
}

TEST_F(HugeRegionsTest, AHostThatHasThemGivesOne)
{
    auto scratch = host::Mapping::anonymous(2 * MiB, host::Mapping::Place::huge_page).release_value();
    scratch.data()[0] = 1;
    if (!host::Mapping::make_huge(scratch.data(), scratch.size()))
        GTEST_SKIP() << "this host gives no huge pages (they need Linux 6.1)";
    ASSERT_TRUE(m_memory->write_value(Gpa(0), u64 { 1 }));
    m_memory->huge_regions().collapse(0);
    EXPECT_EQ(m_memory->huge_regions().collapsed(), 1u);
}

TEST_F(HugeRegionsTest, ClearedMemoryBeginsAnew)
{
    unsigned const uses = uses_until_worth(0);
    ASSERT_TRUE(m_memory->write_value(Gpa(0x1000), u64 { 1 }));
    m_memory->huge_regions().collapse(0);
    m_memory->clear();
    u64 found = 1;
    ASSERT_TRUE(m_memory->read_value(Gpa(0x1000), found));
    EXPECT_EQ(found, 0u);
    EXPECT_EQ(m_memory->huge_regions().collapsed(), 0u);
    EXPECT_EQ(uses_until_worth(0), uses);
}

TEST_F(HugeRegionsTest, DisabledOnesStaySmall)
{
    ASSERT_TRUE(m_memory->write_value(Gpa(0), u64 { 1 }));
    m_memory->huge_regions().disable();
    m_memory->huge_regions().collapse(0);
    EXPECT_EQ(m_memory->huge_regions().collapsed(), 0u);
}

} // namespace anyhyve
