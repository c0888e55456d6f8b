// Samples of where the host is while it runs a virtual CPU: a timer's signal a thousand times a second, to the virtual CPU's own thread.
// The handler only counts; what an address stands for is found out later, under the code cache's lock.
#include <cerrno>

#include <ucontext.h>

#include "engine/soft/activity.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/profiler.hpp"

namespace anyhyve::soft {

namespace {

constexpr long interval_nanoseconds = 1'000'000;
constexpr int profile_signal = SIGVTALRM; // SIGPROF is what finds hot code
thread_local Cpu* t_sampled = nullptr;

void count_place(CpuProfile& profile, Place place)
{
    profile.places[static_cast<unsigned>(place)].fetch_add(1, std::memory_order_relaxed);
}

void count_address(CpuProfile& profile, u32 address)
{
    constexpr unsigned most_tries = 64;
    unsigned slot = static_cast<unsigned>(address * 0x9e3779b97f4a7c15 >> 32);
    for (unsigned tries = 0; tries < most_tries; ++tries, ++slot) {
        auto& sample = profile.samples[slot % CpuProfile::sample_slots];
        u32 const held = sample.address.load(std::memory_order_relaxed);
        if (held != 0 && held != address + 1)
            continue;
        sample.address.store(address + 1, std::memory_order_relaxed);
        sample.count.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    profile.samples_lost.fetch_add(1, std::memory_order_relaxed);
}

// Outside of generated code: what the runtime is about.
Place place_in_runtime(Cpu const& cpu, Profiler const& profiler)
{
    CpuProfile const& profile = *cpu.profile;
    if (!profile.inside)
        return Place::waiting;
    if (profile.translating)
        return Place::translation;
    if (cpu.presence.load(std::memory_order_relaxed) == static_cast<u8>(Presence::in_device))
        return Place::device;
    if (cpu.host_rsp == 0)
        return Place::dispatch; // the first block is looked for
    // SAFETY: the stack of this thread; thunks call the runtime from there, so the return address lies right below.
    return profiler.place_of(*reinterpret_cast<u8* const volatile*>(cpu.host_rsp - sizeof(u8*)));
}

// SAFETY: async-signal-safe: atomics and memory that is allocated already.
void on_sample(int, siginfo_t*, void* context)
{
    Cpu* const cpu = t_sampled;
    if (!cpu)
        return;
    int const error = errno;
    CodeCache const& cache = cpu->mmu->cache();
    // SAFETY: the third argument of an SA_SIGINFO handler is the ucontext of this signal; the address is only compared.
    auto const* const pc = reinterpret_cast<u8 const*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    if (!cache.contains(pc))
        count_place(*cpu->profile, place_in_runtime(*cpu, *cache.profiler()));
    else if (pc < cache.profiler()->thunks_end())
        count_place(*cpu->profile, Place::passages);
    else
        count_address(*cpu->profile, static_cast<u32>(pc - cache.code_start()));
    errno = error;
}

} // namespace

SamplingScope::SamplingScope(Cpu& cpu)
{
    if (!cpu.profile)
        return;
    cpu.host_rsp = 0; // may be of another thread
    t_sampled = &cpu;
    m_timer.emplace(profile_signal, on_sample);
    m_timer->fire_every(interval_nanoseconds); // without a timer there are no samples, and the report has none
}

SamplingScope::~SamplingScope()
{
    if (m_timer)
        t_sampled = nullptr;
}

void Profiler::fold_samples(CodeCache& cache)
{
    for (auto const& cpu : m_cpus)
        fold_cpu(cache, *cpu);
}

// A sample that the handler takes meanwhile may be lost.
void Profiler::fold_cpu(CodeCache& cache, CpuProfile& profile)
{
    for (auto& sample : profile.samples) {
        u32 const address = sample.address.exchange(0, std::memory_order_relaxed);
        u32 const count = sample.count.exchange(0, std::memory_order_relaxed);
        if (address == 0 || count == 0)
            continue;
        Block const* const block = cache.block_at(cache.code_start() + address - 1);
        if (!block) {
            m_in_guards += count;
            continue;
        }
        auto& code = m_code[{ block->physical, block->rip, block->mode }];
        code.samples += count;
        code.host_size = static_cast<u64>(block->code_end - block->code_begin);
        code.guest_size = block->guest_size;
        code.second_physical = block->crosses_page ? block->second_physical : 0;
        code.valid = block->valid;
        code.hot = block->hot;
    }
}

} // namespace anyhyve::soft
