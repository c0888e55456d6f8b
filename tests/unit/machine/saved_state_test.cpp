// The state file as a set of chunks.
#include "machine/saved_state.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace anyhyve;
using namespace anyhyve::machine;
using testing::HasSubstr;

namespace {

TEST(SavedState, WhatALoaderWritesComesBack)
{
    CpuState cpu = CpuState::after_reset(true);
    cpu.rip = 0x100000;
    auto const decoded = SavedState::decode(SavedState::of_loaded(cpu).encode(), "file");
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(decoded.value().record().kind, MachineRecord::Kind::loaded);
    EXPECT_EQ(decoded.value().cpu_state(0).value().rip, 0x100000u);
}

TEST(SavedState, AProcessorWithoutAChunkIsAsAfterPowerOn)
{
    auto const state = SavedState::of_loaded(CpuState::after_reset(true));
    EXPECT_EQ(state.cpu_state(3).value().activity, Activity::wait_for_sipi);
}

TEST(SavedState, ChunksAreReplacedNotDoubled)
{
    auto state = SavedState::of_loaded(CpuState::after_reset(true));
    auto const count = state.chunks().size();
    state.set_cpu_state(0, CpuState::after_reset(true));
    EXPECT_EQ(state.chunks().size(), count);
    state.replace({ "rtc", 1, { 1, 2 } });
    EXPECT_EQ(state.chunks().size(), count + 1);
}

TEST(SavedState, EveryFlippedBitIsNoticed)
{
    auto const good = SavedState::of_loaded(CpuState::after_reset(true)).encode();
    for (std::size_t at = 0; at < good.size(); at += 7) {
        auto bad = good;
        bad[at] ^= 0x10;
        EXPECT_FALSE(SavedState::decode(bad, "file").ok()) << at;
    }
}

TEST(SavedState, EveryTruncationIsNoticed)
{
    auto const good = SavedState::of_loaded(CpuState::after_reset(true)).encode();
    for (std::size_t length = 0; length < good.size(); length += 13)
        EXPECT_FALSE(SavedState::decode(std::span(good).first(length), "file").ok()) << length;
}

TEST(SavedState, AnotherFileIsNamed)
{
    auto const chunks = encode_chunks({ { "something", 1, {} } });
    auto const decoded = SavedState::decode(chunks, "the file");
    ASSERT_FALSE(decoded.ok());
    EXPECT_THAT(decoded.error().message(), HasSubstr("the file is not the state of a machine"));
}

TEST(MachineRecord, UnknownKindsAndVersionsAreRefused)
{
    auto bytes = MachineRecord {}.encode();
    EXPECT_TRUE(MachineRecord::decode(bytes, MachineRecord::version).ok());
    EXPECT_FALSE(MachineRecord::decode(bytes, MachineRecord::version + 1).ok());
    bytes[0] = 9;
    EXPECT_FALSE(MachineRecord::decode(bytes, MachineRecord::version).ok());
}

} // namespace
