// The engine's C++ half of running guest code: see runtime.hpp.
#include "engine/soft/runtime.hpp"

#include <sched.h>

#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/cpuid.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/operations.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/thunks.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

namespace {

u64 code_linear(Cpu const& cpu, u64 rip)
{
    return cpu.code64() ? rip : (cpu.segment(x86::Segment::cs).base + rip) & 0xffffffff;
}

u8* leave(Cpu& cpu)
{
    return cpu.thunks->leave;
}

// --- finding the next block ---

Outcome check_code_limit(Cpu& cpu)
{
    if (cpu.code64())
        return is_canonical(cpu.rip) ? Outcome::next : raise_gp(cpu);
    return cpu.rip <= cpu.segment(x86::Segment::cs).limit ? Outcome::next : raise_gp(cpu);
}

Outcome second_page_moved(Cpu& cpu, Block const& block, bool& moved)
{
    u64 physical = 0, guard = 0;
    u64 const next_page = (code_linear(cpu, cpu.rip) & ~u64 { 0xfff }) + 0x1000;
    STEP(cpu.mmu->fetch_page(next_page & cpu.mmu->linear_mask(), physical, guard));
    moved = physical != (block.second_physical & ~u64 { 0xfff });
    return Outcome::next;
}

// The translator's time.
class [[nodiscard]] TranslationScope {
public:
    explicit TranslationScope(Cpu& cpu) : m_cpu(cpu), m_begin(__builtin_ia32_rdtsc())
    {
        if (m_cpu.profile)
            m_cpu.profile->translating = true;
    }
    ~TranslationScope()
    {
        m_cpu.statistics->translation_ticks += __builtin_ia32_rdtsc() - m_begin;
        if (m_cpu.profile)
            m_cpu.profile->translating = false;
    }
    TranslationScope(TranslationScope const&) = delete;
    TranslationScope& operator=(TranslationScope const&) = delete;

private:
    Cpu& m_cpu;
    u64 const m_begin;
};

Outcome translate_block(Cpu& cpu, u64 physical, ModeBits mode, Block*& block)
{
    VectorStateGuard guard(cpu);
    TranslationScope time(cpu);
    return cpu.translator->translate(physical, mode, block);
}

// Lock held. False: another vCPU is in the way for a moment.
bool make_room(Cpu& cpu)
{
    if (cpu.mmu->cache().has_room())
        return true;
    VectorStateGuard guard(cpu);
    return cpu.mmu->cache().try_drop_everything(cpu);
}

} // namespace

Outcome find_block(Cpu& cpu, Block*& block, u64& guard, ModeBits also)
{
    STEP(check_code_limit(cpu));
    u64 const linear = code_linear(cpu, cpu.rip);
    u64 physical = 0;
    STEP(cpu.mmu->fetch_page(linear, physical, guard));
    physical |= linear & 0xfff;
    ModeBits const mode = cpu.mode | also | (cpu.stepping ? mode::single_step : 0);
    CodeCache& cache = cpu.mmu->cache();
    VcpuLock lock(cpu, cache, Presence::outside);
    block = cache.find(physical, cpu.rip, mode);
    if (block && block->crosses_page) {
        bool moved = false;
        STEP(second_page_moved(cpu, *block, moved));
        if (moved) {
            cache.invalidate(physical, 1);
            block = nullptr;
        }
    }
    if (block || !make_room(cpu))
        return Outcome::next;
    return translate_block(cpu, physical, mode, block);
}

namespace {

constexpr u8 most_relinks = 16;

// Where cpu.rip was found before. No locks, no hash.
u8* known_entry(Cpu const& cpu)
{
    if (!mode::linkable(cpu.mode))
        return nullptr;
    // SAFETY: entries hold addresses of generated code; one whose block goes is cleared first.
    return reinterpret_cast<u8*>(cpu.jump_cache[mode::tlb(cpu.mode)].find(cpu.rip));
}

// One in a few of the jumps whose target generated code has not found, but known_entry() has.
void bring_forward(Cpu& cpu)
{
    constexpr u64 few = 4;
    CodeCache& cache = cpu.mmu->cache();
    if (cpu.statistics->jump_misses % few != 0 || !cache.lock().try_lock())
        return;
    cpu.jump_cache[mode::tlb(cpu.mode)].bring_forward(cpu.rip);
    cache.lock().unlock();
}

void remember_entry(Cpu& cpu, Block const& block)
{
    if (!mode::linkable(block.mode))
        return;
    VcpuLock lock(cpu, cpu.mmu->cache(), Presence::in_device);
    if (block.valid)
        cpu.mmu->remember_jump(block.rip, reinterpret_cast<std::uintptr_t>(block.entry_memory)); // SAFETY: for generated code to jump to
}

// --- events between blocks ---

constexpr u32 waking_events = Cpu::event_nmi | Cpu::event_init | Cpu::event_sipi | Cpu::event_kick | Cpu::event_exit;

Outcome take_interrupt(Cpu& cpu)
{
    cpu.events.fetch_and(~u32 { Cpu::event_interrupt });
    int vector = -1;
    {
        VectorStateGuard guard(cpu);
        DeviceScope scope(cpu, cpu.mmu->cache());
        vector = cpu.wires.interrupts->acknowledge();
        if (cpu.wires.interrupts->interrupt_pending())
            cpu.events.fetch_or(Cpu::event_interrupt);
    }
    if (vector < 0)
        return Outcome::next;
    ++cpu.statistics->interrupts;
    ++cpu.statistics->interrupts_by_vector[static_cast<u8>(vector)];
    return deliver_interrupt(cpu, static_cast<u8>(vector), false);
}

// The host was found in a block. When that happens to so many samples out of so many, it is hot: code that is run now and then in a large program,
// such as a kernel's, finds other pages each time, and its slots would be missed more often than not.
void take_sample(Cpu& cpu)
{
    constexpr u8 enough = 4;
    constexpr u32 out_of = 100;
    cpu.events.fetch_and(~u32 { Cpu::event_sample });
    u8 const* const code = cpu.sample.load(std::memory_order_relaxed);
    CodeCache& cache = cpu.mmu->cache();
    VcpuLock lock(cpu, cache, Presence::outside);
    Block* const block = cache.block_at(code);
    if (!block || !block->valid || block->hot || !Translator::can_be_hot(block->mode))
        return;
    u32 const now = cpu.samples.load(std::memory_order_relaxed);
    if (now - block->samples_since > out_of) {
        block->samples_since = now;
        block->samples = 0;
    }
    if (++block->samples >= enough)
        cache.make_hot(*block);
}

// One of those that are on their way.
void take_nmi_event(Cpu& cpu)
{
    u32 events = cpu.events.load();
    while (!cpu.events.compare_exchange_weak(events, events & ~u32 { (events & Cpu::event_second_nmi) ? Cpu::event_second_nmi : Cpu::event_nmi }))
        ;
}

// False: leave the generated code.
bool take_events(Cpu& cpu)
{
    if (cpu.events.load(std::memory_order_relaxed) & Cpu::event_sample)
        take_sample(cpu);
    u32 const events = cpu.events.load(std::memory_order_acquire);
    if (events & (Cpu::event_kick | Cpu::event_exit)) {
        cpu.leaving = true;
        return false;
    }
    if (events & (Cpu::event_init | Cpu::event_sipi)) {
        cpu.leaving = true; // the run loop changes what the vCPU does
        return false;
    }
    if ((events & Cpu::event_nmi) && !cpu.nmi_blocked) {
        take_nmi_event(cpu);
        if (deliver_interrupt(cpu, x86::vector::nmi, true) == Outcome::leave) {
            cpu.leaving = true;
            return false;
        }
        return true;
    }
    if ((events & Cpu::event_interrupt) && (cpu.rflags & x86::rflags::interrupt)) {
        if (take_interrupt(cpu) == Outcome::leave) {
            cpu.leaving = true;
            return false;
        }
    }
    return true;
}

bool deliver(Cpu& cpu)
{
    ++cpu.statistics->exceptions;
    ++cpu.statistics->exceptions_by_vector[cpu.fault.vector & 31];
    cpu.stepping = false;
    cpu.interrupt_shadow = cpu.debug_shadow = false;
    cpu.pending_debug = 0;
    if (deliver_fault(cpu) != Outcome::leave)
        return true;
    cpu.leaving = true;
    return false;
}

// The instruction that ran alone is done: what TF, breakpoints, or a request for one step, want now. False: leave.
bool finish_step(Cpu& cpu)
{
    cpu.stepping = false;
    u64 const dr6 = cpu.pending_debug | (cpu.step_trap ? bit(14) : 0); // DR6.BS
    if (dr6 != 0 && !cpu.debug_shadow) {
        cpu.fault = { .vector = x86::vector::debug, .dr6 = dr6 };
        if (!deliver(cpu))
            return false;
    }
    if (cpu.step_once) {
        cpu.step_once = false;
        cpu.exit_reason = RunExit::debug;
        cpu.leaving = true;
        return false;
    }
    return true;
}

// Is cpu.rip in a page with a breakpoint on an instruction, or the one before, whose last instruction may end in it?
bool needs_care(Cpu const& cpu)
{
    return breakpoints_enabled(cpu) && watches_code_near(cpu, code_linear(cpu, cpu.rip));
}

// With breakpoints enabled: is one of them on the next instruction? RF lets it pass, and goes with that instruction (SDM vol. 3B 17.3.1.1).
bool hits_code_breakpoint(Cpu& cpu, bool shadow)
{
    bool const resumed = (cpu.rflags & x86::rflags::rf) != 0;
    cpu.rflags &= ~x86::rflags::rf;
    u64 const hits = resumed || shadow ? 0 : code_breakpoints(cpu);
    if (hits != 0)
        cpu.fault = { .vector = x86::vector::debug, .restarts = true, .dr6 = hits };
    return hits != 0;
}

} // namespace

u8* dispatch(Cpu& cpu)
{
    ++cpu.statistics->dispatches;
    if ((cpu.stepping || cpu.pending_debug != 0) && !finish_step(cpu))
        return leave(cpu);
    for (;;) {
        if (cpu.leaving)
            return leave(cpu);
        if (!cpu.interrupt_shadow) {
            cpu.poll.store(0, std::memory_order_relaxed);
            if (cpu.mmu->runs().is_full())
                cpu.mmu->forget_pages();
            if (cpu.events.load(std::memory_order_seq_cst) != 0 && !take_events(cpu))
                return leave(cpu);
        }
        cpu.step_trap = (cpu.rflags & x86::rflags::tf) != 0;
        bool const armed = breakpoints_enabled(cpu);
        cpu.stepping = cpu.step_trap || cpu.interrupt_shadow || cpu.step_once || cpu.pending_debug != 0 || needs_care(cpu);
        bool const shadow = cpu.debug_shadow && !cpu.cpuid->amd(); // AMD's processors report instruction breakpoints behind MOV SS
        cpu.interrupt_shadow = cpu.debug_shadow = false;
        if (armed && hits_code_breakpoint(cpu, shadow)) {
            if (!deliver(cpu))
                return leave(cpu);
            continue;
        }
        if (cpu.stepping)
            ++cpu.statistics->steps;
        stand_if_wanted(cpu, cpu.mmu->cache());
        if (!cpu.stepping) {
            if (u8* const entry = known_entry(cpu)) {
                split_flags(cpu);
                return entry;
            }
        }
        Block* block = nullptr;
        u64 guard = 0;
        if (find_block(cpu, block, guard) == Outcome::next) {
            if (!block) {
                sched_yield();
                continue;
            }
            remember_entry(cpu, *block);
            split_flags(cpu);
            return block->entry_memory;
        }
        if (!deliver(cpu))
            return leave(cpu);
    }
}

u8* deliver_and_dispatch(Cpu& cpu)
{
    if (!deliver(cpu))
        return leave(cpu);
    return dispatch(cpu);
}

namespace {

// Jumps within a page stay right as long as the block runs at all; others check that the target's page still lies where it did.
void link_edge(Cpu& cpu, Edge& edge, Block& block, u64 guard)
{
    CodeCache& cache = cpu.mmu->cache();
    VcpuLock lock(cpu, cache, Presence::in_device);
    if (!block.valid || !edge.from->valid)
        return;
    bool const flags_matter = block.entry_host != block.entry_memory;
    u8* const entry = edge.flags_in_memory ? block.entry_memory : block.entry_host;
    if (edge.to == &block) {
        // Its page was only missing from the code look-aside table, and is there again.
        ++cpu.statistics->edge_guard_misses;
        return;
    }
    if (edge.to)
        cache.unlink(edge);
    ++cpu.statistics->edge_links;
    if (edge.same_page)
        return cache.link(edge, block, entry);
    if (edge.relinks >= most_relinks) {
        ++cpu.statistics->edges_given_up;
        return;
    }
    ++edge.relinks;
    constexpr u64 guard_size = 96;
    u8* const start = cache.code_space(guard_size);
    if (!start)
        return;
    Assembler a(start, start + guard_size);
    bool const save = flags_matter && !edge.flags_in_memory;
    if (cpu.profile)
        emit_count(a, Counter::page_crossing, scratch_a);
    if (save)
        emit_save_flags(a, scratch_a);
    TlbIndex const index = mode::tlb(block.mode);
    unsigned const slot = code_tlb_slot(edge.target);
    a.mov_imm(scratch_b, guard);
    a.gs_arithmetic(Arithmetic::cmp, true, scratch_b, code_tlb_offset(index) + slot * 8);
    JumpSite const moved = a.jump_forward(Condition::not_equal);
    a.jump(cache.writable(save ? block.entry_memory : entry));
    a.bind(moved);
    // SAFETY: records lie below 2 GiB; the thunk gets the record's address.
    a.mov_imm(scratch_b, reinterpret_cast<std::uintptr_t>(&edge));
    a.jump(cache.writable(cpu.thunks->link_memory));
    ASSERT(!a.overflowed(), "a guard fits its space");
    if (cache.profiler()) {
        VectorStateGuard vectors(cpu);
        cache.profiler()->guard_made(cache.executable(start), cache.executable(a.position()), edge.target);
    }
    cache.commit_code(a.position());
    cache.link(edge, block, cache.executable(start));
}

Outcome execute_and_count(Cpu& cpu, OperationSite const& site)
{
    u64 const begin = __builtin_ia32_rdtsc();
    auto const* const info = site.instruction.info;
    Outcome const outcome = site.execute(cpu, site.instruction);
    cpu.profile->count_operation(info, __builtin_ia32_rdtsc() - begin);
    return outcome;
}

} // namespace

extern "C" {

u8* runtime_operation(Cpu* cpu, OperationSite const* site)
{
    merge_flags(*cpu);
    ++cpu->statistics->operations;
    cpu->rip = site->rip;
    cpu->next_rip = site->rip + site->instruction.length;
    if (!cpu->code64())
        cpu->next_rip &= mode::code_size(cpu->mode) == x86::CodeSize::bits16 ? 0xffff : 0xffffffff;
    ModeBits const mode = cpu->mode;
    Outcome const outcome = cpu->profile ? execute_and_count(*cpu, *site) : site->execute(*cpu, site->instruction);
    cpu->mmu->finish_writes();
    switch (outcome) {
    case Outcome::next:
        cpu->rip = cpu->next_rip;
        if (site->resume && site->block->valid && cpu->mode == mode && cpu->poll.load(std::memory_order_relaxed) == 0 && !cpu->interrupt_shadow && !cpu->stepping && !cpu->leaving && cpu->pending_debug == 0) {
            split_flags(*cpu);
            return site->resume;
        }
        return dispatch(*cpu);
    case Outcome::jump:
        return dispatch(*cpu);
    case Outcome::fault:
        return deliver_and_dispatch(*cpu);
    case Outcome::halt:
        if (cpu->stepping && (cpu->step_trap || cpu->pending_debug))
            return dispatch(*cpu); // the #DB behind it ends it at once
        ++cpu->statistics->halts;
        cpu->stepping = false;
        cpu->halted = true;
        return leave(*cpu);
    case Outcome::leave:
        cpu->leaving = true;
        return leave(*cpu);
    }
    __builtin_unreachable();
}

// A known target, reached for the first time or after its page has moved: jump there, and next time directly.
u8* runtime_link(Cpu* cpu, Edge* edge)
{
    merge_flags(*cpu);
    cpu->rip = edge->target;
    ++cpu->statistics->edge_misses;
    if (cpu->stepping || cpu->poll.load(std::memory_order_relaxed) != 0 || !mode::linkable(cpu->mode) || !edge->from->valid || needs_care(*cpu))
        return dispatch(*cpu);
    Block* block = nullptr;
    u64 guard = 0;
    u64 const flushes = cpu->mmu->cache().statistics().flushes;
    if (find_block(*cpu, block, guard) != Outcome::next)
        return deliver_and_dispatch(*cpu);
    if (!block)
        return dispatch(*cpu);
    split_flags(*cpu);
    if (cpu->mmu->cache().statistics().flushes == flushes)
        link_edge(*cpu, *edge, *block, guard);
    return block->entry_memory;
}

u8* runtime_jump(Cpu* cpu, u64 target)
{
    merge_flags(*cpu);
    cpu->rip = target;
    ++cpu->statistics->jump_misses;
    if (cpu->stepping || cpu->poll.load(std::memory_order_relaxed) != 0 || needs_care(*cpu))
        return dispatch(*cpu);
    if (u8* const entry = known_entry(*cpu)) {
        bring_forward(*cpu);
        split_flags(*cpu);
        return entry;
    }
    Block* block = nullptr;
    u64 guard = 0;
    if (find_block(*cpu, block, guard) != Outcome::next)
        return deliver_and_dispatch(*cpu);
    if (!block)
        return dispatch(*cpu);
    remember_entry(*cpu, *block);
    split_flags(*cpu);
    return block->entry_memory;
}

// The same from JMP, CALL or RET, which fault themselves when the target is not canonical.
u8* runtime_jump_from(Cpu* cpu, u64 target, IndirectSite const* site)
{
    if (!cpu->code64() || is_canonical(target))
        return runtime_jump(cpu, target);
    merge_flags(*cpu);
    cpu->rip = site->rip;
    cpu->gpr[x86::rsp] -= static_cast<u64>(i64 { site->stack_adjustment });
    static_cast<void>(raise_gp(*cpu));
    return deliver_and_dispatch(*cpu);
}

u8* runtime_dispatch(Cpu* cpu)
{
    merge_flags(*cpu);
    return dispatch(*cpu);
}

u8* runtime_faulted(Cpu* cpu)
{
    merge_flags(*cpu);
    return deliver_and_dispatch(*cpu);
}

} // extern "C"

void run_generated_code(Cpu& cpu)
{
    RunningScope const running(cpu, cpu.mmu->cache());
    load_vector_state(cpu);
    u8* const entry = dispatch(cpu);
    if (entry != cpu.thunks->leave)
        cpu.thunks->enter(&cpu, entry);
    save_vector_state(cpu);
    reset_vector_unit();
}

} // namespace anyhyve::soft
