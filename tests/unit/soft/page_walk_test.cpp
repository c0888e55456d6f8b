// Page tables that another virtual CPU changes while they are walked.
#include <atomic>
#include <thread>

#include "execute_machine.hpp"

namespace anyhyve::soft {
namespace {

class PageWalk : public ExecuteMachine {
protected:
    static constexpr u64 linear = 0x4000'0000, directory = 0x30000, table = 0x31000;
    static constexpr u64 present_entry = data | page_present | page_writable | page_user;

    PageWalk()
    {
        put<u64>(page_tables + 0x1000 + 8, directory | page_present | page_writable | page_user);
        put<u64>(directory, table | page_present | page_writable | page_user);
        put<u64>(table, present_entry);
    }
};

// An entry that is taken away is clean, or says that the page was written to; and nothing is written to the place that is empty then.
TEST_F(PageWalk, MarksNoEntriesThatAreGone)
{
    u64* const entry = reinterpret_cast<u64*>(memory->range(Gpa(table), 8)); // SAFETY: an entry of the guest's, aligned
    std::atomic<bool> done { false };
    u64 spoiled = 0, taken = 0;
    std::thread other([&] {
        for (; !done.load(std::memory_order_relaxed); ++taken) {
            __atomic_store_n(entry, present_entry, __ATOMIC_RELAXED);
            for (u64 n = taken % 64; n != 0; --n)
                __builtin_ia32_pause();
            __atomic_exchange_n(entry, 0, __ATOMIC_SEQ_CST);
            for (unsigned n = 0; n < 16; ++n) {
                __builtin_ia32_pause();
                spoiled += __atomic_load_n(entry, __ATOMIC_RELAXED) != 0;
            }
        }
    });
    u64 written = 0;
    for (unsigned i = 0; i < 300'000; ++i) {
        mmu->flush_page(linear);
        written += mmu->write_value<u64>(linear, i) == Outcome::next;
    }
    done.store(true);
    other.join();
    EXPECT_EQ(spoiled, 0u) << "of " << taken;
    EXPECT_NE(written, 0u);
}

} // namespace
} // namespace anyhyve::soft
