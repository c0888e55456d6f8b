// How the engine watches itself when it is asked to: counters in generated code, instructions with code of ours by name, samples of where
// the host is, and names for perf. Nothing of it exists otherwise, and generated code is the same as ever.
// Threads: a CpuProfile is written by its vCPU's thread and its signal handler, and read by any; the rest is under the code cache's lock.
#pragma once

#include <map>
#include <optional>
#include <tuple>

#include "engine/soft/counters.hpp"
#include "engine/soft/perf_map.hpp"
#include "engine/soft/thunks.hpp"
#include "host/thread_timer.hpp"
#include "vmm/profile.hpp"

namespace anyhyve::soft {

// Where a sample found the host, when not in a block.
enum class Place : u8 { passages, guards, access, commit, operation, link, jump, dispatch, fault, translation, device, waiting, other, count };

// One vCPU's share.
struct CpuProfile {
    struct Operation {
        std::atomic<x86::OpcodeInfo const*> info { nullptr };
        std::atomic<u64> count { 0 }, ticks { 0 };
    };
    struct Sample {
        std::atomic<u32> address { 0 }; // offset in the code cache, plus 1
        std::atomic<u32> count { 0 };
    };
    static constexpr unsigned operation_slots = 1024; // more than there are rows with code of ours
    static constexpr unsigned sample_slots = 1 << 15;

    std::array<Operation, operation_slots> operations;
    std::array<Sample, sample_slots> samples;
    std::array<std::atomic<u64>, static_cast<unsigned>(Place::count)> places {};
    std::atomic<u64> samples_lost { 0 };
    bool volatile inside = false;      // run_generated_code() is active
    bool volatile translating = false;

    void count_operation(x86::OpcodeInfo const* info, u64 ticks)
    {
        // SAFETY: the address as a number; rows are 16 bytes and more apart.
        unsigned slot = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(info) >> 4);
        for (unsigned tries = 0; tries < operation_slots; ++tries, ++slot) {
            Operation& entry = operations[slot % operation_slots];
            auto const* const held = entry.info.load(std::memory_order_relaxed);
            if (held && held != info)
                continue;
            entry.info.store(info, std::memory_order_relaxed);
            entry.count.store(entry.count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            entry.ticks.store(entry.ticks.load(std::memory_order_relaxed) + ticks, std::memory_order_relaxed);
            return;
        }
    }
};

class Profiler {
public:
    // nullptr when nothing is asked for.
    static Result<std::unique_ptr<Profiler>> create(EngineOptions const&);

    bool detailed() const { return m_detailed; }
    void add_thunks(Thunks const&, u8 const* begin, u8 const* end);
    void add_cpu(Cpu&);

    // Hooks of the code cache, its lock held.
    void block_made(Block const&);
    void guard_made(u8 const* begin, u8 const* end, u64 target);
    void about_to_drop(CodeCache&);

    // What was counted and sampled so far. Lock held.
    void report(CodeCache&, GuestMemory const&, Profile&);
    // For the signal handler: which part of the runtime a thunk has called.
    Place place_of(u8 const* return_address) const;
    u8 const* thunks_end() const { return m_thunks_end; }

private:
    // Blocks of one piece of guest code: it may be translated many times.
    using CodeKey = std::tuple<u64, u64, ModeBits>; // physical, RIP, mode
    struct Code {
        u64 samples = 0, host_size = 0;
        u32 guest_size = 0;
        u64 second_physical = 0;
        bool valid = true, hot = false;
    };
    struct ThunkPlace {
        u8 const* begin;
        Place place;
        char const* name;
    };

    explicit Profiler(EngineOptions const& options) : m_detailed(options.profile) {}
    void fold_samples(CodeCache&);
    void fold_cpu(CodeCache&, CpuProfile&);
    std::vector<HotCode> hottest(GuestMemory const&) const;
    HotCode describe(CodeKey const&, Code const&, GuestMemory const&) const;
    void report_places(Profile&) const;
    void report_operations(Profile&) const;

    bool const m_detailed;
    std::unique_ptr<PerfMap> m_perf_map;
    std::vector<ThunkPlace> m_thunks;
    u8 const* m_thunks_end = nullptr;
    std::vector<std::unique_ptr<CpuProfile>> m_cpus; // of vCPUs that are gone, too
    std::map<CodeKey, Code> m_code;
    u64 m_in_guards = 0;
};

// `profiler`: nullptr when nobody watches; then only counters that are always kept. The cache's lock is held.
void report_profile(CodeCache&, Profiler*, GuestMemory const&, Profile&);

// "kernel64", "user32", "real16", "v86", with ".step" for blocks of one instruction.
std::string mode_name(ModeBits);

// Counts without touching flags; `temporary` is lost.
void emit_count(Assembler&, Counter, HostRegister temporary);

// While one exists, this thread, which runs `cpu`, is sampled.
class SamplingScope {
public:
    explicit SamplingScope(Cpu&);
    ~SamplingScope();
    SamplingScope(SamplingScope const&) = delete;
    SamplingScope& operator=(SamplingScope const&) = delete;

private:
    std::optional<host::ThreadTimer> m_timer;
};

} // namespace anyhyve::soft
