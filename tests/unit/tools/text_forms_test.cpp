// JSON, hexadecimal bytes: texts for other programs.
#include <gtest/gtest.h>

#include "tools/hexadecimal.hpp"
#include "tools/json_writer.hpp"

using namespace anyhyve;
using namespace anyhyve::tools;

namespace {

TEST(JsonWriter, ObjectsArraysAndCommas)
{
    JsonWriter json;
    json.begin_object().text("a", "b").number("n", ~u64 { 0 }).begin_array("list").begin_object().boolean("t", true).end_object();
    json.begin_object().end_object().text("", "x").end_array().boolean("f", false).end_object();
    EXPECT_EQ(json.result(), R"({"a":"b","n":18446744073709551615,"list":[{"t":true},{},"x"],"f":false})");
}

TEST(JsonWriter, EscapesWhatMustBeEscaped)
{
    JsonWriter json;
    json.begin_object().text("quote\"", "back\\slash\nline\x01").end_object();
    EXPECT_EQ(json.result(), "{\"quote\\\"\":\"back\\\\slash\\u000aline\\u0001\"}");
}

TEST(Hexadecimal, ThereAndBack)
{
    std::vector<u8> const bytes { 0, 1, 0x7f, 0x80, 0xff };
    EXPECT_EQ(to_hexadecimal(bytes), "00017f80ff");
    EXPECT_EQ(from_hexadecimal("00017f80ff").value(), bytes);
    EXPECT_TRUE(from_hexadecimal("").value().empty());
}

TEST(Hexadecimal, RefusesWhatIsNone)
{
    EXPECT_FALSE(from_hexadecimal("0").ok());
    EXPECT_FALSE(from_hexadecimal("0g").ok());
    EXPECT_FALSE(from_hexadecimal("-1").ok());
}

} // namespace
