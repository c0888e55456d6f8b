// Command lines, usage texts and manual pages made from an option table.
#include "tools/option_table.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/tool_tables.hpp"

using namespace anyhyve;
using namespace anyhyve::tools;
using testing::HasSubstr;
using testing::Not;

namespace {

Tool const& example()
{
    static Tool const tool {
        .name = "example",
        .summary = "be an example",
        .operands = { "file" },
        .groups = { { "Things",
            {
                { 'a', "", Argument::none, "", "First. Second." },
                { 'b', "bee", Argument::required, "value", "Takes one." },
                { 'o', "", Argument::optional, "value", "May take one." },
                { 0, "long", Argument::none, "", "Long only." },
            } } },
        .description = { "It is one." },
        .exit_statuses = { { "0", "Fine." } },
        .examples = { { "Do it:", "example -a file" } },
        .see_also = { "other 8" },
    };
    return tool;
}

Result<CommandLine> parse(std::vector<std::string> words)
{
    words.insert(words.begin(), "example");
    std::vector<char*> arguments;
    for (auto& word : words)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    return parse_command_line(example(), static_cast<int>(words.size()), arguments.data());
}

TEST(OptionTable, KeepsTheOrder)
{
    auto const line = parse({ "-b", "1", "-a", "--bee=2", "file" });
    ASSERT_TRUE(line.ok());
    ASSERT_EQ(line.value().options.size(), 3u);
    EXPECT_EQ(line.value().options[0].value, "1");
    EXPECT_EQ(line.value().options[1].option->letter, 'a');
    EXPECT_EQ(line.value().options[2].value, "2");
    EXPECT_THAT(line.value().operands, testing::ElementsAre("file"));
}

TEST(OptionTable, OptionsEndAtTheFirstOperand)
{
    auto const line = parse({ "file", "-a" });
    ASSERT_TRUE(line.ok());
    EXPECT_TRUE(line.value().options.empty());
    EXPECT_THAT(line.value().operands, testing::ElementsAre("file", "-a"));
}

TEST(OptionTable, OptionalArgumentMustBeAttached)
{
    auto const line = parse({ "-o5", "-o" });
    ASSERT_TRUE(line.ok());
    EXPECT_EQ(line.value().options[0].value, "5");
    EXPECT_EQ(line.value().options[1].value, "");
}

TEST(OptionTable, NamesTheUnknownOption)
{
    EXPECT_EQ(parse({ "-z" }).error().message(), "unknown option -z");
    EXPECT_EQ(parse({ "--zet=1" }).error().message(), "unknown option --zet");
}

TEST(OptionTable, NamesTheOptionWithoutItsArgument)
{
    EXPECT_EQ(parse({ "-b" }).error().message(), "option -b needs an argument");
    EXPECT_EQ(parse({ "--bee" }).error().message(), "option --bee needs an argument");
    EXPECT_EQ(parse({ "--long=1" }).error().message(), "option --long takes no argument");
}

TEST(OptionTable, ShortOptionsAsGetoptTakesThem)
{
    EXPECT_EQ(short_options(example()), "ab:o::");
}

TEST(OptionTable, UsageListsEveryOption)
{
    EXPECT_THAT(usage_text(example()), HasSubstr("Usage: example [-a] [-b value] [-o[value]] file\n"));
    EXPECT_THAT(usage_text(example()), HasSubstr("  -b value, --bee=value"));
    EXPECT_THAT(usage_text(example()), HasSubstr("  --long"));
}

TEST(OptionTable, UsageOfBhyveTellsLibvirtWhatItLooksFor)
{
    std::string const usage = usage_text(bhyve_tool());
    EXPECT_THAT(usage, HasSubstr("-u:"));             // the clock may be UTC
    EXPECT_THAT(usage, Not(HasSubstr("-c vcpus")));   // topologies are understood
}

TEST(OptionTable, UsageOfGrubBhyveTellsLibvirtWhatItLooksFor)
{
    EXPECT_THAT(usage_text(grub_bhyve_tool()), HasSubstr("--cons-dev"));
}

TEST(ManualPage, HasEverySection)
{
    std::string const page = manual_page(example());
    EXPECT_THAT(page, HasSubstr(".Dt EXAMPLE 8\n"));
    EXPECT_THAT(page, HasSubstr(".It Fl a\nFirst.\nSecond.\n"));
    EXPECT_THAT(page, HasSubstr(".It Fl b Ar \"value\" , Fl -bee\n"));
    EXPECT_THAT(page, HasSubstr(".Sh EXIT STATUS\n"));
    EXPECT_THAT(page, HasSubstr(".Dl example -a file\n"));
    EXPECT_THAT(page, HasSubstr(".Xr other 8\n"));
}

} // namespace
