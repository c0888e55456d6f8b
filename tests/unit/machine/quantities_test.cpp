// Memory sizes and CPU topologies, as people write them.
#include "machine/quantities.hpp"

#include <gtest/gtest.h>

using namespace anyhyve;
using namespace anyhyve::machine;

namespace {

u64 size_of(std::string_view text)
{
    auto const size = parse_memory_size(text);
    EXPECT_TRUE(size.ok()) << text;
    return size.ok() ? size.value() : 0;
}

std::string refusal_of(std::string_view text)
{
    auto const size = parse_memory_size(text);
    EXPECT_FALSE(size.ok()) << text;
    return size.ok() ? "" : size.error().message();
}

TEST(MemorySize, BareNumbersBelowOneMiCountMiB)
{
    EXPECT_EQ(size_of("256"), 256 * MiB);
    EXPECT_EQ(size_of("8"), 8 * MiB);
}

TEST(MemorySize, BareNumbersFromOneMiOnCountBytes)
{
    EXPECT_EQ(size_of("268435456"), 256 * MiB);
}

TEST(MemorySize, SuffixesOfEitherCase)
{
    EXPECT_EQ(size_of("512m"), 512 * MiB);
    EXPECT_EQ(size_of("3G"), 3 * GiB);
    EXPECT_EQ(size_of("8192K"), 8 * MiB);
}

TEST(MemorySize, RefusesWhatNoMachineCanHave)
{
    EXPECT_EQ(refusal_of("0"), "memory size '0' is too small: at least 2M");
    EXPECT_EQ(refusal_of("1M"), "memory size '1M' is too small: at least 2M");
    EXPECT_EQ(refusal_of("1T"), "memory size '1T' is too large: at most 512G");
    EXPECT_EQ(refusal_of("99999999999999999999G"), "memory size '99999999999999999999G' is too large: at most 512G");
}

TEST(MemorySize, RefusesWhatIsNoSize)
{
    EXPECT_EQ(refusal_of("12Q"), "memory size '12Q' is not a number with suffix K, M, G or T");
    EXPECT_EQ(refusal_of(""), "memory size '' is not a number with suffix K, M, G or T");
    EXPECT_EQ(refusal_of("-5"), "memory size '-5' is not a number with suffix K, M, G or T");
    EXPECT_EQ(refusal_of("G"), "memory size 'G' is not a number with suffix K, M, G or T");
    EXPECT_EQ(refusal_of("2M "), "memory size '2M ' is not a number with suffix K, M, G or T");
}

TEST(MemorySize, RefusesPartsOfPages)
{
    EXPECT_EQ(refusal_of("4194305"), "memory size '4194305' is not a multiple of 4K");
}

TEST(MemorySize, TextIsTheShortest)
{
    EXPECT_EQ(memory_size_text(3 * GiB), "3G");
    EXPECT_EQ(memory_size_text(256 * MiB), "256M");
    EXPECT_EQ(memory_size_text(MiB + 4 * KiB), "1028K");
}

TEST(Topology, OnlyACountMeansSockets)
{
    auto const topology = complete_topology(4, 0, 0, 0);
    ASSERT_TRUE(topology.ok());
    EXPECT_EQ(topology.value().sockets, 4u);
    EXPECT_EQ(topology.value().cpus, 4u);
}

TEST(Topology, CountFollowsFromTheRest)
{
    auto const topology = complete_topology(0, 2, 2, 2);
    ASSERT_TRUE(topology.ok());
    EXPECT_EQ(topology.value().cpus, 8u);
}

TEST(Topology, NothingMeansOne)
{
    auto const topology = complete_topology(0, 0, 0, 0);
    ASSERT_TRUE(topology.ok());
    EXPECT_EQ(topology.value().cpus, 1u);
}

TEST(Topology, AProductThatDoesNotMatchIsRefused)
{
    auto const topology = complete_topology(4, 1, 3, 1);
    ASSERT_FALSE(topology.ok());
    EXPECT_EQ(topology.error().message(), "CPU topology: 1 sockets of 3 cores of 1 threads are not 4 virtual CPUs");
}

TEST(Topology, TooManyAreRefused)
{
    EXPECT_FALSE(complete_topology(9999, 0, 0, 0).ok());
    EXPECT_FALSE(complete_topology(0, 65535, 65535, 65535).ok());
}

} // namespace
