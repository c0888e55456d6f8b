// Tests of the TSC's frequency: what we are told agrees with what we measure.
#include <gtest/gtest.h>

#include "host/tsc.hpp"

namespace anyhyve::host {

TEST(TscTest, KnownFrequencyAgreesWithAMeasurement)
{
    auto const& known = tsc_frequency();
    double const measured = static_cast<double>(measure_tsc_frequency(20));
    EXPECT_NEAR(static_cast<double>(known.hertz) / measured, 1.0, 0.001) << "from " << known.source;
    EXPECT_EQ(&known, &tsc_frequency());
    RecordProperty("source", known.source);
}

TEST(TscTest, Grows)
{
    u64 last = read_tsc();
    for (int i = 0; i < 1000; ++i) {
        u64 const next = read_tsc();
        EXPECT_GT(next, last);
        last = next;
    }
}

} // namespace anyhyve::host
