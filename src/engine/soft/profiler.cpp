// How the engine watches itself: see profiler.hpp. (Samples are in sampling.cpp, the report in profile_report.cpp.)
#include "engine/soft/profiler.hpp"

#include <algorithm>
#include <cstddef>

#include "engine/soft/code_cache.hpp"
#include "engine/soft/mode.hpp"

// offsetof of a type that is not standard-layout only for its atomics and nested wires: fine with g++ and clang.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace anyhyve::soft {

void emit_count(Assembler& a, Counter counter, HostRegister temporary)
{
    u32 const offset = static_cast<u32>(offsetof(Cpu, counters) + static_cast<unsigned>(counter) * sizeof(u64));
    a.gs_load(true, temporary, offset);
    a.lea(true, temporary, temporary, Assembler::no_register, 1, 1);
    a.gs_store(true, offset, temporary);
}

std::string mode_name(ModeBits mode)
{
    bool const user = mode::tlb(mode) == tlb_user;
    char const* const step = mode & mode::single_step ? ".step" : "";
    if (mode & mode::real_addressing)
        return fmt::format("{}{}", user ? "v86" : "real16", step);
    unsigned const width = 16u << static_cast<unsigned>(mode::code_size(mode));
    return fmt::format("{}{}{}", user ? "user" : "kernel", width, step);
}

Result<std::unique_ptr<Profiler>> Profiler::create(EngineOptions const& options)
{
    if (!options.perf_map && !options.profile)
        return std::unique_ptr<Profiler>();
    std::unique_ptr<Profiler> profiler(new Profiler(options));
    if (options.perf_map)
        profiler->m_perf_map = TRY(PerfMap::create());
    return profiler;
}

void Profiler::add_thunks(Thunks const& thunks, u8 const* begin, u8 const* end)
{
    // SAFETY: the address of generated code, as such.
    auto const* const enter = reinterpret_cast<u8 const*>(thunks.enter);
    m_thunks = {
        { enter, Place::passages, "enter" }, { thunks.leave, Place::passages, "leave" },
        { thunks.dispatch_host, Place::dispatch, "dispatch_host" }, { thunks.dispatch_memory, Place::dispatch, "dispatch_memory" },
        { thunks.access, Place::access, "access" }, { thunks.access_segmented, Place::access, "access_segmented" },
        { thunks.commit, Place::commit, "commit" }, { thunks.site_misses, Place::access, "site_misses" }, { thunks.find_page, Place::access, "find_page" },
        { thunks.operation_host, Place::operation, "operation_host" }, { thunks.operation_memory, Place::operation, "operation_memory" },
        { thunks.link_host, Place::link, "link_host" }, { thunks.link_memory, Place::link, "link_memory" },
        { thunks.jump_miss, Place::jump, "jump_miss" }, { thunks.jump_from, Place::jump, "jump_from" },
        { thunks.faulted, Place::fault, "faulted" }, { thunks.strings.begin(), Place::passages, "strings" },
    };
    std::sort(m_thunks.begin(), m_thunks.end(), [](ThunkPlace const& a, ThunkPlace const& b) { return a.begin < b.begin; });
    m_thunks_end = end;
    if (!m_perf_map)
        return;
    for (std::size_t i = 0; i < m_thunks.size(); ++i) {
        u8 const* const next = i + 1 < m_thunks.size() ? m_thunks[i + 1].begin : end;
        m_perf_map->add(m_thunks[i].begin, static_cast<u64>(next - m_thunks[i].begin), fmt::format("anyhyve_{}", m_thunks[i].name));
    }
    if (m_thunks.front().begin > begin)
        m_perf_map->add(begin, static_cast<u64>(m_thunks.front().begin - begin), "anyhyve_thunks");
    m_perf_map->keep_lines_so_far();
}

Place Profiler::place_of(u8 const* return_address) const
{
    Place place = Place::other;
    if (return_address >= m_thunks_end)
        return place;
    for (auto const& thunk : m_thunks) {
        if (return_address < thunk.begin)
            break;
        place = thunk.place;
    }
    return place;
}

void Profiler::add_cpu(Cpu& cpu)
{
    if (!m_detailed)
        return;
    m_cpus.push_back(std::make_unique<CpuProfile>());
    cpu.profile = m_cpus.back().get();
}

void Profiler::block_made(Block const& block)
{
    if (m_perf_map)
        m_perf_map->add(block.code_begin, static_cast<u64>(block.code_end - block.code_begin), fmt::format("guest_{:x}.{}{}", block.rip, mode_name(block.mode), block.hot ? ".hot" : ""));
}

void Profiler::guard_made(u8 const* begin, u8 const* end, u64 target)
{
    if (m_perf_map)
        m_perf_map->add(begin, static_cast<u64>(end - begin), fmt::format("guest_{:x}.link", target));
}

void Profiler::about_to_drop(CodeCache& cache)
{
    fold_samples(cache);
    if (m_perf_map)
        m_perf_map->drop();
}

} // namespace anyhyve::soft
