// The run loop of a software vCPU: see vcpu.hpp.
#include "engine/soft/vcpu.hpp"

#include <utility>

#include "engine/soft/flags.hpp"
#include "engine/soft/host_signals.hpp"
#include "engine/soft/operations.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/sleep.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

SoftVcpu::SoftVcpu(VcpuWires const& wires, CodeCache& cache, Thunks const& thunks, Crowd& crowd)
    : m_cpu(std::make_unique<Cpu>()), m_cpuid(wires), m_mmu(*m_cpu, cache), m_translator(*m_cpu, cache, thunks), m_cache(cache), m_crowd(crowd)
{
    m_cpu->wires = wires;
    m_cpu->mmu = &m_mmu;
    m_cpu->cpuid = &m_cpuid;
    m_cpu->translator = &m_translator;
    m_cpu->thunks = &thunks;
    m_cpu->statistics = &m_statistics;
    set_spin_ticks();
    std::lock_guard lock(m_cache.lock());
    m_cache.add_cpu(*m_cpu);
    if (m_cache.profiler())
        m_cache.profiler()->add_cpu(*m_cpu);
    m_mmu.flush_all();
}

SoftVcpu::~SoftVcpu()
{
    std::lock_guard lock(m_cache.lock());
    m_cache.remove_cpu(*m_cpu);
}

// --- events ---

void SoftVcpu::signal(u32 event)
{
    m_cpu->events.fetch_or(event, std::memory_order_seq_cst);
    m_cpu->poll.store(1, std::memory_order_seq_cst);
    end_sleep(*m_cpu);
}

void SoftVcpu::request_exit(RunExit exit)
{
    m_requested.store(exit);
    signal(Cpu::event_exit);
}

// A processor takes an NMI at once and remembers one that comes meanwhile: two may be on their way here, too.
void SoftVcpu::nmi()
{
    u32 events = m_cpu->events.load();
    u32 wanted;
    do
        wanted = events | ((events & Cpu::event_nmi) ? Cpu::event_second_nmi : Cpu::event_nmi);
    while (!m_cpu->events.compare_exchange_weak(events, wanted));
    signal(0);
}

// Whatever start-up message came before means nothing any more.
void SoftVcpu::init()
{
    m_cpu->events.fetch_and(~u32 { Cpu::event_sipi }, std::memory_order_seq_cst);
    signal(Cpu::event_init);
}

// Only one that has had its INIT listens (SDM vol. 3A 9.4.4).
void SoftVcpu::startup(u8 vector)
{
    if (!(m_cpu->events.load(std::memory_order_seq_cst) & Cpu::event_init) && !m_waiting_for_sipi.load(std::memory_order_seq_cst))
        return;
    m_cpu->sipi_vector.store(vector);
    signal(Cpu::event_sipi);
}

void SoftVcpu::forget_signals()
{
    m_cpu->events.fetch_and(~u32 { Cpu::event_init | Cpu::event_sipi | Cpu::event_nmi | Cpu::event_second_nmi }, std::memory_order_seq_cst);
}

bool SoftVcpu::can_wake() const
{
    u32 const events = m_cpu->events.load(std::memory_order_seq_cst);
    if (events & (Cpu::event_kick | Cpu::event_exit | Cpu::event_init | Cpu::event_sipi))
        return true;
    if (m_waiting_for_sipi.load(std::memory_order_relaxed))
        return false;
    if ((events & Cpu::event_nmi) && !m_cpu->nmi_blocked)
        return true;
    if (m_cpu->monitor.waiting && (m_cpu->line_stored.load(std::memory_order_seq_cst) || m_cpu->monitor.line_changed()))
        return true;
    // The event only says "look": HLT ends when there is something to take.
    return (events & Cpu::event_interrupt) && (m_cpu->rflags & x86::rflags::interrupt) && m_cpu->wires.interrupts->interrupt_pending();
}

void SoftVcpu::sleep()
{
    IdleScope const idle(*m_cpu->crowd);
    ++m_statistics.halt_sleeps;
    if (m_cpu->monitor.waiting)
        m_cache.begin_line_watch(*m_cpu, m_cpu->monitor.line);
    while (!can_wake()) {
        announce_sleep(*m_cpu);
        if (!can_wake())
            sleep_announced(*m_cpu);
        m_cpu->sleeping.store(0, std::memory_order_seq_cst);
    }
    if (m_cpu->monitor.waiting)
        m_cache.end_line_watch(*m_cpu);
}

// Sleeping and waking through the host's scheduler takes long, so look around for a while first, unless another needs the host CPU.
void SoftVcpu::wait()
{
    u64 const since = std::exchange(m_cpu->monitor.since, 0);
    u64 const start = since != 0 ? since : __builtin_ia32_rdtsc();
    while (!m_cpu->crowd->is_crowded() && __builtin_ia32_rdtsc() - start < m_cpu->spin_ticks) {
        for (int i = 0; i < 64; ++i) {
            if (can_wake())
                return;
            __builtin_ia32_pause();
        }
    }
    sleep();
    m_halt_spin.waited(static_cast<u64>(u128 { __builtin_ia32_rdtsc() - start } * 1'000'000'000 / m_cpu->wires.clock->tsc_frequency()));
    set_spin_ticks();
}

void SoftVcpu::set_spin_ticks()
{
    m_cpu->spin_ticks = static_cast<u64>(u128 { m_halt_spin.nanoseconds() } * m_cpu->wires.clock->tsc_frequency() / 1'000'000'000);
}

// True: leave run() with `exit`.
bool SoftVcpu::take_lifecycle_events(RunExit& exit)
{
    u32 const events = m_cpu->events.load(std::memory_order_seq_cst);
    if (events & Cpu::event_exit) {
        m_cpu->events.fetch_and(~u32 { Cpu::event_exit });
        exit = m_requested.load();
        return true;
    }
    if (events & Cpu::event_kick) {
        m_cpu->events.fetch_and(~u32 { Cpu::event_kick });
        exit = RunExit::kicked;
        return true;
    }
    take_start_messages();
    return false;
}

void SoftVcpu::take_start_messages()
{
    if (m_cpu->events.load(std::memory_order_seq_cst) & Cpu::event_init) {
        reset_by_init(*m_cpu);
        m_cpu->events.fetch_and(~u32 { Cpu::event_nmi | Cpu::event_second_nmi }); // of what was before, like all else
        m_cpu->halted = false;
        // The bootstrap processor starts over; the others wait to be told where (SDM vol. 3A 9.4). In this order: startup() looks at either.
        m_waiting_for_sipi = m_cpu->wires.id != 0;
        m_cpu->events.fetch_and(~u32 { Cpu::event_init });
    }
    if (m_cpu->events.load() & Cpu::event_sipi) {
        m_cpu->events.fetch_and(~u32 { Cpu::event_sipi });
        if (m_waiting_for_sipi) {
            start_by_sipi(*m_cpu, m_cpu->sipi_vector.load());
            m_cpu->halted = false;
            m_waiting_for_sipi = false;
        }
    }
}

void SoftVcpu::wait_for_event()
{
    u64 const begin = __builtin_ia32_rdtsc();
    wait();
    m_statistics.halted_ticks += __builtin_ia32_rdtsc() - begin;
}

// Generated code, and how long it ran.
void SoftVcpu::run_for_a_while()
{
    m_statistics.running_since = __builtin_ia32_rdtsc();
    if (m_cpu->profile)
        m_cpu->profile->inside = true;
    run_generated_code(*m_cpu);
    if (m_cpu->profile)
        m_cpu->profile->inside = false;
    m_statistics.run_ticks += __builtin_ia32_rdtsc() - m_statistics.running_since;
    m_statistics.running_since = 0;
}

RunExit SoftVcpu::loop()
{
    m_cpu->crowd = &m_crowd.join();
    BusyScope const busy(*m_cpu->crowd);
    m_cpu->clock_tsc_offset = m_cpu->wires.clock->tsc_offset(); // changes only while no vCPU runs
    for (;;) {
        RunExit exit;
        if (take_lifecycle_events(exit))
            return exit;
        if (m_waiting_for_sipi) {
            wait_for_event();
            continue;
        }
        if (m_cpu->halted) {
            bool const monitors = m_cpu->monitor.waiting;
            if (!monitors && !(m_cpu->rflags & x86::rflags::interrupt) && !can_wake())
                return RunExit::halted;
            wait_for_event();
            m_cpu->monitor.waiting = false;
            m_cpu->line_stored.store(false, std::memory_order_relaxed);
            // HLT goes on when run() does. MWAIT may end for any reason, so it is over.
            if (!monitors && (m_cpu->events.load() & (Cpu::event_kick | Cpu::event_exit | Cpu::event_init)))
                continue;
            m_cpu->halted = false;
        }
        m_cpu->leaving = false;
        resume_sampling(*m_cpu);
        run_for_a_while();
        if (m_cpu->leaving && !(m_cpu->events.load() & (Cpu::event_kick | Cpu::event_exit | Cpu::event_init | Cpu::event_sipi)))
            return m_cpu->exit_reason;
    }
}

RunExit SoftVcpu::run()
{
    SignalScope scope(*m_cpu);
    SamplingScope samples(*m_cpu);
    return loop();
}

RunExit SoftVcpu::step()
{
    SignalScope scope(*m_cpu);
    m_cpu->step_once = true;
    RunExit const exit = loop();
    m_cpu->step_once = false;
    return exit;
}

// --- statistics ---

std::string SoftVcpu::statistics_name() const
{
    return fmt::format("vcpu{}", m_cpu->wires.id);
}

std::vector<Statistic> SoftVcpu::statistics() const
{
    auto const& mmu = m_mmu.statistics();
    u64 const mapped = m_mmu.runs().pages_mapped();
    auto& cache = m_cache.statistics();
    std::vector<Statistic> list {
        { "blocks translated", cache.blocks_translated },
        { "instructions translated", cache.instructions_translated },
        { "guest code bytes translated", cache.guest_bytes },
        { "host code bytes generated", cache.host_bytes },
        { "blocks invalidated", cache.blocks_invalidated },
        { "block jumps linked", cache.edges_linked },
        { "block jumps unlinked", cache.edges_unlinked },
        { "code cache flushes", cache.flushes },
        { "blocks found hot", cache.blocks_hot },
        { "pages mapped beside their neighbours", mapped },
        { "accesses of hot code that stray", cache.sites_straying },
        { "accesses of hot code that wander", cache.sites_wandering },
        { "dispatcher entries", m_statistics.dispatches },
        { "direct jump misses", m_statistics.edge_misses },
        { "direct jumps whose page was not looked aside", m_statistics.edge_guard_misses },
        { "direct jumps relinked too often", m_statistics.edges_given_up },
        { "indirect jump misses", m_statistics.jump_misses },
        { "instructions emulated", m_statistics.operations },
        { "slow memory accesses", m_statistics.slow_accesses },
        { "slow accesses: look-aside entry filled", m_statistics.slow_refills },
        { "slow accesses: operand in two pages", m_statistics.slow_crossings },
        { "slow accesses: device memory", m_statistics.slow_devices },
        { "slow accesses: store to a page with translated code", m_statistics.slow_watched },
        { "slow accesses: masked operand partly absent", m_statistics.slow_masked },
        { "slow accesses: exception", m_statistics.slow_faults },
        { "slow accesses: segment that is not flat", m_statistics.slow_segmented },
        { "operands by pieces", mmu.odd_operands },
        { "page walks", mmu.page_walks },
        { "look-aside flushes, all", mmu.flushes_all },
        { "look-aside flushes, non-global", mmu.flushes_non_global },
        { "look-aside flushes, one page", mmu.flushes_page },
        { "stores to translated code", mmu.code_writes },
        { "device memory reads", mmu.device_reads },
        { "device memory writes", mmu.device_writes },
        { "number of times hlt was intercepted", m_statistics.halts },
        { "sleeps of a halted virtual CPU", m_statistics.halt_sleeps },
        { "times PAUSE gave way to others", m_statistics.pause_yields },
        { "instructions stepped", m_statistics.steps },
        { "exceptions", m_statistics.exceptions },
        { "interrupts", m_statistics.interrupts },
    };
    for (unsigned i = 0; i < m_statistics.exceptions_by_vector.size(); ++i) {
        if (m_statistics.exceptions_by_vector[i])
            list.push_back({ fmt::format("exceptions of vector {}", i), m_statistics.exceptions_by_vector[i] });
    }
    for (unsigned i = 0; i < m_statistics.interrupts_by_vector.size(); ++i) {
        if (m_statistics.interrupts_by_vector[i])
            list.push_back({ fmt::format("interrupts of vector {}", i), m_statistics.interrupts_by_vector[i] });
    }
    return list;
}

} // namespace anyhyve::soft
