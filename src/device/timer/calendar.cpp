// Days from dates: a year is taken to begin in March, so that the leap day is its last.
#include "device/timer/calendar.hpp"

namespace anyhyve {

namespace {

constexpr i64 seconds_per_day = 86400;
constexpr i64 days_per_400_years = 146097;
constexpr i64 days_before_1970 = 719468; // since 1 March of year 0

constexpr i64 floor_divide(i64 dividend, i64 divisor)
{
    return dividend / divisor - (dividend % divisor < 0);
}

constexpr bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

constexpr i64 days_of(int year, int month, int day)
{
    i64 const march_year = month <= 2 ? year - 1 : year;
    i64 const era = floor_divide(march_year, 400);
    i64 const year_of_era = march_year - era * 400;
    i64 const month_from_march = (month + 9) % 12;
    // 153 days in every five months from March on.
    i64 const day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    return era * days_per_400_years + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - days_before_1970;
}

static_assert(days_of(1970, 1, 1) == 0);
static_assert(days_of(2000, 3, 1) == 11017);

} // namespace

CalendarTime CalendarTime::from_seconds(i64 seconds)
{
    i64 const days = floor_divide(seconds, seconds_per_day);
    i64 const time = seconds - days * seconds_per_day;
    i64 const since_march_0 = days + days_before_1970;
    i64 const era = floor_divide(since_march_0, days_per_400_years);
    i64 const day_of_era = since_march_0 - era * days_per_400_years;
    i64 const year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    i64 const day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    i64 const month_from_march = (5 * day_of_year + 2) / 153;

    CalendarTime result;
    result.day = static_cast<int>(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    result.month = static_cast<int>(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    result.year = static_cast<int>(year_of_era + era * 400 + (result.month <= 2 ? 1 : 0));
    result.week_day = static_cast<int>(((days + 4) % 7 + 7) % 7 + 1); // 1 January 1970 was a Thursday
    result.hour = static_cast<int>(time / 3600);
    result.minute = static_cast<int>(time / 60 % 60);
    result.second = static_cast<int>(time % 60);
    return result;
}

i64 CalendarTime::to_seconds() const
{
    return days_of(year, month, day) * seconds_per_day + hour * 3600 + minute * 60 + second;
}

bool CalendarTime::valid() const
{
    constexpr int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    if (month < 1 || month > 12)
        return false;
    int const length = lengths[month - 1] + (month == 2 && is_leap(year) ? 1 : 0);
    return day >= 1 && day <= length && hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60;
}

} // namespace anyhyve
