// Tests of the configuration tree.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "vmm/config_tree.hpp"
#include "../temporary_folder.hpp"

namespace anyhyve {

TEST(ConfigTreeTest, LastWriteWins)
{
    ConfigTree tree;
    EXPECT_TRUE(tree.set("cpus", "1").ok());
    EXPECT_TRUE(tree.assign("cpus=4").ok());
    EXPECT_TRUE(tree.assign("pci.0.4.0.path=/a=b").ok());
    EXPECT_EQ(tree.raw("cpus"), "4");
    EXPECT_EQ(tree.raw("pci.0.4.0.path"), "/a=b");
    EXPECT_FALSE(tree.has("pci.0.4.0"));
    EXPECT_TRUE(tree.has_node("pci.0.4.0"));
    EXPECT_TRUE(tree.has_node("pci"));
    EXPECT_FALSE(tree.has_node("cpus"));
}

TEST(ConfigTreeTest, RefusesMalformedKeysAndValues)
{
    ConfigTree tree;
    for (char const* text : { "", "=", "=x", "a", "a=", ".a=1", "a.=1", "a..b=1", "a b=1", " a=1" })
        EXPECT_EQ(tree.assign(text).error().code(), EINVAL) << text;
    EXPECT_FALSE(tree.set("a", "line\nline").ok());
    EXPECT_TRUE(tree.set("a", "").ok());
    EXPECT_FALSE(tree.set("a=b", "1").ok());
}

TEST(ConfigTreeTest, AVariableIsAValueOrANode)
{
    ConfigTree tree;
    ASSERT_TRUE(tree.set("pci.0.4.0.device", "virtio-blk").ok());
    EXPECT_EQ(tree.set("pci.0.4", "x").error().code(), EINVAL);
    EXPECT_EQ(tree.set("pci.0.4.0.device.more", "x").error().code(), EINVAL);
    EXPECT_TRUE(tree.set("pci.0.4x", "x").ok());
    EXPECT_TRUE(tree.erase("pci.0.4").ok());
    EXPECT_FALSE(tree.has_node("pci.0.4"));
    EXPECT_TRUE(tree.has("pci.0.4x"));
    EXPECT_TRUE(tree.set("pci.0.4", "x").ok());
}

TEST(ConfigTreeTest, ReplacesReferences)
{
    ConfigTree tree;
    ASSERT_TRUE(tree.set("name", "vm0").ok());
    ASSERT_TRUE(tree.set("dir", "/vm/%(name)").ok());
    ASSERT_TRUE(tree.set("disk", "%(dir)/%(name).img 100%% %x %").ok());
    EXPECT_EQ(tree.value("disk").value(), "/vm/vm0/vm0.img 100% %x %");
    EXPECT_EQ(tree.raw("disk"), "%(dir)/%(name).img 100%% %x %");
    EXPECT_EQ(tree.value_or("none", "other").value(), "other");
    EXPECT_FALSE(tree.value("none").value().has_value());

    ASSERT_TRUE(tree.set("open", "%(name").ok());
    ASSERT_TRUE(tree.set("missing", "%(nobody)").ok());
    ASSERT_TRUE(tree.set("a", "%(b)").ok());
    ASSERT_TRUE(tree.set("b", "%(a)").ok());
    for (char const* key : { "open", "missing", "a", "b" }) {
        EXPECT_EQ(tree.value(key).error().code(), EINVAL) << key;
        EXPECT_EQ(tree.value(key).error().message().rfind(std::string(key) + ": ", 0), 0u);
    }
}

TEST(ConfigTreeTest, GrowthByReferenceIsBounded)
{
    ConfigTree tree;
    std::string many;
    for (int i = 0; i < 20; ++i)
        many += "%(v.0)";
    ASSERT_TRUE(tree.set("v.0", "0123456789").ok());
    for (int level = 1; level < 12; ++level) {
        std::string line = many;
        for (std::size_t at = line.find("v.0"); at != line.npos; at = line.find("v.0", at + 1))
            line.replace(at, 3, "v." + std::to_string(level - 1));
        ASSERT_TRUE(tree.set("v." + std::to_string(level), line).ok());
    }
    EXPECT_FALSE(tree.value("v.11").ok());
}

TEST(ConfigTreeTest, ReadsBooleansNumbersAndSizes)
{
    ConfigTree tree;
    for (char const* word : { "true", "ON", "Yes", "1" }) {
        ASSERT_TRUE(tree.set("b", word).ok());
        EXPECT_TRUE(tree.boolean_or("b", false).value()) << word;
    }
    for (char const* word : { "false", "OFF", "No", "0" }) {
        ASSERT_TRUE(tree.set("b", word).ok());
        EXPECT_FALSE(tree.boolean_or("b", true).value()) << word;
    }
    ASSERT_TRUE(tree.set("b", "maybe").ok());
    EXPECT_EQ(tree.boolean_or("b", true).error().message(), "b: 'maybe' is neither true nor false");
    EXPECT_TRUE(tree.boolean_or("none", true).value());

    auto const integer = [&](char const* text) {
        EXPECT_TRUE(tree.set("i", text).ok());
        return tree.integer_or("i", 99);
    };
    EXPECT_EQ(integer("42").value(), 42);
    EXPECT_EQ(integer("-7").value(), -7);
    EXPECT_EQ(integer("0x10").value(), 16);
    EXPECT_EQ(integer("010").value(), 8);
    EXPECT_EQ(tree.integer_or("none", 99).value(), 99);
    for (char const* text : { "", "1x", "x", " 1", "99999999999999999999" })
        EXPECT_FALSE(integer(text).ok()) << text;

    EXPECT_EQ(parse_size("512M", "m").value(), 512 * MiB);
    EXPECT_EQ(parse_size("4g", "m").value(), 4 * GiB);
    EXPECT_EQ(parse_size("1k", "m").value(), KiB);
    EXPECT_EQ(parse_size("1T", "m").value(), 1024 * GiB);
    EXPECT_EQ(parse_size("7", "m").value(), 7u);
    for (char const* text : { "", "M", "1MB", "-1", "1.5G", "99999999T", "0x10", "1x" })
        EXPECT_FALSE(parse_size(text, "m").ok()) << text;
}

TEST(ConfigTreeTest, ListsChildrenInTheOrderOfNumbers)
{
    ConfigTree tree;
    for (char const* line : { "pci.0.10.0.device=a", "pci.0.2.0.device=a", "pci.0.2.1.device=a", "pci.0.2.0.path=x", "pci.1.3.0.device=a", "lpc.com1.path=stdio", "name=x", "pci-x=1" })
        ASSERT_TRUE(tree.assign(line).ok());
    EXPECT_EQ(tree.children("pci.0"), (std::vector<std::string> { "2", "10" }));
    EXPECT_EQ(tree.children("pci.0.2"), (std::vector<std::string> { "0", "1" }));
    EXPECT_EQ(tree.children("pci.0.2.0"), (std::vector<std::string> { "device", "path" }));
    EXPECT_EQ(tree.children(""), (std::vector<std::string> { "lpc", "name", "pci", "pci-x" }));
    EXPECT_TRUE(tree.children("name").empty());
}

TEST(ConfigTreeTest, DumpAndLoadAreARoundTrip)
{
    ConfigTree tree;
    for (char const* line : { "name=vm", "b.c=%(name)%%", "a=1", "b.a=x y" })
        ASSERT_TRUE(tree.assign(line).ok());
    EXPECT_EQ(tree.dump(), "a=1\nb.a=x y\nb.c=%(name)%%\nname=vm\n");
    ConfigTree again;
    ASSERT_TRUE(again.load_text("# comment\n\n" + tree.dump(), "text").ok());
    EXPECT_EQ(again.dump(), tree.dump());
    ASSERT_TRUE(again.load_text("a=2\r\nlast=line", "text").ok());
    EXPECT_EQ(again.raw("a"), "2");
    EXPECT_EQ(again.raw("last"), "line");
}

TEST(ConfigTreeTest, ErrorsOfAFileNameFileAndLine)
{
    TemporaryFolder const folder;
    std::string const path = folder.path() + "/config";
    std::ofstream(path) << "a=1\n# x\nnonsense\n";
    ConfigTree tree;
    auto const failed = tree.load_file(path);
    EXPECT_EQ(failed.error().message(), path + ":3: 'nonsense' is not of the form variable=value");
    std::remove(path.c_str());
    EXPECT_EQ(tree.load_file(path).error().code(), ENOENT);
    EXPECT_EQ(tree.load_file(path).error().message(), path + ": No such file or directory");
}

TEST(ConfigTreeTest, AFrozenTreeDoesNotChange)
{
    ConfigTree tree;
    ASSERT_TRUE(tree.set("a", "%(b)").ok());
    EXPECT_EQ(tree.freeze().error().code(), EINVAL); // b has no value
    EXPECT_FALSE(tree.frozen());
    ASSERT_TRUE(tree.set("b", "1").ok());
    ASSERT_TRUE(tree.freeze().ok());
    EXPECT_EQ(tree.set("a", "2").error().code(), EROFS);
    EXPECT_EQ(tree.erase("a").error().code(), EROFS);
    EXPECT_EQ(tree.value("a").value(), "1");
}

} // namespace anyhyve
