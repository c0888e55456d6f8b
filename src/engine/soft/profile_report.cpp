// What the engine tells about a run: counters that are always kept, and what a profiler has gathered.
#include <algorithm>

#include "engine/soft/code_cache.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/runtime.hpp"
#include "host/tsc.hpp"
#include "x86/instruction_text.hpp"

namespace anyhyve::soft {

namespace {

constexpr std::size_t most_operations = 20, most_blocks = 20;
constexpr unsigned most_lines = 64;

constexpr char const* place_names[] = { "passages into and out of translated code", "checks of links to other pages", "memory accesses, slow way",
    "stores by pieces, or to a page with code", "instructions with code of ours", "linking direct jumps", "indirect jumps that missed the jump cache",
    "finding the next block", "exceptions", "translation", "devices", "", "elsewhere" };
static_assert(std::size(place_names) == static_cast<unsigned>(Place::count));

constexpr char const* counter_names[] = { "jump", "conditional jump", "conditional jump, not taken", "loop instruction", "call", "indirect jump", "indirect call", "return",
    "instruction with code of ours", "next in line (full, or end of page)", "link to another page", "event in the way", "look-aside table", "stack's page",
    "own page", "own page, missed" };
static_assert(std::size(counter_names) == counter_count);

u64 microseconds(u64 ticks)
{
    return static_cast<u64>(static_cast<double>(ticks) * 1e6 / static_cast<double>(host::tsc_frequency().hertz));
}

void sort_rows(ProfileSection& section)
{
    std::stable_sort(section.rows.begin(), section.rows.end(), [](Statistic const& a, Statistic const& b) { return a.value > b.value; });
}

// The sum of a counter over all vCPUs.
template<typename Value>
u64 total(CodeCache const& cache, Value value)
{
    u64 sum = 0;
    for (Cpu const* cpu : cache.cpus())
        sum += value(*cpu);
    return sum;
}

u64 counted(CodeCache const& cache, Counter counter)
{
    return total(cache, [counter](Cpu const& cpu) { return cpu.counters[static_cast<unsigned>(counter)]; });
}

void report_times(CodeCache const& cache, Profile& profile)
{
    u64 const now = __builtin_ia32_rdtsc();
    profile.run_microseconds = microseconds(total(cache, [now](Cpu const& cpu) {
        u64 const since = cpu.statistics->running_since;
        return cpu.statistics->run_ticks + (since != 0 && since < now ? now - since : 0);
    }));
    profile.halted_microseconds = microseconds(total(cache, [](Cpu const& cpu) { return cpu.statistics->halted_ticks; }));
    profile.translation_microseconds = microseconds(total(cache, [](Cpu const& cpu) { return cpu.statistics->translation_ticks; }));
}

void report_block_ends(CodeCache const& cache, Profile& profile)
{
    ProfileSection ends { "Ends of blocks", {} };
    for (unsigned i = 0; i <= static_cast<unsigned>(Counter::fall_through); ++i) {
        if (static_cast<Counter>(i) != Counter::not_taken)
            ends.rows.push_back({ counter_names[i], counted(cache, static_cast<Counter>(i)) });
    }
    sort_rows(ends);
    ends.rows.push_back({ "of conditional jumps, not taken", counted(cache, Counter::not_taken) });
    ends.rows.push_back({ "of all, links to another page", counted(cache, Counter::page_crossing) });
    ends.rows.push_back({ "blocks that began with an event in their way", counted(cache, Counter::poll) });
    profile.sections.push_back(std::move(ends));
}

void report_look_ups(CodeCache const& cache, bool detailed, Profile& profile)
{
    auto const sum = [&cache](Tally RuntimeStatistics::*member) { return total(cache, [member](Cpu const& cpu) { return cpu.statistics->*member; }); };
    auto const mmu = [&cache](Tally Mmu::Statistics::*member) { return total(cache, [member](Cpu const& cpu) { return cpu.mmu->statistics().*member; }); };
    ProfileSection section { "Look-ups and misses", {} };
    if (detailed) {
        section.rows.push_back({ "memory operands looked up in the look-aside table", counted(cache, Counter::look_up) });
        section.rows.push_back({ "stack operands looked up in the stack's page", counted(cache, Counter::stack_look_up) });
        section.rows.push_back({ "memory operands of hot code, or groups, looked up in the page they found last", counted(cache, Counter::site_look_up) });
        section.rows.push_back({ "of these, found elsewhere", counted(cache, Counter::site_miss) });
    }
    section.rows.push_back({ "memory operands that missed", sum(&RuntimeStatistics::slow_accesses) });
    section.rows.push_back({ "page walks", mmu(&Mmu::Statistics::page_walks) });
    if (detailed)
        section.rows.push_back({ "indirect jumps, calls and returns looked up", counted(cache, Counter::indirect_jump) + counted(cache, Counter::indirect_call) + counted(cache, Counter::near_return) });
    section.rows.push_back({ "indirect jumps, calls and returns that missed", sum(&RuntimeStatistics::jump_misses) });
    section.rows.push_back({ "direct jumps not linked yet", sum(&RuntimeStatistics::edge_misses) });
    section.rows.push_back({ "direct jumps whose page was not looked aside", sum(&RuntimeStatistics::edge_guard_misses) });
    section.rows.push_back({ "direct jumps given up, linked too often", sum(&RuntimeStatistics::edges_given_up) });
    section.rows.push_back({ "searches for the next block", sum(&RuntimeStatistics::dispatches) });
    section.rows.push_back({ "look-aside flushes, all", mmu(&Mmu::Statistics::flushes_all) });
    section.rows.push_back({ "look-aside flushes, non-global", mmu(&Mmu::Statistics::flushes_non_global) });
    section.rows.push_back({ "look-aside flushes, one page", mmu(&Mmu::Statistics::flushes_page) });
    profile.sections.push_back(std::move(section));

    ProfileSection slow { "Memory operands that missed, by reason", {
        { "look-aside entry filled", sum(&RuntimeStatistics::slow_refills) },
        { "in two pages", sum(&RuntimeStatistics::slow_crossings) },
        { "device memory", sum(&RuntimeStatistics::slow_devices) },
        { "store to a page with translated code", sum(&RuntimeStatistics::slow_watched) },
        { "masked, partly absent", sum(&RuntimeStatistics::slow_masked) },
        { "exception", sum(&RuntimeStatistics::slow_faults) },
    } };
    sort_rows(slow);
    slow.rows.push_back({ "of these, in a segment that is not flat", sum(&RuntimeStatistics::slow_segmented) });
    slow.rows.push_back({ "operands copied and written back", sum(&RuntimeStatistics::commits) });
    profile.sections.push_back(std::move(slow));
}

void report_translation(CodeCache& cache, Profile& profile)
{
    auto const& statistics = cache.statistics();
    profile.sections.push_back({ "Translation and code cache", {
        { "blocks translated", statistics.blocks_translated },
        { "instructions translated", statistics.instructions_translated },
        { "nanoseconds per instruction translated", statistics.instructions_translated ? profile.translation_microseconds * 1000 / statistics.instructions_translated : 0 },
        { "blocks translated again with care, being hot", statistics.blocks_hot },
        { "guest code bytes translated", statistics.guest_bytes },
        { "host code bytes made of them", statistics.host_bytes },
        { "blocks dropped, their code has changed", statistics.blocks_invalidated },
        { "times that everything was dropped", statistics.flushes },
        { "bytes of code now in the cache", cache.code_used() },
        { "bytes of code that it can hold", CodeCache::code_size },
        { "bytes of records now in the cache", cache.records_used() },
        { "bytes of records that it can hold", CodeCache::record_size },
        { "jumps linked", statistics.edges_linked },
        { "jumps unlinked", statistics.edges_unlinked },
    } });
}

// Many instructions are called MOV.
std::string operation_name(x86::OpcodeInfo const& info)
{
    using x86::Operation;
    switch (info.operation) {
    case Operation::move_to_segment: return "mov to segment register";
    case Operation::move_from_segment: return "mov from segment register";
    case Operation::move_to_control: return "mov to control register";
    case Operation::move_from_control: return "mov from control register";
    case Operation::move_to_debug: return "mov to debug register";
    case Operation::move_from_debug: return "mov from debug register";
    case Operation::push_segment: return "push of segment register";
    case Operation::pop_segment: return "pop of segment register";
    default: return info.name;
    }
}

} // namespace

void Profiler::report_operations(Profile& profile) const
{
    struct Sum {
        u64 count = 0, ticks = 0;
    };
    std::map<std::string, Sum> by_name;
    for (auto const& cpu : m_cpus) {
        for (auto const& operation : cpu->operations) {
            if (auto const* const info = operation.info.load(std::memory_order_relaxed)) {
                auto& sum = by_name[operation_name(*info)];
                sum.count += operation.count.load(std::memory_order_relaxed);
                sum.ticks += operation.ticks.load(std::memory_order_relaxed);
            }
        }
    }
    ProfileSection counts { "Instructions with code of ours, times", {} }, times { "Instructions with code of ours, microseconds", {} };
    for (auto const& [name, sum] : by_name) {
        counts.rows.push_back({ name, sum.count });
        times.rows.push_back({ name, microseconds(sum.ticks) });
    }
    for (ProfileSection* const section : { &counts, &times }) {
        sort_rows(*section);
        section->rows.resize(std::min(section->rows.size(), most_operations));
        profile.sections.push_back(std::move(*section));
    }
}

void Profiler::report_places(Profile& profile) const
{
    ProfileSection section { "Samples, by where the host was", {} };
    u64 in_blocks = 0;
    for (auto const& [key, code] : m_code)
        in_blocks += code.samples;
    section.rows.push_back({ "translated guest code", in_blocks });
    for (unsigned i = 0; i < std::size(place_names); ++i) {
        u64 count = static_cast<Place>(i) == Place::guards ? m_in_guards : 0;
        for (auto const& cpu : m_cpus)
            count += cpu->places[i].load(std::memory_order_relaxed);
        section.rows.push_back({ place_names[i], count });
    }
    u64 const waiting = section.rows[1 + static_cast<unsigned>(Place::waiting)].value;
    for (auto const& row : section.rows)
        profile.samples += row.value;
    section.rows.erase(section.rows.begin() + 1 + static_cast<unsigned>(Place::waiting));
    profile.samples -= waiting;
    profile.samples_waiting = waiting;
    for (auto const& cpu : m_cpus)
        profile.samples_lost += cpu->samples_lost.load(std::memory_order_relaxed);
    sort_rows(section);
    profile.sections.insert(profile.sections.begin(), std::move(section));
}

HotCode Profiler::describe(CodeKey const& key, Code const& code, GuestMemory const& memory) const
{
    auto const& [physical, rip, mode] = key;
    HotCode hot { .rip = rip, .physical = physical, .mode = mode_name(mode) + (code.hot ? ".hot" : ""), .samples = code.samples, .host_size = code.host_size, .changed = !code.valid, .bytes = {}, .instructions = {} };
    u64 const in_first = std::min<u64>(code.guest_size, 0x1000 - (physical & 0xfff));
    if (u8 const* const first = memory.range(Gpa(physical), in_first))
        hot.bytes.assign(first, first + in_first);
    else
        return hot;
    if (code.guest_size > in_first)
        if (u8 const* const second = memory.range(Gpa(code.second_physical & ~u64 { 0xfff }), code.guest_size - in_first))
            hot.bytes.insert(hot.bytes.end(), second, second + (code.guest_size - in_first));
    u64 offset = 0;
    while (offset < hot.bytes.size() && hot.instructions.size() < most_lines) {
        x86::Instruction insn;
        auto const left = static_cast<unsigned>(std::min<u64>(hot.bytes.size() - offset, 15));
        if (x86::decode(&hot.bytes[offset], left, mode::code_size(mode), insn) != x86::DecodeStatus::ok)
            break;
        hot.instructions.push_back(fmt::format("{:x}  {}", rip + offset, x86::instruction_text(insn, rip + offset)));
        offset += insn.length;
    }
    return hot;
}

std::vector<HotCode> Profiler::hottest(GuestMemory const& memory) const
{
    std::vector<std::pair<CodeKey, Code>> codes(m_code.begin(), m_code.end());
    std::size_t const wanted = std::min(codes.size(), most_blocks);
    std::partial_sort(codes.begin(), codes.begin() + static_cast<std::ptrdiff_t>(wanted), codes.end(), [](auto const& a, auto const& b) { return a.second.samples > b.second.samples; });
    std::vector<HotCode> list;
    for (std::size_t i = 0; i < wanted; ++i)
        list.push_back(describe(codes[i].first, codes[i].second, memory));
    return list;
}

void Profiler::report(CodeCache& cache, GuestMemory const& memory, Profile& profile)
{
    fold_samples(cache);
    report_places(profile);
    report_block_ends(cache, profile);
    report_operations(profile);
    profile.hottest = hottest(memory);
}

void report_profile(CodeCache& cache, Profiler* profiler, GuestMemory const& memory, Profile& profile)
{
    profile.detailed = profiler && profiler->detailed();
    report_times(cache, profile);
    if (profile.detailed)
        profiler->report(cache, memory, profile);
    report_look_ups(cache, profile.detailed, profile);
    report_translation(cache, profile);
}

} // namespace anyhyve::soft
