// Seconds since 1970 as a date, and back: the Gregorian calendar without leap seconds.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

struct CalendarTime {
    int year = 1970;
    int month = 1;       // 1..12
    int day = 1;         // 1..31
    int week_day = 5;    // 1: Sunday .. 7: Saturday
    int hour = 0, minute = 0, second = 0;

    static CalendarTime from_seconds(i64 seconds);
    // The week day is ignored.
    i64 to_seconds() const;
    bool valid() const;
};

} // namespace anyhyve
