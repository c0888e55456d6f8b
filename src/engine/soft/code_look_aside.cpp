// Where code lies: the look-aside table of its pages, and what indirect jumps know of entries into it.
#include "base/bits.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/page_walk.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

Outcome Mmu::fetch_page(u64 linear, u64& physical, u64& guard)
{
    TlbIndex const index = mode::tlb(m_cpu.mode);
    // SMAP's exemption is about data: code is fetched with the supervisor's rights either way.
    u64& word = m_cpu.code_tlb[index][code_tlb_slot(linear)];
    if (word >> 28 == (linear >> 12 & (bit(36) - 1)) && word != ~u64 { 0 }) {
        guard = word;
        physical = (word & (bit(28) - 1)) << 12;
        return Outcome::next;
    }
    Translation translation;
    ++m_statistics.page_walks;
    STEP(walk_pages(m_cpu, linear, Access::fetch, index, translation));
    physical = translation.physical;
    guard = code_guard(linear, physical);
    if (breakpoints_enabled(m_cpu) && watches_code_in(m_cpu, linear))
        return Outcome::next; // no jump leads there without asking
    if (word != ~u64 { 0 })
        clear_jumps(index); // nobody watches over jumps into the page that goes
    word = guard;
    m_code_is_global[index][code_tlb_slot(linear)] = translation.global;
    (translation.global ? m_code_filled_global : m_code_filled)[index].add(code_tlb_slot(linear));
    note_page_size(linear, translation);
    return Outcome::next;
}

void Mmu::remember_jump(u64 rip, u64 entry)
{
    TlbIndex const index = mode::tlb(m_cpu.mode);
    JumpCache& table = m_cpu.jump_cache[index];
    u64 const linear = m_cpu.code_linear(rip);
    if (m_cpu.code_tlb[index][code_tlb_slot(linear)] >> 28 != (linear >> 12 & (bit(36) - 1)))
        return;
    table.insert(rip, entry);
    (m_code_is_global[index][code_tlb_slot(linear)] ? m_jumps_filled_global : m_jumps_filled)[index].add(JumpCache::slot(rip));
}

void Mmu::clear_jumps(TlbIndex index)
{
    JumpCache& table = m_cpu.jump_cache[index];
    FillLog* const logs[] = { &m_jumps_filled[index], &m_jumps_filled_global[index] };
    if (logs[0]->overflow || logs[1]->overflow)
        table.clear();
    for (FillLog* log : logs) {
        for (unsigned n = 0; n < log->count; ++n)
            table.empty(log->slots[n]);
        log->count = 0;
        log->overflow = false;
    }
}

void Mmu::clear_jumps()
{
    for (unsigned i = 0; i < tlb_index_count; ++i)
        clear_jumps(static_cast<TlbIndex>(i));
}

// Those into pages that are not global.
void Mmu::forget_local_jumps()
{
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        FillLog& log = m_jumps_filled[i];
        if (log.overflow) {
            clear_jumps(static_cast<TlbIndex>(i));
            continue;
        }
        for (unsigned n = 0; n < log.count; ++n)
            m_cpu.jump_cache[i].empty(log.slots[n]);
        log.count = 0;
    }
}

// The mode has changed. STAC and CLAC switch between the supervisor's two tables without telling, so both follow what else has changed.
void Mmu::check_jump_modes()
{
    auto const check = [this](TlbIndex index) {
        ModeBits const wanted = (m_cpu.mode & ~mode::tlb_mask) | static_cast<ModeBits>(index) << mode::tlb_shift;
        JumpCache& table = m_cpu.jump_cache[index];
        if (table.mode == wanted)
            return;
        clear_jumps(index);
        table.mode = wanted;
    };
    if (mode::tlb(m_cpu.mode) == tlb_user)
        return check(tlb_user);
    check(tlb_supervisor);
    check(tlb_supervisor_user_access);
}

} // namespace anyhyve::soft
