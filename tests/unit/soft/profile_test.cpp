// The engine's view of itself: counters in generated code, samples, names for perf.
#include "guest_machine.hpp"

#include <fstream>
#include <sstream>

#include "engine/soft/perf_map.hpp"

namespace anyhyve::soft {
namespace {

using namespace x86;

constexpr char const* sample_title = "Samples, by where the host was";

u64 value_of(Profile const& profile, std::string_view section, std::string_view name)
{
    for (auto const& candidate : profile.sections) {
        if (candidate.title != section)
            continue;
        for (auto const& row : candidate.rows)
            if (row.name == name)
                return row.value;
    }
    ADD_FAILURE() << "no row '" << name << "' in '" << section << "'";
    return 0;
}

std::string text_of(std::string const& path)
{
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// xor eax,eax; mov ecx,1000; L: call f; loop L; hlt; f: inc rax; push rbx; pop rdx; test eax,1; jz g; nop; g: ret
std::vector<u8> const calls { 0x31, 0xc0, 0xb9, 0xe8, 3, 0, 0, 0xe8, 3, 0, 0, 0, 0xe2, 0xf9, 0xf4, 0x48, 0xff, 0xc0, 0x53, 0x5a, 0xa9, 1, 0, 0, 0, 0x74, 1, 0x90, 0xc3 };

TEST(Profile, CountsEndsOfBlocks)
{
    SKIP_WITHOUT_SAMPLES();
    GuestMachine m({ .profile = true });
    auto const end = m.run(m.long_mode(), calls);
    EXPECT_EQ(end.gpr[rax], 1000u);
    Profile const profile = m.engine->profile();
    EXPECT_TRUE(profile.detailed);
    EXPECT_EQ(value_of(profile, "Ends of blocks", "call"), 1000u);
    EXPECT_EQ(value_of(profile, "Ends of blocks", "return"), 1000u);
    EXPECT_EQ(value_of(profile, "Ends of blocks", "loop instruction"), 1000u);
    EXPECT_EQ(value_of(profile, "Ends of blocks", "conditional jump"), 1000u);
    EXPECT_EQ(value_of(profile, "Ends of blocks", "of conditional jumps, not taken"), 500u);
    EXPECT_EQ(value_of(profile, "Look-ups and misses", "stack operands looked up in the stack's page"), 3001u); // the first CALL misses, and begins again
    EXPECT_EQ(value_of(profile, "Look-ups and misses", "indirect jumps, calls and returns looked up"), 1000u);
}

TEST(Profile, CountingKeepsFlagsAndRegisters)
{
    // mov ecx,300; stc; L: adc rax,rbx; lea ecx,[rcx-1]; jrcxz E; jmp L; E: setc dl; mov r13,rax   (CF lives across the blocks)
    std::vector<u8> const code { 0xb9, 0x2c, 1, 0, 0, 0xf9, 0x48, 0x11, 0xd8, 0x8d, 0x49, 0xff, 0xe3, 2, 0xeb, 0xf6, 0x0f, 0x92, 0xc2, 0x49, 0x89, 0xc5 };
    CpuState ends[2];
    for (bool const profiled : { false, true }) {
        GuestMachine m({ .profile = profiled });
        auto start = m.long_mode();
        start.gpr[rbx] = 0xf0f0f0f0f0f0f0f0;
        start.gpr[r13] = 13, start.gpr[r14] = 14, start.gpr[r15] = 15;
        ends[profiled] = m.run(start, code);
    }
    EXPECT_EQ(ends[0].gpr, ends[1].gpr);
    EXPECT_EQ(ends[0].rflags, ends[1].rflags);
}

TEST(Profile, NamesInstructionsWithCodeOfOurs)
{
    GuestMachine m({ .profile = true });
    // mov ecx,7; L: push rcx; xor eax,eax; cpuid; pop rcx; loop L
    m.run(m.long_mode(), { 0xb9, 7, 0, 0, 0, 0x51, 0x31, 0xc0, 0x0f, 0xa2, 0x59, 0xe2, 0xf8 });
    Profile const profile = m.engine->profile();
    EXPECT_EQ(value_of(profile, "Instructions with code of ours, times", "cpuid"), 7u);
    EXPECT_EQ(value_of(profile, "Ends of blocks", "loop instruction"), 7u);
}

TEST(Profile, SaysWhyAccessesWereSlow)
{
    GuestMachine m;
    auto start = m.long_mode();
    start.gpr[rbx] = 0x50000000; // nothing is there
    // mov eax,[0x200000]; mov eax,[rbx]; mov eax,[0x201000]; mov byte [rip+0],0x90 (its own page)
    m.run(start, { 0x8b, 0x04, 0x25, 0, 0, 0x20, 0, 0x67, 0x8b, 0x04, 0x25, 0, 0x10, 0x20, 0, 0xc6, 0x05, 0x40, 0, 0, 0, 0x90 });
    Profile const profile = m.engine->profile();
    EXPECT_FALSE(profile.detailed);
    char const* const section = "Memory operands that missed, by reason";
    EXPECT_EQ(value_of(profile, section, "look-aside entry filled"), 2u);
    EXPECT_EQ(value_of(profile, section, "store to a page with translated code"), 1u);
    EXPECT_EQ(value_of(profile, section, "device memory"), 0u);
    EXPECT_GT(profile.run_microseconds + profile.translation_microseconds, 0u);
}

TEST(Profile, SamplesFindTheHotBlock)
{
    SKIP_WITHOUT_SAMPLES();
    GuestMachine m({ .profile = true });
    // mov ecx,200000000; L: imul rax,rbx; dec ecx; jnz L
    m.run(m.long_mode(), { 0xb9, 0, 0xc2, 0xeb, 0x0b, 0x48, 0x0f, 0xaf, 0xc3, 0xff, 0xc9, 0x75, 0xf8 });
    Profile const profile = m.engine->profile();
    ASSERT_FALSE(profile.hottest.empty());
    auto const& hottest = profile.hottest[0];
    EXPECT_EQ(hottest.rip, GuestMachine::code + 5);
    EXPECT_EQ(hottest.physical, GuestMachine::code + 5);
    EXPECT_TRUE(hottest.mode.starts_with("kernel64")) << hottest.mode;
    EXPECT_GT(hottest.samples, 5u); // of about 500, on a host with time
    EXPECT_EQ(hottest.bytes, (std::vector<u8> { 0x48, 0x0f, 0xaf, 0xc3, 0xff, 0xc9, 0x75, 0xf8 }));
    EXPECT_EQ(hottest.instructions, (std::vector<std::string> { "100005  imul rax, rbx", "100009  dec ecx", "10000b  jne 0x100005" }));
    EXPECT_GE(value_of(profile, sample_title, "translated guest code"), hottest.samples);
    // Asking again adds up, and does not count twice.
    EXPECT_EQ(m.engine->profile().hottest[0].samples, hottest.samples);
}

TEST(PerfMap, NamesBlocksAndThunks)
{
    SKIP_WITHOUT_SAMPLES();
    std::string const path = fmt::format("/tmp/perf-{}.map", getpid());
    {
        GuestMachine m({ .perf_map = true });
        m.run(m.long_mode(), calls);
        // While it runs already: whoever attaches can read it.
        EXPECT_NE(text_of(path).find(" guest_100000.kernel64\n"), std::string::npos);
    }
    std::string const text = text_of(path);
    EXPECT_NE(text.find(" anyhyve_dispatch_memory\n"), std::string::npos);
    EXPECT_NE(text.find(" guest_100007.kernel64\n"), std::string::npos);
    EXPECT_EQ(text.find('\0'), std::string::npos);
    std::stringstream lines(text);
    u64 start = 0, size = 0;
    std::string name;
    while (lines >> std::hex >> start >> size >> name)
        EXPECT_TRUE(start != 0 && size != 0) << name;
    EXPECT_TRUE(lines.eof());
    unlink(path.c_str());
}

TEST(PerfMap, StartsAnewWhenTheCacheIsDropped)
{
    std::string const path = ::testing::TempDir() + "perf_map_test";
    {
        auto map = PerfMap::create(path).release_value();
        map->add(path.data(), 16, "thunk");
        map->keep_lines_so_far();
        std::string const long_name(400, 'x');
        for (unsigned i = 0; i < 5000; ++i)
            map->add(path.data(), 16, long_name); // more than one step of the file
        map->drop();
        map->add(path.data(), 32, "block");
    }
    std::string const text = text_of(path);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_TRUE(text.ends_with(" 20 block\n"));
    unlink(path.c_str());
}

TEST(PerfMap, RefusesWhatIsNotAFileOfOurs)
{
    EXPECT_FALSE(PerfMap::create("/dev/null").ok());
    EXPECT_FALSE(PerfMap::create("/nowhere/perf.map").ok());
}

} // namespace
} // namespace anyhyve::soft
