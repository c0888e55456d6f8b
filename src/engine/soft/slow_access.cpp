// Memory accesses of translated code that its look-aside probe does not settle: page walks, operands in two pages or on the bus, masked operands, stores to
// pages with code; and slots of hot code that are missed too often.
#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/byte_copy.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/thunks.hpp"

namespace anyhyve::soft {

namespace {

u64 pointer_value(u8* host)
{
    // SAFETY: for r14 of generated code, which accesses site->size bytes there.
    return reinterpret_cast<std::uintptr_t>(host);
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

// The instruction at cpu.rip begins once more, in code that looks every access up by itself.
Block* find_careful(Cpu& cpu, bool flags_in_memory, u8*& resume)
{
    if (flags_in_memory)
        merge_flags(cpu);
    Block* block = nullptr;
    u64 guard = 0;
    if (find_block(cpu, block, guard, mode::careful) != Outcome::next)
        resume = deliver_and_dispatch(cpu);
    else if (!block)
        resume = dispatch(cpu);
    else {
        split_flags(cpu);
        resume = block->entry_memory;
    }
    return block;
}

// In the midst of a run of stack accesses: the page that they rely on is not certain any more, or will not be once the access is done.
AccessResult begin_carefully(Cpu& cpu, AccessSite const& site)
{
    u8* resume = nullptr;
    find_careful(cpu, site.flags_in_memory, resume);
    return { 0, resume };
}

// Of what a look-aside table knew, resolve() leaves it out. A device, or waiting for the others, takes time, in which code there may be translated.
u64 physical_of(Cpu& cpu, Mmu::Target const& target)
{
    if (!target.host)
        return target.physical;
    u64 const host = pointer_value(target.host);
    return cpu.wires.memory->address_at(cpu.mmu->runs().offset_in_ram(host & page_mask)).value() | (host & ~page_mask);
}

// What an instruction with a mask found in an operand of up to 64 bytes, behind where that is bounced to.
u8* before_masked(Cpu& cpu) { return cpu.operand_buffer.data() + 128; }

// Of a masked store, which leaves the rest to others.
void copy_changed(u8* to, u8 const* now, u8 const* before, u32 size)
{
    for (u32 n = 0; n < size; ++n) {
        if (now[n] != before[n])
            to[n] = now[n];
    }
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
    operand.physical[0] = physical_of(cpu, first);
    operand.physical[1] = physical_of(cpu, second);
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
    if (site.masked)
        copy_bytes(before_masked(cpu), operand.data, site.size);
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
        operand.physical[i] = physical_of(cpu, parts[i]);
        u32 const offset = i ? first_size : 0, size = i ? site.size - first_size : first_size;
        if (!present[i] || size == 0)
            continue;
        if (operand.host[i])
            copy_bytes(operand.data + offset, operand.host[i], size);
        else
            cpu.mmu->read_device(operand.physical[i], operand.data + offset, size);
        copy_bytes(before_masked(cpu) + offset, operand.data + offset, size);
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
        copy_changed(operand.host[i], operand.data + offset, before_masked(cpu) + offset, size);
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
    if (site.in_stack_run)
        return begin_carefully(cpu, site);
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
    u64 const stack_page = cpu.stack_pages[index].page;
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
    bool const in_place = present[0] && present[1] && first.host && (!crosses || (second.host && second.host == first.host + first_size));
    bool const watched = site.access == Access::write && (first.watched || second.watched);
    if (site.in_stack_run && (!in_place || watched || cpu.stack_pages[index].page != stack_page))
        return begin_carefully(cpu, site);
    if (!present[0] || !present[1])
        return access_guarded(cpu, linear, site, parts, present, first_size);
    if (!in_place)
        return access_by_pieces(cpu, linear, site, first, second, first_size);
    if (watched) {
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
        if (has_page && !cache.strays(site->physical))
            cache.note_straying(*site->block, site->physical);
        else if (took < quick && (!has_page || site->block->valid)) // no run is long enough, or there was no slot for one
            cache.note_wandering(*site->block, site->physical);
        cache.lock().unlock();
    }
    checked_at = now;
    cpu->site_patience[site->slot] = patience;
    return { linear, site->resume };
}

// No look-aside table knows the page of an access of hot code. What holds for runtime_site_misses() holds here as well: nothing may wait, and nothing
// that the guest could notice may happen.
AccessResult runtime_find_page(Cpu* cpu, u64 linear, HotSite const* site)
{
    bool const beyond = cpu->code64() ? !is_canonical(linear) : linear > 0xffffffff;
    if (beyond || (linear & 0xfff) + site->size > 0x1000 || !cpu->mmu->find_quietly(linear, site->access, mode::tlb(cpu->mode)))
        return { linear, site->leave };
    ++cpu->statistics->slow_accesses;
    ++cpu->statistics->slow_refills;
    return { linear, site->resume };
}

// The bytes of a run of stack accesses are in two pages, or in one that is not known to be writable.
u8* runtime_stack_miss(Cpu* cpu, StackSite* site)
{
    cpu->rip = site->rip;
    Block* const known = __atomic_load_n(&site->careful, __ATOMIC_RELAXED);
    if (known && known->valid)
        return known->entry_memory;
    u64 const flushes = cpu->mmu->cache().statistics().flushes;
    u8* resume = nullptr;
    Block* const found = find_careful(*cpu, site->flags_in_memory, resume);
    if (found && cpu->mmu->cache().statistics().flushes == flushes)
        __atomic_store_n(&site->careful, found, __ATOMIC_RELAXED);
    return resume;
}

u8* runtime_commit(Cpu* cpu, AccessSite const* site)
{
    auto& operand = cpu->operand;
    ++cpu->statistics->commits;
    unsigned const parts = operand.first_size < operand.size ? 2 : 1;
    auto size_of = [&](unsigned i) { return i ? operand.size - operand.first_size : operand.first_size; };
    if (operand.kind == Cpu::OperandBounce::Kind::pieces) {
        for (unsigned i = 0; i < parts; ++i) {
            u32 const offset = i ? operand.first_size : 0;
            u8 const* const from = operand.data + offset;
            if (operand.host[i] && site->masked)
                copy_changed(operand.host[i], from, before_masked(*cpu) + offset, size_of(i));
            else if (operand.host[i])
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

} // extern "C"

} // namespace anyhyve::soft
