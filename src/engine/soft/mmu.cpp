// Guest linear memory: what the look-aside tables know, and the slow way.
#include "engine/soft/mmu.hpp"

#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/byte_copy.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/page_walk.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

TlbIndex Mmu::tlb_for(Rights rights) const
{
    return rights == Rights::supervisor ? tlb_supervisor : mode::tlb(m_cpu.mode);
}

void Mmu::fill(u64 linear, TlbIndex index, Translation const& translation, u8* host, bool watched)
{
    TlbEntry& entry = m_cpu.tlb[index][tlb_slot(linear)];
    u64 const page = linear & page_mask;
    // SAFETY: only the number is kept; generated code adds it to addresses of this page alone.
    u64 const addend = reinterpret_cast<std::uintptr_t>(host) - page;
    bool const same = entry.addend == addend && (entry.read_tag == page || entry.write_tag == page);
    if (!same) {
        entry = {};
        entry.run = page;
        m_keys[index][tlb_slot(linear)] = 0;
        m_watched_writable[index].reset(tlb_slot(linear));
    }
    entry.addend = addend;
    if ((m_cpu.mode & mode::alignment_check) || (breakpoints_enabled(m_cpu) && watches_data_in(m_cpu, linear)))
        return;
    entry.read_tag = page;
    if (!watched && translation.dirty && translation.writable) {
        if (entry.write_tag != page)
            entry.run = page; // all of a run may be written, or none
        entry.write_tag = page;
        m_prints[index][tlb_slot(linear)] = print_of(static_cast<u64>(host - m_cpu.wires.memory->host_base()));
    }
    m_watched_writable[index].set(tlb_slot(linear), watched && translation.dirty && translation.writable);
    if (translation.key != 0)
        note_key(index, tlb_slot(linear), translation);
    m_large_pages.note(linear, index, translation);
    note_page_size(linear, translation);
    if (!same)
        (translation.global ? m_filled_global : m_filled)[index].add(tlb_slot(linear));
}

// The table held another page in this one's place, but its large page is known. Such pages are in RAM, have no code in them that a store might
// change, and no protection key but 0.
bool Mmu::fill_from_large_page(u64 linear, Access access, TlbIndex index)
{
    TlbEntry const* const large = m_large_pages.find(linear, index, access);
    if (!large || (m_cpu.mode & mode::alignment_check))
        return false;
    u64 const page = linear & page_mask;
    u64 const offset = m_runs.offset_in_ram(*large) + (page - large->read_tag);
    note_use(m_cpu.wires.memory->address_at(offset).value());
    unsigned const slot = tlb_slot(linear);
    bool const writable = large->write_tag == large->read_tag;
    // SAFETY: only the number is kept; generated code adds it to addresses of this page alone.
    m_cpu.tlb[index][slot] = { .read_tag = page, .write_tag = writable ? page : ~u64 { 0 }, .run = page, .addend = reinterpret_cast<std::uintptr_t>(m_cpu.wires.memory->host_base()) + offset - page };
    m_keys[index][slot] = 0;
    m_watched_writable[index].reset(slot);
    m_prints[index][slot] = print_of(offset);
    (m_large_pages.is_global(linear, index) ? m_filled_global : m_filled)[index].add(slot);
    return true;
}

// What the guest uses much shall lie in huge pages of the host.
void Mmu::note_use(u64 physical)
{
    GuestMemory& memory = *m_cpu.wires.memory;
    u64 const offset = memory.offset_of(Gpa(physical));
    if (!memory.huge_regions().count_use(offset))
        return;
    VectorStateGuard guard(m_cpu);
    memory.huge_regions().collapse(offset);
}

// A store to a page that was found watched before.
bool Mmu::resolve_watched(u64 linear, TlbIndex index, Target& target)
{
    TlbEntry const& entry = m_cpu.tlb[index][tlb_slot(linear)];
    if (entry.read_tag != (linear & page_mask) || !m_watched_writable[index].test(tlb_slot(linear)))
        return false;
    u64 const physical = m_cpu.wires.memory->address_at(m_runs.offset_in_ram(entry)).value();
    if (!m_cache.watched(physical))
        return false;
    // SAFETY: the tables hold only what fill() put there: RAM of this page.
    target.host = reinterpret_cast<u8*>(linear + entry.addend);
    target.physical = physical | (linear & 0xfff);
    target.watched = true;
    return true;
}

Outcome Mmu::resolve(u64 linear, Access access, TlbIndex index, Target& target)
{
    TlbEntry const& entry = m_cpu.tlb[index][tlb_slot(linear)];
    u64 const tag = access == Access::write ? entry.write_tag : entry.read_tag;
    if (access != Access::fetch && (tag == (linear & page_mask) || fill_from_large_page(linear, access, index))) {
        // SAFETY: the tables hold only what fill() put there: RAM of this page.
        target.host = reinterpret_cast<u8*>(linear + entry.addend);
        target.watched = false;
        return Outcome::next;
    }
    if (access == Access::write && resolve_watched(linear, index, target))
        return Outcome::next;
    Translation translation;
    ++m_statistics.page_walks;
    STEP(walk_pages(m_cpu, linear, access, index, translation));
    target.physical = translation.physical | (linear & 0xfff);
    u8* const page = m_cpu.wires.memory->range(Gpa(translation.physical), 0x1000);
    target.host = page ? page + (linear & 0xfff) : nullptr;
    __builtin_prefetch(target.host); // the access comes as soon as the table is filled
    if (page)
        note_use(translation.physical);
    target.watched = page && m_cache.watched(translation.physical);
    if (page && access != Access::fetch)
        fill(linear, index, translation, page, target.watched);
    return Outcome::next;
}

// What the page tables say, where nothing but the time it takes shows that somebody looked: pages of RAM that the guest has used in this way before.
bool Mmu::walk_quietly(u64 linear, Access access, TlbIndex index, Translation& translation)
{
    if (breakpoints_enabled(m_cpu) && watches_data_in(m_cpu, linear))
        return false;
    PendingFault const kept = m_cpu.fault;
    bool const mapped = walk_pages(m_cpu, linear, Access::read, index, translation, false) == Outcome::next;
    m_cpu.fault = kept;
    // Keys are left to those who walk loudly.
    bool const keyed = translation.key != 0 || m_cpu.key_rights[translation.pages].of(0) != 0;
    bool const used = translation.accessed && (access != Access::write || (translation.writable && translation.dirty));
    return mapped && used && !keyed && m_cpu.wires.memory->is_ram(Gpa(translation.physical));
}

bool Mmu::find_quietly(u64 linear, Access access, TlbIndex index)
{
    if (fill_from_large_page(linear, access, index))
        return true;
    if (m_cpu.tlb[index][tlb_slot(linear)].read_tag == (linear & page_mask))
        return false; // the table has it, but not for stores
    Translation translation;
    ++m_statistics.page_walks;
    if (!walk_quietly(linear, access, index, translation))
        return false;
    u8* const page = m_cpu.wires.memory->range(Gpa(translation.physical), 0x1000);
    __builtin_prefetch(page + (linear & 0xfff)); // the access comes as soon as the table is filled
    bool const watched = m_cache.watched(translation.physical);
    if (access == Access::write && watched)
        return false;
    note_use(translation.physical);
    fill(linear, index, translation, page, watched);
    return true;
}

// #AC, of the accesses that the program itself makes (SDM vol. 3A 6.15, interrupt 17).
Outcome Mmu::check_alignment(u64 linear, unsigned size, Rights rights)
{
    bool const checked = (m_cpu.mode & mode::alignment_check) && rights == Rights::current && (size == 2 || size == 4 || size == 8);
    return checked && (linear & (size - 1)) ? raise_with_code(m_cpu, x86::vector::alignment_check, 0) : Outcome::next;
}

Outcome Mmu::read(u64 linear, void* to, unsigned size, Rights rights)
{
    STEP(check_alignment(linear, size, rights));
    TlbIndex const index = tlb_for(rights);
    unsigned const first = static_cast<unsigned>(std::min<u64>(size, 0x1000 - (linear & 0xfff)));
    Target a, b;
    STEP(resolve(linear, Access::read, index, a));
    if (first < size)
        STEP(resolve((linear + first) & linear_mask(), Access::read, index, b));
    if (breakpoints_enabled(m_cpu) && rights == Rights::current)
        note_data_access(m_cpu, linear, size, Access::read);
    a.host ? copy_in(to, a.host, first) : read_device(a.physical, to, first);
    if (first < size) {
        u8* const rest = static_cast<u8*>(to) + first;
        b.host ? copy_in(rest, b.host, size - first) : read_device(b.physical, rest, size - first);
    }
    return Outcome::next;
}

Outcome Mmu::write(u64 linear, void const* from, unsigned size, Rights rights)
{
    STEP(check_alignment(linear, size, rights));
    TlbIndex const index = tlb_for(rights);
    unsigned const first = static_cast<unsigned>(std::min<u64>(size, 0x1000 - (linear & 0xfff)));
    Target a, b;
    STEP(resolve(linear, Access::write, index, a));
    if (first < size)
        STEP(resolve((linear + first) & linear_mask(), Access::write, index, b));
    if (breakpoints_enabled(m_cpu) && rights == Rights::current)
        note_data_access(m_cpu, linear, size, Access::write);
    auto const tell = [this](Target const& target, unsigned count) {
        if (target.host && target.watched)
            note_write(target.physical, count);
    };
    u8 const* const rest = static_cast<u8 const*>(from) + first;
    // RAM first, all of it: a device takes time, and so may telling of a store, in which another virtual CPU may run code there.
    if (a.host)
        copy_out(a.host, from, first);
    if (b.host)
        copy_out(b.host, rest, size - first);
    tell(a, first);
    tell(b, size - first);
    if (!a.host)
        write_device(a.physical, from, first);
    if (first < size && !b.host)
        write_device(b.physical, rest, size - first);
    return Outcome::next;
}

Outcome Mmu::probe(u64 linear, unsigned size, Access access, Rights rights)
{
    STEP(check_alignment(linear, size, rights));
    TlbIndex const index = tlb_for(rights);
    Target target;
    STEP(resolve(linear, access, index, target));
    u64 const last = (linear + size - 1) & linear_mask();
    // A range of more than two pages is probed page by page.
    for (u64 page = (linear & page_mask) + 0x1000; (last & page_mask) != (linear & page_mask); page += 0x1000) {
        STEP(resolve(page & linear_mask(), access, index, target));
        if ((page & linear_mask() & page_mask) == (last & page_mask))
            break;
    }
    return Outcome::next;
}

Outcome Mmu::host_pointer(u64 linear, unsigned size, Access access, u8*& host)
{
    finish_writes();
    Target target;
    STEP(resolve(linear, access, tlb_for(Rights::current), target));
    host = target.host;
    if (host && breakpoints_enabled(m_cpu))
        note_data_access(m_cpu, linear, size, access);
    if (host && target.watched && access == Access::write) {
        m_unfinished = target.physical;
        m_unfinished_size = size;
    }
    return Outcome::next;
}

Outcome Mmu::ram_pointer(u64 linear, u8*& host)
{
    Translation translation;
    ++m_statistics.page_walks;
    STEP(walk_pages(m_cpu, linear, Access::read, tlb_for(Rights::current), translation));
    if (breakpoints_enabled(m_cpu))
        note_data_access(m_cpu, linear, 1, Access::read);
    host = m_cpu.wires.memory->range(Gpa(translation.physical | (linear & 0xfff)), 1);
    return Outcome::next;
}

void Mmu::note_write(u64 physical, unsigned size)
{
    bool const code = m_cache.translated_from(physical, size);
    bool const line = m_cache.line_watched_in(physical);
    if (!code && !line)
        return;
    VcpuLock lock(m_cpu, m_cache, Presence::in_device);
    if (line)
        m_cache.tell_line_watchers(physical, size);
    if (!code)
        return;
    ++m_statistics.code_writes;
    m_cache.invalidate(physical, size);
}

bool Mmu::load_pdptes()
{
    return load_page_directory_pointers(m_cpu);
}

bool Mmu::translate_debug(u64 linear, Gpa& physical)
{
    PendingFault const kept = m_cpu.fault;
    Translation translation;
    bool const mapped = walk_pages(m_cpu, linear, Access::read, tlb_supervisor_user_access, translation, false) == Outcome::next;
    m_cpu.fault = kept;
    physical = Gpa(translation.physical | (linear & 0xfff));
    return mapped;
}

} // namespace anyhyve::soft
