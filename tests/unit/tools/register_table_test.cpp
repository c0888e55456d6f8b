// Registers by name.
#include "tools/register_table.hpp"

#include <set>

#include <gtest/gtest.h>

using namespace anyhyve;
using namespace anyhyve::tools;

namespace {

TEST(RegisterTable, NamesAreUnique)
{
    std::set<std::string_view> names;
    for (auto const& row : register_rows())
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
}

TEST(RegisterTable, WhatIsSetIsShown)
{
    for (auto const& row : register_rows()) {
        CpuState state;
        row.set(state, 0x1234);
        EXPECT_EQ(row.get(state), 0x1234u) << row.name;
    }
}

TEST(RegisterTable, EachRowReachesAPlaceOfItsOwn)
{
    CpuState state;
    u64 value = 1;
    for (auto const& row : register_rows())
        row.set(state, value++);
    value = 1;
    for (auto const& row : register_rows())
        EXPECT_EQ(row.get(state), value++) << row.name;
}

TEST(RegisterTable, DescriptorsKeepTheirSelector)
{
    CpuState state;
    find_register("cs")->set(state, 0x10);
    find_descriptor("cs")->set(state, { .selector = 0, .access = 0xa09b, .limit = 0xffffffff, .base = 0x1000 });
    EXPECT_EQ(find_register("cs")->get(state), 0x10u);
    EXPECT_EQ(find_descriptor("cs")->get(state).base, 0x1000u);
    EXPECT_EQ(find_descriptor("cs")->get(state).access, 0xa09bu);
}

TEST(RegisterTable, DescriptorTablesHaveNoAccessRights)
{
    CpuState state;
    find_descriptor("gdtr")->set(state, { .selector = 0, .access = 0x93, .limit = 0x27, .base = 0x2000 });
    EXPECT_EQ(state.gdtr.base, 0x2000u);
    EXPECT_EQ(state.gdtr.limit, 0x27u);
    EXPECT_EQ(find_descriptor("gdtr")->get(state).access, 0u);
}

TEST(RegisterTable, UnknownNamesAreNotFound)
{
    EXPECT_EQ(find_register("eip"), nullptr);
    EXPECT_EQ(find_descriptor("rip"), nullptr);
}

} // namespace
