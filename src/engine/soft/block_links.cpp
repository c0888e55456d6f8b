// Jumps from block to block: where their targets were found before, and direct ones linked for good.
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/stack_frame.hpp"
#include "engine/soft/thunks.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

u8* known_entry(Cpu const& cpu)
{
    if (!mode::linkable(cpu.mode))
        return nullptr;
    // SAFETY: entries hold addresses of generated code; one whose block goes is cleared first.
    return reinterpret_cast<u8*>(cpu.jump_cache[mode::tlb(cpu.mode)].find(cpu.rip));
}

void remember_entry(Cpu& cpu, Block const& block)
{
    if (!mode::linkable(block.mode))
        return;
    VcpuLock lock(cpu, cpu.mmu->cache(), Presence::in_device);
    if (block.valid)
        cpu.mmu->remember_jump(block.rip, reinterpret_cast<std::uintptr_t>(block.entry_memory)); // SAFETY: for generated code to jump to
}

namespace {

constexpr u8 most_relinks = 16;

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

} // namespace

extern "C" {

// A known target, reached for the first time or after its page has moved: jump there, and next time directly.
u8* runtime_link(Cpu* cpu, Edge* edge)
{
    merge_flags(*cpu);
    cpu->rip = edge->target;
    ++cpu->statistics->edge_misses;
    if (cpu->stepping || cpu->poll.load(std::memory_order_relaxed) != 0 || !mode::linkable(cpu->mode) || !edge->from->valid || watches_next_code(*cpu))
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
    if (cpu->stepping || cpu->poll.load(std::memory_order_relaxed) != 0 || watches_next_code(*cpu))
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

// The same from JMP, CALL or RET, which fault themselves when the target is not canonical or beyond the limit of their segment.
u8* runtime_jump_from(Cpu* cpu, u64 target, IndirectSite const* site)
{
    if (cpu->code64() ? is_canonical(target) : target <= cpu->segment(x86::Segment::cs).limit)
        return runtime_jump(cpu, target);
    merge_flags(*cpu);
    cpu->rip = site->rip;
    set_stack_pointer(*cpu, stack_pointer(*cpu) - static_cast<u64>(i64 { site->stack_adjustment }));
    static_cast<void>(raise_gp(*cpu));
    return deliver_and_dispatch(*cpu);
}

} // extern "C"

} // namespace anyhyve::soft
