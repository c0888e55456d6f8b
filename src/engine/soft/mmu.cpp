// Guest linear memory: look-aside tables, the slow way, device memory, flushes.
#include "engine/soft/mmu.hpp"

#include <span>

#include "base/bits.hpp"
#include "engine/soft/activity.hpp"
#include "engine/soft/breakpoints.hpp"
#include "engine/soft/byte_copy.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/page_walk.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

namespace {

// A value of a power-of-two size in one access, so that another vCPU never sees half of it.
inline void copy_out(u8* host, void const* from, unsigned size)
{
    switch (size) {
    case 1: __builtin_memcpy(host, from, 1); return;
    case 2: __builtin_memcpy(host, from, 2); return;
    case 4: __builtin_memcpy(host, from, 4); return;
    case 8: __builtin_memcpy(host, from, 8); return;
    default: copy_bytes(host, from, size);
    }
}
inline void copy_in(void* to, u8 const* host, unsigned size)
{
    switch (size) {
    case 1: __builtin_memcpy(to, host, 1); return;
    case 2: __builtin_memcpy(to, host, 2); return;
    case 4: __builtin_memcpy(to, host, 4); return;
    case 8: __builtin_memcpy(to, host, 8); return;
    default: copy_bytes(to, host, size);
    }
}

inline u64 region_bit(u64 linear) { return bit(static_cast<unsigned>((linear >> 21) ^ (linear >> 27)) & 63); }
inline u64 huge_region_bit(u64 linear) { return bit(static_cast<unsigned>((linear >> 30) ^ (linear >> 36)) & 63); }

} // namespace

TlbIndex Mmu::tlb_for(Rights rights) const
{
    return rights != Rights::supervisor ? mode::tlb(m_cpu.mode) : m_cpu.cpl == 3 ? tlb_supervisor : mode::tlb(m_cpu.mode);
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
    if (same)
        return;
    (translation.global ? m_filled_global : m_filled)[index].add(tlb_slot(linear));
    note_page_size(linear, translation);
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

// Eight entries at a time: in each byte that equals the page's, and perhaps in some above it, the high bit comes out set.
void Mmu::forget_writable(u8 const* host)
{
    constexpr u64 ones = 0x0101'0101'0101'0101;
    forget_pages();
    m_large_pages.forget_writable(static_cast<u64>(host - m_cpu.wires.memory->host_base()));
    // SAFETY: addresses to compare; nothing is accessed through them.
    u64 const address = reinterpret_cast<std::uintptr_t>(host);
    u64 const wanted = ones * print_of(static_cast<u64>(host - m_cpu.wires.memory->host_base()));
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        for (unsigned n = 0; n < tlb_entries; n += 8) {
            u64 prints;
            __builtin_memcpy(&prints, &m_prints[i][n], 8);
            u64 const difference = prints ^ wanted;
            if (__builtin_expect(((difference - ones) & ~difference & ones << 7) == 0, 1))
                continue;
            for (TlbEntry& entry : std::span(m_cpu.tlb[i]).subspan(n, 8)) {
                if (entry.write_tag != ~u64 { 0 } && entry.write_tag + entry.addend == address)
                    entry.write_tag = ~u64 { 0 };
            }
        }
    }
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
    if (page)
        note_use(translation.physical);
    target.host = page ? page + (linear & 0xfff) : nullptr;
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
    bool const watched = m_cache.watched(translation.physical);
    if (access == Access::write && watched)
        return false;
    note_use(translation.physical);
    fill(linear, index, translation, m_cpu.wires.memory->range(Gpa(translation.physical), 0x1000), watched);
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
    auto put = [this](Target const& target, void const* bytes, unsigned count) {
        if (!target.host)
            return write_device(target.physical, bytes, count);
        copy_out(target.host, bytes, count);
        if (target.watched)
            note_write(target.physical, count);
    };
    put(a, from, first);
    if (first < size)
        put(b, static_cast<u8 const*>(from) + first, size - first);
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

// --- device memory ---

void Mmu::access_pieces(u64 physical, u8* bytes, unsigned size, Access access)
{
    VectorStateGuard guard(m_cpu);
    DeviceScope scope(m_cpu, m_cache);
    while (size != 0) {
        unsigned width = 8;
        while (width > size || (physical & (width - 1)) != 0)
            width /= 2;
        u64 value = 0;
        if (access == Access::write) {
            __builtin_memcpy(&value, bytes, 8 > size ? size : 8);
            value &= mask_of_bytes(width);
            m_cpu.wires.mmio->write(physical, width, value);
        } else {
            m_cpu.wires.mmio->read(physical, width, value);
            // SAFETY: the bytes of a u64, of which width is at most 8.
            copy_in(bytes, reinterpret_cast<u8 const*>(&value), width);
        }
        physical += width;
        bytes += width;
        size -= width;
    }
}

void Mmu::read_device(u64 physical, void* to, unsigned size)
{
    ++m_statistics.device_reads;
    access_pieces(physical, static_cast<u8*>(to), size, Access::read);
}

void Mmu::write_device(u64 physical, void const* from, unsigned size)
{
    ++m_statistics.device_writes;
    access_pieces(physical, const_cast<u8*>(static_cast<u8 const*>(from)), size, Access::write);
}

u64 Mmu::port_in(u16 port, unsigned width)
{
    VectorStateGuard guard(m_cpu);
    DeviceScope scope(m_cpu, m_cache);
    u64 value = 0;
    if (breakpoints_enabled(m_cpu))
        note_port_access(m_cpu, port, width);
    m_cpu.wires.ports->read(port, width, value);
    return value;
}

void Mmu::port_out(u16 port, unsigned width, u64 value)
{
    VectorStateGuard guard(m_cpu);
    DeviceScope scope(m_cpu, m_cache);
    if (breakpoints_enabled(m_cpu))
        note_port_access(m_cpu, port, width);
    m_cpu.wires.ports->write(port, width, value);
}

// --- segmentation ---

Outcome Mmu::segment_fault(x86::Segment segment)
{
    return raise_with_code(m_cpu, segment == x86::Segment::ss ? x86::vector::stack_fault : x86::vector::general_protection, 0);
}

Outcome Mmu::linear_address(x86::Segment segment, u64 offset, unsigned size, Access access, u64& linear)
{
    using namespace x86;
    SegmentRegister const& s = m_cpu.segment(segment);
    if (m_cpu.code64()) {
        linear = offset + (segment == Segment::fs || segment == Segment::gs ? s.base : 0);
        if (!is_canonical(linear) || !is_canonical(linear + size - 1))
            return segment_fault(segment);
        return Outcome::next;
    }
    offset &= 0xffffffff;
    linear = (s.base + offset) & 0xffffffff;
    u64 const last = offset + size - 1;
    if (m_cpu.real_mode() || m_cpu.virtual_8086())
        return last <= s.limit ? Outcome::next : segment_fault(segment);
    u32 const rights = s.access;
    if ((rights & access::unusable) || !(rights & access::present))
        return segment_fault(segment);
    if (access == Access::write && ((rights & access::code) || !(rights & access::writable)))
        return segment_fault(segment);
    if (access == Access::read && (rights & access::code) && !(rights & access::readable))
        return segment_fault(segment);
    if (!(rights & access::code) && (rights & access::expand_down)) {
        u64 const top = rights & access::big ? 0xffffffff : 0xffff;
        return offset > s.limit && last <= top ? Outcome::next : segment_fault(segment);
    }
    return last <= s.limit ? Outcome::next : segment_fault(segment);
}

Outcome Mmu::read_segment(x86::Segment segment, u64 offset, void* to, unsigned size)
{
    u64 linear = 0;
    STEP(linear_address(segment, offset, size, Access::read, linear));
    return read(linear, to, size);
}

Outcome Mmu::write_segment(x86::Segment segment, u64 offset, void const* from, unsigned size)
{
    u64 linear = 0;
    STEP(linear_address(segment, offset, size, Access::write, linear));
    return write(linear, from, size);
}

u64 Mmu::effective_address(x86::Instruction const& insn) const
{
    u64 address = static_cast<u64>(insn.displacement);
    if (insn.rip_relative)
        address += m_cpu.next_rip;
    if (insn.base != 0xff)
        address += m_cpu.gpr[insn.base];
    if (insn.index != 0xff && insn.index < 16)
        address += m_cpu.gpr[insn.index] * insn.scale;
    return address & mask_of_bytes(insn.address_size);
}

Outcome Mmu::operand_address(x86::Instruction const& insn, unsigned size, Access access, u64& linear)
{
    return linear_address(insn.segment, effective_address(insn), size, access, linear);
}

Outcome Mmu::read_rm(x86::Instruction const& insn, unsigned width, u64& value)
{
    value = 0;
    if (!insn.has_memory) {
        value = width == 1 ? m_cpu.byte_reg(insn.rm, insn.rex != 0) : m_cpu.reg(insn.rm, width);
        return Outcome::next;
    }
    u64 linear = 0;
    STEP(operand_address(insn, width, Access::read, linear));
    return read(linear, &value, width);
}

Outcome Mmu::write_rm(x86::Instruction const& insn, unsigned width, u64 value)
{
    if (!insn.has_memory) {
        width == 1 ? m_cpu.set_byte_reg(insn.rm, insn.rex != 0, static_cast<u8>(value)) : m_cpu.set_reg(insn.rm, width, value);
        return Outcome::next;
    }
    u64 linear = 0;
    STEP(operand_address(insn, width, Access::write, linear));
    return write(linear, &value, width);
}

// --- code ---

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

// --- indirect jumps ---

void Mmu::remember_jump(u64 rip, u64 entry)
{
    TlbIndex const index = mode::tlb(m_cpu.mode);
    JumpCache& table = m_cpu.jump_cache[index];
    u64 const linear = m_cpu.code64() ? rip : (m_cpu.segment(x86::Segment::cs).base + rip) & 0xffffffff;
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

// --- flushes ---

void Mmu::flush_log(FillLog& log, TlbIndex index)
{
    auto& table = m_cpu.tlb[index];
    if (log.overflow) {
        for (auto& entry : table)
            entry.read_tag = entry.write_tag = ~u64 { 0 };
    } else {
        for (unsigned i = 0; i < log.count; ++i)
            table[log.slots[i]].read_tag = table[log.slots[i]].write_tag = ~u64 { 0 };
    }
    log.count = 0;
    log.overflow = false;
}

void Mmu::flush_code_log(FillLog& log, TlbIndex index)
{
    auto& table = m_cpu.code_tlb[index];
    if (log.overflow) {
        for (auto& word : table)
            word = ~u64 { 0 };
    } else {
        for (unsigned i = 0; i < log.count; ++i)
            table[log.slots[i]] = ~u64 { 0 };
    }
    log.count = 0;
    log.overflow = false;
}

void Mmu::flush_non_global()
{
    ++m_statistics.flushes_non_global;
    m_cpu.paging_structures.forget_all();
    forget_pages();
    m_large_pages.flush_non_global();
    if (!m_keyed_global)
        forget_keys();
    forget_local_jumps();
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        flush_log(m_filled[i], static_cast<TlbIndex>(i));
        flush_code_log(m_code_filled[i], static_cast<TlbIndex>(i));
    }
}

void Mmu::flush_all()
{
    ++m_statistics.flushes_all;
    m_cpu.paging_structures.forget_all();
    forget_pages();
    m_large_pages.flush_all();
    forget_keys();
    clear_jumps();
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        for (auto& entry : m_cpu.tlb[i])
            entry.read_tag = entry.write_tag = ~u64 { 0 };
        for (auto& word : m_cpu.code_tlb[i])
            word = ~u64 { 0 };
        m_filled[i].count = m_filled_global[i].count = m_code_filled[i].count = m_code_filled_global[i].count = 0;
        m_filled[i].overflow = m_filled_global[i].overflow = m_code_filled[i].overflow = m_code_filled_global[i].overflow = false;
    }
    m_large_regions = m_huge_regions = 0;
}

void Mmu::note_page_size(u64 linear, Translation const& translation)
{
    if (translation.page_shift == 21)
        m_large_regions |= region_bit(linear);
    else if (translation.page_shift > 21)
        m_huge_regions |= huge_region_bit(linear);
}

// Entries of [first, first+size), both powers of two times a page.
void Mmu::flush_range(u64 first, u64 size)
{
    u64 const mask = ~(size - 1);
    unsigned const slots = static_cast<unsigned>(std::min<u64>(size / 0x1000, code_tlb_entries));
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        for (unsigned n = 0; n < slots; ++n) {
            u64 const here = first + n * u64 { 0x1000 };
            TlbEntry& entry = m_cpu.tlb[i][tlb_slot(here)];
            if ((entry.read_tag & mask) == first || (entry.write_tag & mask) == first)
                entry.read_tag = entry.write_tag = ~u64 { 0 };
            u64& word = m_cpu.code_tlb[i][code_tlb_slot(here)];
            if (word != ~u64 { 0 } && ((word >> 28 << 12) & mask & (bit(48) - 1)) == (first & (bit(48) - 1))) {
                word = ~u64 { 0 };
                clear_jumps(static_cast<TlbIndex>(i));
            }
        }
    }
}

// INVLPG drops the whole page that holds the address, whatever its size; the tables hold 4 KiB pieces of it.
void Mmu::flush_page(u64 linear)
{
    ++m_statistics.flushes_page;
    m_cpu.paging_structures.forget_all();
    forget_pages();
    auto const flush_large = [this, linear](u64 size) {
        m_large_pages.flush_range(linear & ~(size - 1), size);
        flush_range(linear & ~(size - 1), size);
    };
    if (m_huge_regions & huge_region_bit(linear))
        flush_large(GiB);
    else if (m_large_regions & region_bit(linear))
        flush_large(2 * MiB);
    else
        flush_range(linear & page_mask, 0x1000);
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
