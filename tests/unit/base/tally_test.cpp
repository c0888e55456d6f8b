// Tests of numbers that are read while they are counted.
#include "base/tally.hpp"

#include <thread>

#include <gtest/gtest.h>

namespace anyhyve {
namespace {

TEST(Tally, CountsAndIsCopied)
{
    Tally tally;
    ++tally;
    tally += 41;
    Tally const copy = tally;
    tally = 7;
    EXPECT_EQ(copy, 42u);
    EXPECT_EQ(tally, 7u);
}

// ThreadSanitizer looks on.
TEST(Tally, IsReadWhileItCounts)
{
    constexpr u64 most = 100'000;
    Tally tally;
    std::thread counting([&] {
        for (u64 i = 0; i < most; ++i)
            ++tally;
    });
    for (u64 last = 0; last < most;) {
        u64 const now = tally;
        EXPECT_GE(now, last);
        last = now;
    }
    counting.join();
}

} // namespace
} // namespace anyhyve
