// The cache of translated code: see code_cache.hpp.
#include "engine/soft/code_cache.hpp"

#include <algorithm>

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/sleep.hpp"
#include "host/fd.hpp"

namespace anyhyve::soft {

Result<std::unique_ptr<CodeCache>> CodeCache::create(GuestMemory& memory, Profiler* profiler)
{
    std::unique_ptr<CodeCache> cache(new CodeCache(memory, profiler));
    TRY(cache->map());
    return cache;
}

Result<void> CodeCache::map()
{
    using host::Mapping;
    host::Fd const file(memfd_create("anyhyve-code", MFD_CLOEXEC));
    if (!file.valid() || ftruncate(file.get(), code_size) != 0)
        return Error::from_errno(errno, "code cache");
    m_writable = TRY(Mapping::of_file(file.get(), code_size, Mapping::Access::read_write, Mapping::Sharing::shared, "code cache", Mapping::Place::huge_page));
    m_executable = TRY(Mapping::of_file(file.get(), code_size, Mapping::Access::read_execute, Mapping::Sharing::shared, "code cache (is executable memory forbidden here?)", Mapping::Place::huge_page));
    m_code_next = m_code_floor = m_writable.data();

    m_records = TRY(Mapping::anonymous(record_size, Mapping::Place::below_2gib));
    m_page_memory = TRY(Mapping::anonymous(m_memory.size() / GuestMemory::page_size * sizeof(PageInfo)));
    // SAFETY: zero-filled anonymous memory is a valid array of PageInfo with all members zero.
    m_pages = reinterpret_cast<PageInfo*>(m_page_memory.data());
    m_hash.resize(hash_size);
    m_by_code.reserve(record_size / sizeof(Block)); // once: nothing may be allocated while the guest's vector registers are live
    return {};
}

CodeCache::~CodeCache() = default;

void CodeCache::remove_cpu(Cpu& cpu)
{
    std::erase(m_cpus, &cpu);
}

CodeCache::PageInfo* CodeCache::page(u64 physical) const
{
    if (!m_memory.is_ram(Gpa(physical)))
        return nullptr;
    return &m_pages[m_memory.offset_of(Gpa(physical)) / GuestMemory::page_size];
}

u64 CodeCache::lines_of(u64 physical, u64 size)
{
    u64 const first = (physical & 0xfff) / line_size;
    u64 const last = std::min<u64>((physical & 0xfff) + size - 1, 0xfff) / line_size;
    return bits(~u64 { 0 }, static_cast<unsigned>(last - first), 0) << first;
}

Block* CodeCache::find(u64 physical, u64 rip, ModeBits mode) const
{
    for (Block* block = m_hash[hash(physical, rip)]; block; block = block->next_in_hash) {
        if (block->physical == physical && block->rip == rip && block->mode == mode)
            return block;
    }
    return nullptr;
}

void CodeCache::watch(Cpu& cpu, u64 physical, u64 size)
{
    PageInfo* const info = page(physical);
    if (!info)
        return;
    u64 const wanted = info->lines | lines_of(physical, size);
    if (info->lines == 0 && !info->sticky) {
        begin_standstill(cpu);
        __atomic_store_n(&info->lines, wanted, __ATOMIC_SEQ_CST);
        forget_writable(m_memory.range(Gpa(physical & ~u64 { 0xfff }), 1));
        end_standstill();
    } else if (wanted != info->lines)
        __atomic_store_n(&info->lines, wanted, __ATOMIC_SEQ_CST);
}

void CodeCache::begin_standstill(Cpu& self)
{
    if (m_cpus.size() == 1)
        return;
    m_standstill.store(true, std::memory_order_seq_cst);
    for (Cpu* cpu : m_cpus) {
        if (cpu == &self)
            continue;
        for (unsigned turns = 0; cpu->presence.load(std::memory_order_seq_cst) == static_cast<u8>(Presence::running); ++turns) {
            cpu->poll.store(1, std::memory_order_seq_cst);
            if (turns < 1000)
                __builtin_ia32_pause();
            else
                sched_yield(); // it may be waiting for this very core
        }
    }
}

// The page stays watched until others have stored there often in vain: who sleeps again soon then needs no standstill.
void CodeCache::begin_line_watch(Cpu& cpu, u8 const* line)
{
    std::lock_guard lock(m_lock);
    u64 const offset = static_cast<u64>(line - m_memory.host_base());
    PageInfo& info = m_pages[offset / GuestMemory::page_size];
    cpu.line_stored.store(false, std::memory_order_relaxed);
    cpu.watched_line.store(line, std::memory_order_relaxed);
    info.stores_for_nobody = 0;
    if (line_watched(info))
        return;
    if (lines(info) != 0 || info.sticky) {
        __atomic_store_n(&info.line_watched, true, __ATOMIC_SEQ_CST);
        return;
    }
    begin_standstill(cpu);
    __atomic_store_n(&info.line_watched, true, __ATOMIC_SEQ_CST);
    forget_writable(line - offset % GuestMemory::page_size);
    end_standstill();
}

// True: somebody watches this page.
bool CodeCache::tell_line_watchers_in_page(u8 const* from, u8 const* to)
{
    bool any = false;
    for (Cpu* cpu : m_cpus) {
        u8 const* const line = cpu->watched_line.load(std::memory_order_relaxed);
        // SAFETY: numbers to compare only.
        if (!line || (reinterpret_cast<std::uintptr_t>(line) ^ reinterpret_cast<std::uintptr_t>(from)) / GuestMemory::page_size != 0)
            continue;
        any = true;
        if (line >= to || from >= line + Monitor::line_size)
            continue;
        cpu->line_stored.store(true, std::memory_order_seq_cst);
        end_sleep(*cpu);
    }
    return any;
}

void CodeCache::tell_line_watchers(u64 physical, u64 size)
{
    while (size != 0) {
        u64 const here = std::min<u64>(size, 0x1000 - (physical & 0xfff));
        PageInfo* const info = page(physical);
        if (info && line_watched(*info)) {
            u8 const* const host = m_memory.range(Gpa(physical), 1);
            if (!tell_line_watchers_in_page(host, host + here) && ++info->stores_for_nobody >= patience_with_stores)
                __atomic_store_n(&info->line_watched, false, __ATOMIC_SEQ_CST);
        }
        physical += here;
        size -= here;
    }
}

bool CodeCache::try_drop_everything(Cpu& self)
{
    begin_standstill(self);
    bool const nobody_returns = std::all_of(m_cpus.begin(), m_cpus.end(), [&](Cpu const* cpu) {
        return cpu == &self || cpu->presence.load(std::memory_order_seq_cst) == static_cast<u8>(Presence::outside);
    });
    if (nobody_returns)
        drop_everything();
    end_standstill();
    return nobody_returns;
}

void CodeCache::insert(Block& block)
{
    Block*& bucket = m_hash[hash(block.physical, block.rip)];
    block.next_in_hash = bucket;
    bucket = &block;
    if (PageInfo* const info = page(block.physical)) {
        block.next_in_page = info->blocks;
        info->blocks = &block;
    }
    if (block.crosses_page) {
        if (PageInfo* const info = page(block.second_physical)) {
            block.next_in_second_page = info->tails;
            info->tails = &block;
        }
    }
    ASSERT(m_by_code.size() < m_by_code.capacity(), "there is room for as many blocks as records");
    m_by_code.push_back(&block);
}

bool CodeCache::invalidate(u64 physical, u64 size)
{
    bool any = false;
    while (size != 0) {
        u64 const here = std::min<u64>(size, 0x1000 - (physical & 0xfff));
        PageInfo* const info = page(physical);
        if (info && info->lines != 0)
            any |= invalidate_page(physical, lines_of(physical, here));
        physical += here;
        size -= here;
    }
    return any;
}

bool CodeCache::invalidate_page(u64 physical, u64 lines)
{
    PageInfo& info = *page(physical);
    if ((info.lines & lines) == 0)
        return false;
    bool any = false;
    for (Block *block = info.blocks, *next; block; block = next) {
        next = block->next_in_page;
        if (block->lines & lines) {
            drop_changed(*block);
            any = true;
        }
    }
    for (Block *block = info.tails, *next; block; block = next) {
        next = block->next_in_second_page;
        u64 const tail = (block->physical & 0xfff) + block->guest_size - 0x1000;
        if (lines_of(block->second_physical & ~u64 { 0xfff }, tail) & lines) {
            drop_changed(*block);
            any = true;
        }
    }
    // In this order: in between others would take the page for one that nobody watches.
    if (any && ++info.times_changed >= changes_to_stick)
        __atomic_store_n(&info.sticky, true, __ATOMIC_RELEASE);
    recompute_lines(physical);
    return any;
}

// Other code is there now, which nobody has found hot.
void CodeCache::drop_changed(Block& block)
{
    m_hot.reset(hot_bit(block.physical, block.rip, block.mode));
    kill(block);
}

void CodeCache::recompute_lines(u64 physical)
{
    PageInfo& info = *page(physical);
    u64 lines = 0;
    for (Block* block = info.blocks; block; block = block->next_in_page)
        lines |= block->lines;
    for (Block* block = info.tails; block; block = block->next_in_second_page)
        lines |= lines_of(block->second_physical & ~u64 { 0xfff }, (block->physical & 0xfff) + block->guest_size - 0x1000);
    __atomic_store_n(&info.lines, lines, __ATOMIC_SEQ_CST);
}

void CodeCache::kill(Block& block)
{
    block.valid = false;
    remove_from_hash(block);
    remove_from_page(block);
    while (block.incoming)
        unlink(*block.incoming);
    for (Cpu* cpu : m_cpus) {
        for (auto& table : cpu->jump_cache)
            table.forget(block.rip);
        // It may be going round in there, or be on its way: whoever has looked at the poll word before finds it set again, others find no way there.
        if (block.hot)
            cpu->poll.store(1, std::memory_order_release);
    }
    ++m_statistics.blocks_invalidated;
}

void CodeCache::make_hot(Block& block)
{
    m_hot.set(hot_bit(block.physical, block.rip, block.mode));
    // Hot code that leads here shall be translated anew, to go on with it.
    for (bool any = true; any;) {
        any = false;
        for (Edge* edge = block.incoming; edge && !any; edge = edge->next_incoming) {
            if (edge->may_go_on && edge->from->hot && edge->from->valid && edge->from != &block) {
                kill(*edge->from);
                any = true;
            }
        }
    }
    kill(block);
    ++m_statistics.blocks_hot;
}

void CodeCache::note_straying(Block& block, u64 physical)
{
    m_straying.set(hint_bit(physical));
    if (block.valid)
        kill(block);
    ++m_statistics.sites_straying;
}

void CodeCache::note_wandering(Block& block, u64 physical)
{
    m_wandering.set(hint_bit(physical));
    if (block.valid)
        kill(block);
    ++m_statistics.sites_wandering;
}

// When all have been given out, the oldest are shared.
u16 CodeCache::take_site_slot(TlbIndex index, SiteKind kind)
{
    return take_slot(site_classes[index][static_cast<u8>(kind)], m_next_slot[index][static_cast<u8>(kind)]);
}

u16 CodeCache::take_run_slot(TlbIndex index, SiteKind kind)
{
    return take_slot(run_classes[index][static_cast<u8>(kind)], m_next_run_slot[index][static_cast<u8>(kind)]);
}

u16 CodeCache::take_slot(SiteClass const& of, u16& next)
{
    u16 const slot = static_cast<u16>(of.first + next);
    next = static_cast<u16>((next + 1) % of.count);
    return slot;
}

void CodeCache::remove_from_hash(Block& block)
{
    for (Block** place = &m_hash[hash(block.physical, block.rip)]; *place; place = &(*place)->next_in_hash) {
        if (*place == &block) {
            *place = block.next_in_hash;
            return;
        }
    }
}

void CodeCache::remove_from_page(Block& block)
{
    if (PageInfo* const info = page(block.physical)) {
        for (Block** place = &info->blocks; *place; place = &(*place)->next_in_page) {
            if (*place == &block) {
                *place = block.next_in_page;
                break;
            }
        }
    }
    if (!block.crosses_page)
        return;
    if (PageInfo* const info = page(block.second_physical)) {
        for (Block** place = &info->tails; *place; place = &(*place)->next_in_second_page) {
            if (*place == &block) {
                *place = block.next_in_second_page;
                break;
            }
        }
    }
}

// From now on every store to this page must be seen.
void CodeCache::forget_writable(u8 const* host)
{
    for (Cpu* cpu : m_cpus)
        cpu->mmu->forget_writable(host);
}

void CodeCache::link(Edge& edge, Block& block, u8 const* entry)
{
    edge.to = &block;
    edge.next_incoming = block.incoming;
    block.incoming = &edge;
    // SAFETY: the four bytes lie within one cache line, so another vCPU sees the old or the new jump.
    __atomic_store_n(reinterpret_cast<i32*>(edge.displacement), static_cast<i32>(entry - executable(edge.displacement + 4)), __ATOMIC_RELEASE);
    ++m_statistics.edges_linked;
}

void CodeCache::unlink(Edge& edge)
{
    for (Edge** place = &edge.to->incoming; *place; place = &(*place)->next_incoming) {
        if (*place == &edge) {
            *place = edge.next_incoming;
            break;
        }
    }
    edge.to = nullptr;
    __atomic_store_n(reinterpret_cast<i32*>(edge.displacement), static_cast<i32>(edge.stub - (edge.displacement + 4)), __ATOMIC_RELEASE);
    ++m_statistics.edges_unlinked;
}

u8* CodeCache::code_space(u64 wanted)
{
    if (m_code_next + wanted > m_writable.data() + code_size)
        return nullptr;
    return m_code_next;
}

void CodeCache::commit_code(u8* end)
{
    // The host's huge pages, one by one as they come into use; a guest that stops after a few instructions needs none.
    constexpr u64 worth_one = 256 * KiB;
    static_assert(code_size % host::Mapping::huge_page_size == 0);
    if (static_cast<u64>(end - m_writable.data()) >= m_huge_code + worth_one && m_huge_code < code_size) {
        static_cast<void>(host::Mapping::make_huge(m_writable.data() + m_huge_code, host::Mapping::huge_page_size));
        m_huge_code += host::Mapping::huge_page_size;
    }
    m_code_next = std::min(m_writable.data() + align_up(static_cast<u64>(end - m_writable.data()), 16), m_writable.data() + code_size);
}

bool CodeCache::contains(u8 const* code) const
{
    return code >= code_start() && code < code_start() + code_size; // whatever is used of it: signal handlers ask, too
}

Block* CodeCache::block_at(u8 const* code) const
{
    auto const after = std::upper_bound(m_by_code.begin(), m_by_code.end(), code, [](u8 const* address, Block const* block) { return address < block->code_begin; });
    if (after == m_by_code.begin())
        return nullptr;
    Block* const block = *(after - 1);
    return code < block->code_end ? block : nullptr;
}

void* CodeCache::allocate(u64 size, u64 alignment)
{
    u64 const place = align_up(m_record_next, alignment);
    if (place + size > record_size)
        return nullptr;
    m_record_next = place + size;
    return m_records.data() + place;
}

bool CodeCache::has_room() const
{
    return record_size - m_record_next > 256 * KiB && m_code_next + 128 * KiB < m_writable.data() + code_size;
}

void CodeCache::drop_everything()
{
    if (m_profiler)
        m_profiler->about_to_drop(*this);
    for (Block* block : m_by_code) {
        for (u64 physical : { block->physical, block->crosses_page ? block->second_physical : block->physical }) {
            if (PageInfo* const info = page(physical))
                *info = { .line_watched = info->line_watched };
        }
    }
    std::fill(m_hash.begin(), m_hash.end(), nullptr);
    m_by_code.clear();
    m_code_next = m_code_floor;
    m_record_next = 0;
    for (Cpu* cpu : m_cpus) {
        for (auto& table : cpu->jump_cache)
            table.clear();
    }
    ++m_statistics.flushes;
}

} // namespace anyhyve::soft
