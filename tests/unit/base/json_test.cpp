// Tests of JSON values: what is read, what is refused, and what is written.
#include <gtest/gtest.h>

#include "base/integer.hpp"
#include "base/json.hpp"

namespace anyhyve {

static std::string rewritten(std::string_view text)
{
    auto const json = Json::parse(text);
    return json.ok() ? json.value().dump() : json.error().message();
}

TEST(JsonTest, ReadsAndWritesEveryKind)
{
    EXPECT_EQ(rewritten(" { \"a\" : [ 1 , -2.50e+3, 0.5, true , false, null ] ,\t\"b\":{} , \"c\":[]}\r\n"), R"({"a":[1,-2.50e+3,0.5,true,false,null],"b":{},"c":[]})");
    EXPECT_EQ(rewritten("18446744073709551616"), "18446744073709551616"); // as it is
    auto const made = Json::object({ { "n", 5 }, { "t", "x" }, { "b", true }, { "u", ~u64 { 0 } } });
    EXPECT_EQ(made.dump(), R"({"n":5,"t":"x","b":true,"u":18446744073709551615})");
    EXPECT_EQ(Json::parse(made.dump()).value(), made);
}

TEST(JsonTest, Texts)
{
    EXPECT_EQ(Json::parse(R"("\"\\\/\b\f\n\r\t\u0041\u00e4\u20ac\ud83d\ude00")").value().get<std::string>().value(), "\"\\/\b\f\n\r\tA\u00e4\u20ac\U0001f600");
    EXPECT_EQ(Json("\"\\\n\x01\u00e4").dump(), "\"\\\"\\\\\\u000a\\u0001\u00e4\"");
    // What is no UTF-8 (a cut sequence, an overlong one, a surrogate, beyond the last) is replaced where it is written, and refused where it is read.
    EXPECT_EQ(Json(std::string("a\xc3")).dump(), "\"a\xef\xbf\xbd\"");
    for (std::string const bytes : { "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "\xe2\x82", "\x80" }) {
        EXPECT_FALSE(Json::parse('"' + bytes + '"').ok());
        EXPECT_TRUE(Json::parse(Json(bytes).dump()).ok());
    }
}

TEST(JsonTest, RefusesWhatIsNone)
{
    for (char const* text : { "", " ", "x", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"",
             "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\n\"", "01", "-", "1.", ".5", "1e", "1e+", "+1", "tru", "nul", "1 2", "[] x", "'a'" })
        EXPECT_FALSE(Json::parse(text).ok()) << text;
}

TEST(JsonTest, IsNestedSoDeepAndNoDeeper)
{
    auto const nested = [](int depth) { return std::string(static_cast<std::size_t>(depth), '[') + std::string(static_cast<std::size_t>(depth), ']'); };
    EXPECT_TRUE(Json::parse(nested(Json::deepest_nesting)).ok());
    EXPECT_NE(Json::parse(nested(Json::deepest_nesting + 1)).error().message().find("more than 32 deep"), std::string::npos);
    EXPECT_FALSE(Json::parse(std::string(1'000'000, '[')).ok());
}

TEST(JsonTest, MembersAreAskedForByNameAndType)
{
    auto const json = Json::parse(R"({"a":1,"b":[1,2],"a":300,"t":"x","f":1.5,"n":-1})").value();
    EXPECT_EQ(json.get<int>("a").value(), 300); // the last
    EXPECT_EQ(json.get<std::vector<unsigned>>("b").value(), (std::vector<unsigned> { 1, 2 }));
    EXPECT_FALSE(json.get<u8>("a").ok());
    EXPECT_FALSE(json.get<unsigned>("n").ok());
    EXPECT_FALSE(json.get<int>("f").ok());
    EXPECT_FALSE(json.get<int>("t").ok());
    EXPECT_FALSE(json.get<bool>("a").ok());
    EXPECT_FALSE(json.get<std::string>("a").ok());
    EXPECT_FALSE(json.get<std::vector<std::string>>("b").ok());
    EXPECT_EQ(json.get<int>("t").error().message(), "'t' is no whole number, or does not fit");
    EXPECT_EQ(json.get<int>("z").error().message(), "there is no 'z'");
    EXPECT_EQ(Json().find("a"), nullptr);
}

} // namespace anyhyve
