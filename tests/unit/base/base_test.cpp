// Tests of the words the language lacks: Result, TRY, bits, strong integers, CRC-32, log limits.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "base/crc32.hpp"
#include "base/log.hpp"
#include "base/result.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {

static Result<int> half(int value)
{
    if (value % 2)
        return make_error(EINVAL, "{} is odd", value);
    return value / 2;
}

static Result<int> quarter(int value)
{
    int const once = TRY(half(value));
    return TRY(half(once));
}

static Result<void> check(int value)
{
    TRY(quarter(value));
    return {};
}

TEST(ResultTest, CarriesValueOrErrorThroughTry)
{
    EXPECT_EQ(quarter(12).value(), 3);
    auto const failed = quarter(6);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().message(), "3 is odd");
    EXPECT_EQ(failed.error().code(), EINVAL);
    EXPECT_TRUE(check(8).ok());
    EXPECT_EQ(check(7).error().message(), "7 is odd");
}

TEST(ResultTest, MovesWhatCannotBeCopied)
{
    Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
    EXPECT_EQ(*result.release_value(), 7);
}

TEST(ResultTest, NamesTheObjectOfAnErrno)
{
    auto const error = Error::from_errno(ENOENT, "/dev/vmm/a");
    EXPECT_EQ(error.message(), "/dev/vmm/a: No such file or directory");
    EXPECT_EQ(error.code(), ENOENT);
}

TEST(BitsTest, FieldsMasksAndAlignment)
{
    EXPECT_EQ(bit(63), 0x8000000000000000u);
    EXPECT_EQ(bits(0x12345678, 15, 8), 0x56u);
    EXPECT_EQ(bits(~u64 { 0 }, 63, 0), ~u64 { 0 });
    EXPECT_EQ(mask_of_bytes(1), 0xffu);
    EXPECT_EQ(mask_of_bytes(4), 0xffffffffu);
    EXPECT_EQ(mask_of_bytes(8), ~u64 { 0 });
    EXPECT_EQ(align_down(0x1fff, 0x1000), 0x1000u);
    EXPECT_EQ(align_up(0x1001, 0x1000), 0x2000u);
    EXPECT_EQ(align_up(0x1000, 0x1000), 0x1000u);
    EXPECT_TRUE(is_aligned(0x3000, 0x1000));
    EXPECT_FALSE(is_aligned(0x3001, 0x1000));
    EXPECT_EQ(sign_extend(0xff, 8), -1);
    EXPECT_EQ(sign_extend(0x7f, 8), 127);
    EXPECT_EQ(sign_extend(u64 { 1 } << 47, 48), -(i64 { 1 } << 47));
}

TEST(StrongIntegerTest, AddsOffsetsAndMeasuresDistances)
{
    using Length = StrongInteger<struct LengthTag>;
    Length const a(10);
    EXPECT_EQ((a + 5).value(), 15u);
    EXPECT_EQ((a + 5) - a, 5u);
    EXPECT_LT(a, a + 1);
    EXPECT_FALSE((std::is_convertible_v<u64, Length>));
}

static std::span<u8 const> bytes_of(std::string const& text)
{
    return { reinterpret_cast<u8 const*>(text.data()), text.size() };
}

TEST(Crc32Test, GivesTheCheckValuesOfTheStandard)
{
    EXPECT_EQ(crc32({}), 0u);
    EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926u); // the check value that catalogues of CRCs list
    EXPECT_EQ(crc32(bytes_of("a")), 0xe8b7be43u);
    EXPECT_EQ(crc32(bytes_of("The quick brown fox jumps over the lazy dog")), 0x414fa339u);
}

TEST(Crc32Test, MayBeFedInParts)
{
    std::string text;
    for (int i = 0; i < 1000; ++i)
        text += static_cast<char>(i * 7);
    u32 const whole = crc32(bytes_of(text));
    for (std::size_t cut : { 0, 1, 7, 8, 9, 500, 999, 1000 })
        EXPECT_EQ(crc32(bytes_of(text.substr(cut)), crc32(bytes_of(text.substr(0, cut)))), whole);
}

TEST(LogTest, DropsWhatIsAboveTheLevel)
{
    testing::internal::CaptureStderr();
    log::set_level(log::Level::warning);
    log::error("one {}", 1);
    log::info("two");
    log::set_level(log::Level::debug);
    log::debug("three");
    log::set_level(log::Level::info);
    log::debug("four");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "one 1\nthree\n");
}

TEST(LogTest, LetsABurstThroughAndThenFew)
{
    log::RateLimit limit(5, 2);
    int allowed = 0;
    for (int i = 0; i < 100000; ++i)
        allowed += limit.allow();
    EXPECT_GE(allowed, 5);
    EXPECT_LE(allowed, 8); // the loop takes far less than a second
}

TEST(LogTest, SaysHowManyMessagesWereDropped)
{
    log::RateLimit limit(3, 1000);
    testing::internal::CaptureStderr();
    for (int i = 0; i < 50; ++i)
        log::guest(limit, "odd {}", i);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    log::guest(limit, "late");
    log::guest(limit, "later");
    std::string const text = testing::internal::GetCapturedStderr();
    EXPECT_NE(text.find("odd 0\nodd 1\nodd 2\n"), std::string::npos);
    u64 dropped = 0, written = 0;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line); ++written) {
        if (auto const at = line.find(" ("); at != std::string::npos)
            dropped += std::stoull(line.substr(at + 2));
    }
    EXPECT_EQ(written + dropped, 52u);
    EXPECT_GT(dropped, 0u);
    EXPECT_TRUE(text.ends_with("later\n"));
}

TEST(LogTest, WritesToAFile)
{
    TemporaryFolder const folder;
    std::string const path = folder.path() + "/log";
    EXPECT_EQ(log::set_file("/nowhere/log"), ENOENT);
    EXPECT_EXIT(
        {
            bool const set = log::set_file(path.c_str()) == 0;
            log::info("first");
            log::set_file(path.c_str());
            log::info("second");
            std::exit(set ? 0 : 1);
        },
        testing::ExitedWithCode(0), "^$");
    std::ifstream file(path);
    std::string const text { std::istreambuf_iterator<char>(file), {} };
    EXPECT_EQ(text, "first\nsecond\n");
}

TEST(AssertDeathTest, SaysWhatIsBrokenAndWhere)
{
    EXPECT_DEATH(ASSERT(1 == 2, "numbers differ"), "internal error: numbers differ \\(1 == 2\\) at .*base_test.cpp");
}

} // namespace anyhyve
