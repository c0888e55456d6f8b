// Large pages of the guest: found without a walk, and never after what they rest on has changed.
#include <cstring>

#include "engine/soft/activity.hpp"
#include "engine/soft/page_walk.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {
namespace {

constexpr u64 page = 0x1000;

class LargePages : public ExecuteMachine {
protected:
    // At `linear` a page of 2 MiB, of the second 2 MiB of RAM or of the third.
    static constexpr u64 linear = 0x4000'0000, directory = 0x30000, first_frame = 2 * MiB, second_frame = 4 * MiB;
    static constexpr u64 page_large = 0x80, page_global = 0x100, page_accessed = 0x20, page_dirty = 0x40, writable_large = page_present | page_writable | page_user | page_large;

    LargePages() : ExecuteMachine(GuestMemory::create_anonymous(8 * MiB).release_value())
    {
        cache->add_cpu(cpu);
        put<u64>(page_tables + 0x1000 + 8, directory | page_present | page_writable | page_user);
        lead_to(first_frame | writable_large);
        for (u64 i = 0; i < 512; ++i) {
            put<u64>(first_frame + i * page, i);
            put<u64>(second_frame + i * page, i + 1000);
        }
    }
    void lead_to(u64 entry) { put<u64>(directory, entry); }
    u64 entry() { return get<u64>(directory); }
    u64 read(u64 number)
    {
        u64 value = ~u64 { 0 };
        EXPECT_EQ(mmu->read_value(linear + number * page, value), Outcome::next);
        return value;
    }
    void write(u64 number, u64 value) { EXPECT_EQ(mmu->write_value(linear + number * page, value), Outcome::next); }
    bool knows(u64 number, Access access) const { return mmu->large_pages().find(linear + number * page, tlb_supervisor, access) != nullptr; }
    u64 walks() const { return mmu->statistics().page_walks; }
    bool is_watched_store(u64 number)
    {
        Mmu::Target target;
        EXPECT_EQ(mmu->resolve(linear + number * page, Access::write, tlb_supervisor, target), Outcome::next);
        return target.watched;
    }
    void watch(u64 physical)
    {
        VcpuLock lock(cpu, *cache, Presence::outside);
        cache->watch(cpu, physical, 1);
    }
};

TEST_F(LargePages, TakeOneWalk)
{
    EXPECT_EQ(read(7), 7u);
    u64 const before = walks();
    for (u64 i = 0; i < 512; ++i)
        EXPECT_EQ(read(i), i);
    EXPECT_EQ(walks(), before);
}

TEST_F(LargePages, AreDirtyOnceWrittenTo)
{
    EXPECT_EQ(read(7), 7u);
    EXPECT_FALSE(knows(7, Access::write));
    EXPECT_EQ(entry() & page_dirty, 0u);
    write(8, 88);
    EXPECT_EQ(entry() & page_dirty, page_dirty);
    EXPECT_TRUE(knows(7, Access::write));
    write(9, 99);
    EXPECT_EQ(get<u64>(first_frame + 9 * page), 99u);
}

TEST_F(LargePages, FollowInvlpgAnywhereInThem)
{
    EXPECT_EQ(read(7), 7u);
    lead_to(second_frame | writable_large);
    mmu->flush_page(linear + 300 * page + 5);
    EXPECT_EQ(read(7), 1007u);
    EXPECT_EQ(read(8), 1008u);
}

// As pages of 4 KiB it was known before, and has become a large one without a flush.
TEST_F(LargePages, FollowInvlpgWhenTheyHaveGrownTogether)
{
    constexpr u64 table = 0x31000;
    for (u64 i = 0; i < 512; ++i)
        put<u64>(table + i * 8, (first_frame + i * page) | page_present | page_writable | page_user);
    lead_to(table | page_present | page_writable | page_user);
    EXPECT_EQ(read(7), 7u);
    mmu->flush_page(linear + 8 * page); // of the table, nothing is remembered
    lead_to(first_frame | writable_large);
    write(7, 77);
    EXPECT_EQ(read(8), 8u);
    lead_to(second_frame | writable_large);
    mmu->flush_page(linear + 300 * page);
    EXPECT_EQ(read(7), 1007u);
    EXPECT_EQ(read(8), 1008u);
    EXPECT_EQ(read(9), 1009u);
}

TEST_F(LargePages, FollowTheRoot)
{
    EXPECT_EQ(read(7), 7u);
    lead_to(second_frame | writable_large);
    mmu->flush_non_global();
    EXPECT_EQ(read(7), 1007u);
    EXPECT_EQ(read(8), 1008u);
}

TEST_F(LargePages, StayUnderAnotherRootWhenGlobal)
{
    cpu.cr4 |= x86::cr4::pge;
    lead_to(first_frame | writable_large | page_global);
    EXPECT_EQ(read(7), 7u);
    u64 const before = walks();
    mmu->flush_non_global();
    EXPECT_EQ(read(8), 8u);
    EXPECT_EQ(walks(), before);
    lead_to(second_frame | writable_large);
    mmu->flush_all();
    EXPECT_EQ(read(8), 1008u);
}

// The pages of a large page are no more than neighbours once the guest has broken it up.
TEST_F(LargePages, MayBeBrokenUp)
{
    constexpr u64 table = 0x31000;
    EXPECT_EQ(read(7), 7u);
    put<u64>(table + 7 * 8, (second_frame + 3 * page) | page_present);
    put<u64>(table + 8 * 8, (first_frame + 8 * page) | page_present);
    lead_to(table | page_present | page_writable);
    mmu->flush_page(linear);
    EXPECT_EQ(read(7), 1003u);
    EXPECT_EQ(read(8), 8u);
}

TEST_F(LargePages, TellOfStoresToCodeThatCameLater)
{
    write(7, 77);
    EXPECT_TRUE(knows(7, Access::write));
    watch(first_frame + 9 * page);
    EXPECT_TRUE(is_watched_store(9));
    EXPECT_FALSE(is_watched_store(10));
    EXPECT_TRUE(knows(10, Access::read));
    EXPECT_FALSE(knows(10, Access::write));
}

TEST_F(LargePages, TellOfStoresToCodeThatWasThere)
{
    watch(first_frame + 9 * page);
    write(7, 77);
    EXPECT_FALSE(knows(7, Access::write));
    EXPECT_TRUE(is_watched_store(9));
    EXPECT_EQ(read(10), 10u);
}

TEST_F(LargePages, AreNotKnownWhereSomeOfThemIsNoRam)
{
    lead_to(6 * MiB | writable_large);
    EXPECT_EQ(read(7), 0u);
    EXPECT_TRUE(knows(7, Access::read));
    lead_to(8 * MiB | writable_large); // beyond the end
    mmu->flush_page(linear);
    EXPECT_EQ(read(7), 0xffff'ffff'ffff'ffffu);
    EXPECT_FALSE(knows(7, Access::read));
}

TEST_F(LargePages, HangOnTheRightsOfKeyZero)
{
    cpu.cr4 |= x86::cr4::pke;
    put<u64>(page_tables, get<u64>(page_tables) | page_user);
    EXPECT_EQ(read(7), 7u);
    mmu->set_key_rights(user_pages, KeyRights::access_disabled);
    u64 value = 0;
    EXPECT_EQ(mmu->read_value(linear + 8 * page, value), Outcome::fault);
    EXPECT_FALSE(mmu->find_quietly(linear + 8 * page, Access::read, tlb_supervisor));
}

// Nothing but the time it takes shows that somebody looked.
TEST_F(LargePages, AreFoundQuietlyOnceTheyWereUsed)
{
    EXPECT_FALSE(mmu->find_quietly(linear, Access::read, tlb_supervisor));
    EXPECT_EQ(entry() & page_accessed, 0u);
    EXPECT_EQ(read(0), 0u);
    mmu->flush_all();
    EXPECT_TRUE(mmu->find_quietly(linear, Access::read, tlb_supervisor));
    EXPECT_FALSE(mmu->find_quietly(linear, Access::write, tlb_supervisor));
    EXPECT_EQ(entry() & page_dirty, 0u);
    lead_to(0);
    mmu->flush_all();
    cpu.fault = { .vector = 77 };
    EXPECT_FALSE(mmu->find_quietly(linear, Access::read, tlb_supervisor));
    EXPECT_EQ(cpu.fault.vector, 77);
}

// A run that is longer than a large page is what slots take from it, until the runs are dropped.
TEST_F(LargePages, BelongToLongerRuns)
{
    put<u64>(directory + 8, second_frame | writable_large);
    write(0, 0);
    write(512, 1000);
    ASSERT_TRUE(mmu->runs().extend(linear, tlb_supervisor));
    TlbEntry const* const known = mmu->large_pages().find(linear + 600 * page, tlb_supervisor, Access::write);
    ASSERT_NE(known, nullptr);
    EXPECT_EQ(known->run, linear | 1023);
    watch(second_frame + 9 * page);
    EXPECT_EQ(known->run, (linear + 2 * MiB) | 511);
    EXPECT_EQ(mmu->large_pages().find(linear, tlb_supervisor, Access::write)->run, linear | 511);
    EXPECT_EQ(read(600), 1088u);
}

} // namespace
} // namespace anyhyve::soft
