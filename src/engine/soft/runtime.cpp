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
#include "engine/soft/thunks.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

namespace {

// Without the C library, whose versions use vector registers.
void copy_bytes(void* to, void const* from, u64 count)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

bool is_canonical(u64 linear)
{
    return static_cast<u64>(sign_extend(linear, 48)) == linear;
}

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

Outcome find_block(Cpu& cpu, Block*& block, u64& guard)
{
    STEP(check_code_limit(cpu));
    u64 const linear = code_linear(cpu, cpu.rip);
    u64 physical = 0;
    STEP(cpu.mmu->fetch_page(linear, physical, guard));
    physical |= linear & 0xfff;
    ModeBits const mode = cpu.mode | (cpu.stepping ? mode::single_step : 0);
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

// Flags are complete in cpu.rflags.
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

// --- memory accesses ---

u64 pointer_value(u8* host)
{
    // SAFETY: for r14 of generated code, which accesses site->size bytes there.
    return reinterpret_cast<std::uintptr_t>(host);
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
    unsigned const slot = static_cast<unsigned>(edge.target >> 12) & (code_tlb_entries - 1);
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

AccessResult access_fault(Cpu& cpu, AccessSite const& site)
{
    ++cpu.statistics->slow_faults;
    // Flags that are dead here are overwritten by the block before anything reads them, also after the handler has returned.
    if (site.flags_in_memory)
        merge_flags(cpu);
    return { 0, deliver_and_dispatch(cpu) };
}

// The access hits a data breakpoint, to be reported behind this instruction: it begins again in a block of its own.
AccessResult begin_alone(Cpu& cpu, AccessSite const& site)
{
    if (site.flags_in_memory)
        merge_flags(cpu);
    cpu.stepping = true;
    cpu.step_trap = false;
    Block* block = nullptr;
    u64 guard = 0;
    if (find_block(cpu, block, guard) != Outcome::next)
        return { 0, deliver_and_dispatch(cpu) };
    if (!block) {
        cpu.stepping = false;
        return { 0, dispatch(cpu) };
    }
    split_flags(cpu);
    return { 0, block->entry_memory };
}

// The operand is in two pages, or on the bus.
AccessResult access_by_pieces(Cpu& cpu, u64 linear, AccessSite const& site, Mmu::Target const& first, Mmu::Target const& second, u32 first_size)
{
    auto& operand = cpu.operand;
    ++cpu.mmu->statistics().odd_operands;
    ++(first.host ? cpu.statistics->slow_crossings : cpu.statistics->slow_devices);
    operand.kind = Cpu::OperandBounce::Kind::pieces;
    operand.size = site.size;
    operand.first_size = first_size;
    operand.host[0] = first.host;
    operand.host[1] = second.host;
    operand.physical[0] = first.physical;
    operand.physical[1] = second.physical;
    operand.data = cpu.operand_buffer.data() + (linear & 63);
    if (site.locked && first.host && second.host && cpu.wires.policy.vcpu_count > 1) {
        // The host cannot make two pages' worth of operand atomic either: nobody else runs until it is written back.
        VcpuLock lock(cpu, cpu.mmu->cache(), Presence::in_device);
        cpu.mmu->cache().begin_standstill(cpu);
        lock.keep(); // runtime_commit() unlocks
        operand.exclusive = true;
    }
    // What is only written is copied, too: an instruction may leave it as it is (x87 stores with an unmasked exception).
    for (unsigned i = 0; i < (first_size < site.size ? 2u : 1u); ++i) {
        u8* const to = operand.data + (i ? first_size : 0);
        u32 const size = i ? site.size - first_size : first_size;
        if (operand.host[i])
            copy_bytes(to, operand.host[i], size);
        else if (site.reads || site.access == Access::read)
            cpu.mmu->read_device(operand.physical[i], to, size);
    }
    return { pointer_value(operand.data), site.access == Access::read ? site.resume : site.resume_copy };
}

// A part of the operand of a masked instruction is not there: the instruction tells whether it wants it.
AccessResult access_guarded(Cpu& cpu, u64 linear, AccessSite const& site, Mmu::Target const (&parts)[2], bool const (&present)[2], u32 first_size)
{
    auto& operand = cpu.operand;
    ++cpu.mmu->statistics().odd_operands;
    ++cpu.statistics->slow_masked;
    operand.kind = Cpu::OperandBounce::Kind::guarded;
    operand.size = site.size;
    operand.first_size = first_size;
    operand.linear = linear;
    operand.data = cpu.guard_area.place(linear & 0xfff, present[0], present[1]);
    if (!operand.data) {
        cpu.fault = operand.missing[present[0] ? 1 : 0];
        return access_fault(cpu, site);
    }
    for (unsigned i = 0; i < 2; ++i) {
        operand.host[i] = present[i] ? parts[i].host : nullptr;
        operand.physical[i] = parts[i].physical;
        u32 const offset = i ? first_size : 0, size = i ? site.size - first_size : first_size;
        if (!present[i] || size == 0)
            continue;
        if (operand.host[i])
            copy_bytes(operand.data + offset, operand.host[i], size);
        else
            cpu.mmu->read_device(operand.physical[i], operand.data + offset, size);
        copy_bytes(cpu.operand_buffer.data() + offset, operand.data + offset, size);
    }
    return { pointer_value(operand.data), site.access == Access::read ? site.resume : site.resume_copy };
}

// What the masked store has changed of the part that is there.
void commit_guarded(Cpu& cpu)
{
    auto const& operand = cpu.operand;
    for (unsigned i = 0; i < 2; ++i) {
        u32 const offset = i ? operand.first_size : 0, size = i ? operand.size - operand.first_size : operand.first_size;
        if (!operand.host[i])
            continue;
        for (u32 n = 0; n < size; ++n) {
            if (operand.data[offset + n] != cpu.operand_buffer[offset + n])
                operand.host[i][n] = operand.data[offset + n];
        }
        cpu.mmu->note_write(operand.physical[i], size);
    }
}

Outcome raise_segment_fault(Cpu& cpu, AccessSite const& site)
{
    return raise_with_code(cpu, site.segment == x86::Segment::ss ? x86::vector::stack_fault : x86::vector::general_protection, 0);
}

// Vector operands that must be aligned: before anything else about their address.
bool is_misaligned(Cpu& cpu, u64 linear, AccessSite const& site)
{
    if (!site.alignment || !(linear & (site.alignment - 1u)))
        return false;
    static_cast<void>(raise_gp(cpu));
    return true;
}

// #AC: what it wants is the largest power of two in the operand's size, up to 16 (SDM vol. 3A table 6-7). Masked operands are left alone.
bool fails_alignment_check(Cpu& cpu, u64 linear, AccessSite const& site)
{
    if (!(cpu.mode & mode::alignment_check) || site.masked)
        return false;
    u64 const alignment = site.size >= 16 ? 16 : bit(31u - static_cast<unsigned>(__builtin_clz(site.size)));
    if (!(linear & (alignment - 1)))
        return false;
    static_cast<void>(raise_with_code(cpu, x86::vector::alignment_check, 0));
    return true;
}

// The whole operand is out of reach: cpu.fault says why.
AccessResult access_out_of_reach(Cpu& cpu, u64 linear, AccessSite const& site)
{
    if (!site.masked)
        return access_fault(cpu, site);
    cpu.operand.missing[0] = cpu.operand.missing[1] = cpu.fault;
    u32 const room = static_cast<u32>(0x1000 - (linear & 0xfff));
    return access_guarded(cpu, linear, site, {}, { false, false }, site.size < room ? site.size : room);
}

// `end_is_canonical`: false when only the operand's second page is beyond the canonical addresses.
AccessResult access(Cpu& cpu, u64 linear, AccessSite const& site, bool end_is_canonical = true)
{
    ++cpu.statistics->slow_accesses;
    if (is_misaligned(cpu, linear, site) || fails_alignment_check(cpu, linear, site))
        return access_fault(cpu, site);
    if (breakpoints_enabled(cpu) && watches_access(cpu, linear, site.size, site.access)) {
        if (!cpu.stepping)
            return begin_alone(cpu, site);
        note_data_access(cpu, linear, site.size, site.access);
    }
    TlbIndex const index = mode::tlb(cpu.mode);
    u32 const room = static_cast<u32>(0x1000 - (linear & 0xfff));
    u32 const first_size = site.size < room ? site.size : room;
    Mmu::Target parts[2];
    auto const& [first, second] = parts;
    bool const crosses = first_size < site.size;
    bool present[2] = { cpu.mmu->resolve(linear, site.access, index, parts[0]) == Outcome::next, true };
    if (!present[0] && !site.masked)
        return access_fault(cpu, site);
    cpu.operand.missing[0] = cpu.fault;
    if (!end_is_canonical) {
        static_cast<void>(raise_segment_fault(cpu, site));
        present[1] = false;
    } else if (crosses)
        present[1] = cpu.mmu->resolve((linear + first_size) & cpu.mmu->linear_mask(), site.access, index, parts[1]) == Outcome::next;
    else
        present[1] = present[0];
    if (!present[1] && !site.masked)
        return access_fault(cpu, site);
    cpu.operand.missing[1] = cpu.fault;
    if (!present[0] || !present[1])
        return access_guarded(cpu, linear, site, parts, present, first_size);
    if (!first.host || (crosses && (!second.host || second.host != first.host + first_size)))
        return access_by_pieces(cpu, linear, site, first, second, first_size);
    if (site.access == Access::write && (first.watched || second.watched)) {
        ++cpu.statistics->slow_watched;
        auto& operand = cpu.operand;
        operand.kind = Cpu::OperandBounce::Kind::in_place;
        operand.size = site.size;
        operand.first_size = first_size;
        operand.physical[0] = first.physical;
        operand.physical[1] = second.physical;
        return { pointer_value(first.host), site.resume_copy };
    }
    ++(crosses ? cpu.statistics->slow_crossings : cpu.statistics->slow_refills);
    return { pointer_value(first.host), site.resume };
}

// Not canonical; or beyond the limit of a flat segment, which generated code has not checked (SDM vol. 3A 5.3). Others begin anew at 0.
bool is_beyond(Cpu const& cpu, u64 linear, AccessSite const& site)
{
    if (cpu.code64())
        return !is_canonical(linear);
    bool const flat = (cpu.mode & mode::flat) && site.segment != x86::Segment::fs && site.segment != x86::Segment::gs;
    return flat && linear > 0xffffffff;
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

AccessResult runtime_access(Cpu* cpu, u64 linear, AccessSite const* site)
{
    cpu->rip = site->rip;
    cpu->next_rip = site->rip + site->length;
    if (is_beyond(*cpu, linear, *site) || is_beyond(*cpu, linear + site->size - 1, *site)) {
        if (is_misaligned(*cpu, linear, *site))
            return access_fault(*cpu, *site);
        if (site->masked && !is_beyond(*cpu, linear, *site))
            return access(*cpu, linear, *site, false);
        static_cast<void>(raise_segment_fault(*cpu, *site));
        return access_out_of_reach(*cpu, linear, *site);
    }
    return access(*cpu, linear, *site);
}

AccessResult runtime_access_segmented(Cpu* cpu, u64 offset, AccessSite const* site)
{
    cpu->rip = site->rip;
    cpu->next_rip = site->rip + site->length;
    ++cpu->statistics->slow_segmented;
    u64 linear = 0;
    if (cpu->mmu->linear_address(site->segment, offset, site->size, site->access, linear) != Outcome::next)
        return access_out_of_reach(*cpu, linear, *site);
    return access(*cpu, linear, *site);
}

// A slot of hot code has missed many times. When that took little time, a longer run of pages may help; when it took next to none and no run is
// longer, the access is better off without a slot. Nothing may wait here: the code around relies on checks that it has made before.
AccessResult runtime_site_misses(Cpu* cpu, u64 linear, HotSite const* site)
{
    constexpr u32 patience = 256;
    constexpr u64 quick = patience * 256, slow = patience * 2048; // units of the time stamp counter
    u64 const now = __builtin_ia32_rdtsc();
    u64& checked_at = cpu->site_checked_at[site->slot];
    u64 const took = checked_at == 0 ? ~u64 { 0 } : now - checked_at;
    bool const has_page = site->slot < page_slots && !site->constant;
    bool const longer = took < slow && site->slot >= page_slots && cpu->mmu->runs().extend(linear, mode::tlb(cpu->mode));
    CodeCache& cache = cpu->mmu->cache();
    if (!longer && took < (has_page ? slow : quick) && cache.lock().try_lock()) {
        if (has_page)
            cache.note_straying(*site->block, site->physical);
        else
            cache.note_wandering(*site->block, site->physical);
        cache.lock().unlock();
    }
    checked_at = now;
    cpu->site_patience[site->slot] = patience;
    return { linear, site->resume };
}

u8* runtime_commit(Cpu* cpu, AccessSite const* site)
{
    auto& operand = cpu->operand;
    ++cpu->statistics->commits;
    unsigned const parts = operand.first_size < operand.size ? 2 : 1;
    auto size_of = [&](unsigned i) { return i ? operand.size - operand.first_size : operand.first_size; };
    if (operand.kind == Cpu::OperandBounce::Kind::pieces) {
        for (unsigned i = 0; i < parts; ++i) {
            u8 const* const from = operand.data + (i ? operand.first_size : 0);
            if (operand.host[i])
                copy_bytes(operand.host[i], from, size_of(i));
            else
                cpu->mmu->write_device(operand.physical[i], from, size_of(i));
        }
        if (operand.exclusive) {
            operand.exclusive = false;
            cpu->mmu->cache().end_standstill();
            cpu->mmu->cache().lock().unlock();
        }
    }
    if (operand.kind == Cpu::OperandBounce::Kind::guarded)
        commit_guarded(*cpu);
    else {
        for (unsigned i = 0; i < parts; ++i)
            cpu->mmu->note_write(operand.physical[i], size_of(i));
    }
    // Where the access is not the end of its instruction, the block runs on to its own end.
    if (site->block->valid || !site->ends_instruction)
        return site->resume_after;
    cpu->rip = site->rip + site->length;
    return site->flags_in_memory_after ? cpu->thunks->dispatch_memory : cpu->thunks->dispatch_host;
}

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
    become_running(cpu, cpu.mmu->cache(), Presence::outside);
    load_vector_state(cpu);
    u8* const entry = dispatch(cpu);
    if (entry != cpu.thunks->leave)
        cpu.thunks->enter(&cpu, entry);
    save_vector_state(cpu);
    reset_vector_unit();
    cpu.presence.store(static_cast<u8>(Presence::outside), std::memory_order_seq_cst);
}

} // namespace anyhyve::soft
