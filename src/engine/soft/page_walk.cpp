// The page walk: see page_walk.hpp.
#include "engine/soft/page_walk.hpp"

#include <algorithm>

#include "base/bits.hpp"

namespace anyhyve::soft {

namespace {

// Bits of an entry, all formats (SDM vol. 3A tables 4-5, 4-10, 4-19).
constexpr u64 present = 1 << 0, writable = 1 << 1, user = 1 << 2, accessed = 1 << 5, dirty = 1 << 6, page_size = 1 << 7, global = 1 << 8, no_execute = bit(63);
constexpr u64 physical_mask = (bit(physical_address_bits) - 1) & ~u64 { 0xfff };
constexpr u64 reserved_high = bit(52) - bit(physical_address_bits);

// Bits of the #PF error code (SDM vol. 3A 4.7).
constexpr u32 code_present = 1, code_write = 2, code_user = 4, code_reserved = 8, code_fetch = 16, code_key = 32;

class Walk {
public:
    Walk(Cpu& cpu, u64 linear, Access access, TlbIndex rights) : m_cpu(cpu), m_linear(linear), m_access(access), m_rights(rights) {}

    Outcome four_level(Translation&, bool update);
    Outcome pae(Translation&, bool update);
    Outcome thirty_two_bit(Translation&, bool update);
    // Another virtual CPU has changed an entry meanwhile, which may be gone: the walk must be done once more. The bits that it sets are those of an
    // entry that leads to where the access goes (SDM vol. 3A 4.8), and an entry that is taken away tells for good whether the page was written to.
    bool has_changed() const { return m_changed; }

private:
    Outcome all_levels(Translation&, bool update);
    struct Entry {
        u64 value = 0;
        u8* host = nullptr;
        unsigned width = 8;
    };

    Outcome page_fault(u32 code)
    {
        if (m_access == Access::write)
            code |= code_write;
        if (m_rights == tlb_user)
            code |= code_user;
        if (m_access == Access::fetch && ((nx_enabled() && (m_cpu.cr4 & x86::cr4::pae)) || (m_cpu.cr4 & x86::cr4::smep)))
            code |= code_fetch;
        m_cpu.fault = { .vector = x86::vector::page_fault, .has_error_code = true, .error_code = code, .address = m_linear };
        return Outcome::fault;
    }
    bool nx_enabled() const { return (m_cpu.efer & x86::efer::nxe) != 0; }

    // An entry in no RAM reads as all ones, like any access to nothing.
    Entry load(u64 table, unsigned index, unsigned width)
    {
        Entry entry { ~u64 { 0 }, m_cpu.wires.memory->range(Gpa(table + u64 { index } * width), width), width };
        if (entry.host) {
            // SAFETY: range() gave `width` bytes of RAM, aligned since tables are; another vCPU may write them, hence the atomic load.
            if (width == 8)
                entry.value = __atomic_load_n(reinterpret_cast<u64*>(entry.host), __ATOMIC_RELAXED);
            else
                entry.value = __atomic_load_n(reinterpret_cast<u32*>(entry.host), __ATOMIC_RELAXED);
        }
        if (width == 4)
            entry.value &= 0xffffffff;
        return entry;
    }
    // False: the entry has changed since it was read.
    static bool set_bits(Entry const& entry, u64 wanted)
    {
        if ((entry.value & wanted) == wanted || !entry.host)
            return true;
        u64 before = entry.value;
        u32 narrow = static_cast<u32>(before);
        // SAFETY: as in load().
        if (entry.width == 8)
            return __atomic_compare_exchange_n(reinterpret_cast<u64*>(entry.host), &before, before | wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        return __atomic_compare_exchange_n(reinterpret_cast<u32*>(entry.host), &narrow, narrow | static_cast<u32>(wanted), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    // Folds an upper entry into the rights so far. False: not present or reserved (fault raised into m_outcome).
    bool upper(Entry const& entry, u64 reserved)
    {
        if (!(entry.value & present)) {
            m_outcome = page_fault(0);
            return false;
        }
        if (!nx_enabled())
            reserved |= entry.width == 8 ? no_execute : 0;
        if (entry.value & reserved) {
            m_outcome = page_fault(code_present | code_reserved);
            return false;
        }
        m_path.user = m_path.user && (entry.value & user);
        m_path.writable = m_path.writable && (entry.value & writable);
        m_path.no_execute = m_path.no_execute || (entry.width == 8 && (entry.value & no_execute));
        return true;
    }
    // Rights of the whole path (SDM vol. 3A 4.6.1).
    bool permitted() const
    {
        bool const by_user = m_rights == tlb_user;
        if (by_user && !m_path.user)
            return false;
        if (m_access == Access::fetch)
            return !m_path.no_execute && (by_user || !m_path.user || !(m_cpu.cr4 & x86::cr4::smep));
        if (!by_user && m_path.user && (m_cpu.cr4 & x86::cr4::smap) && m_rights != tlb_supervisor_user_access)
            return false;
        return m_access == Access::read || m_path.writable || !write_protected();
    }
    // Do writes by this privilege need a right to write?
    bool write_protected() const { return m_rights == tlb_user || (m_cpu.cr0 & x86::cr0::wp); }
    // What a key takes away from data accesses; fetches are free (SDM vol. 3A 4.6.2).
    u32 denied_by_key(KeyedPages pages, unsigned key) const
    {
        if (m_access == Access::fetch)
            return 0;
        return m_cpu.key_rights[pages].of(key) & (write_protected() ? KeyRights::access_disabled | KeyRights::write_disabled : KeyRights::access_disabled);
    }
    Outcome finish(Entry* path, unsigned count, u64 page_base, u8 page_shift, bool update, Translation& translation)
    {
        Entry& leaf = path[count - 1];
        KeyedPages const pages = m_path.user ? user_pages : supervisor_pages;
        bool const keyed = m_keys && (m_cpu.cr4 & (m_path.user ? x86::cr4::pke : x86::cr4::pks));
        unsigned const key = keyed ? static_cast<unsigned>(bits(leaf.value, 62, 59)) : 0;
        u32 const denied = keyed && update ? denied_by_key(pages, key) : 0;
        if (denied & (m_access == Access::write ? KeyRights::access_disabled | KeyRights::write_disabled : KeyRights::access_disabled))
            return page_fault(code_present | code_key);
        if (!permitted())
            return page_fault(code_present);
        for (unsigned i = 0; update && i < count; ++i) {
            if (!set_bits(path[i], i + 1 == count && m_access == Access::write ? accessed | dirty : accessed)) {
                m_changed = true;
                return Outcome::fault;
            }
        }
        translation.accessed = std::all_of(path, path + count, [](Entry const& entry) { return (entry.value & accessed) != 0; });
        translation.physical = page_base;
        translation.user = m_path.user;
        translation.writable = (m_path.writable || !write_protected()) && denied == 0;
        translation.pages = pages;
        translation.key = static_cast<u8>(key);
        translation.no_execute = m_path.no_execute;
        translation.global = (leaf.value & global) && (m_cpu.cr4 & x86::cr4::pge);
        translation.page_shift = page_shift;
        translation.dirty = (leaf.value & dirty) || m_access == Access::write;
        return Outcome::next;
    }

    Cpu& m_cpu;
    u64 m_linear;
    Access m_access;
    TlbIndex m_rights;
    PathRights m_path; // so far
    bool m_keys = false; // entries hold protection keys
    bool m_changed = false;
    Outcome m_outcome = Outcome::next;
};

Outcome Walk::four_level(Translation& translation, bool update)
{
    m_keys = true;
    if (auto const* const known = m_cpu.paging_structures.find(m_linear)) {
        m_path = known->rights;
        Entry entry = load(known->table, static_cast<unsigned>(m_linear >> 12) & 511, 8);
        return upper(entry, reserved_high) ? finish(&entry, 1, entry.value & physical_mask, 12, update, translation) : m_outcome;
    }
    return all_levels(translation, update);
}

Outcome Walk::all_levels(Translation& translation, bool update)
{
    Entry path[4];
    u64 table = m_cpu.cr3 & physical_mask;
    unsigned count = 0;
    for (unsigned shift = 39;; shift -= 9) {
        PathRights const above = m_path;
        Entry& entry = path[count++] = load(table, static_cast<unsigned>(m_linear >> shift) & 511, 8);
        bool const large = shift != 12 && shift != 39 && (entry.value & page_size);
        u64 reserved = reserved_high;
        if (shift == 39)
            reserved |= page_size;
        if (large)
            reserved |= (bit(shift) - 1) & ~u64 { 0x1fff };
        if (!upper(entry, reserved))
            return m_outcome;
        if (large || shift == 12) {
            u64 const inside = (bit(shift) - 1) & ~u64 { 0xfff };
            u64 const base = (entry.value & physical_mask & ~(bit(shift) - 1)) | (m_linear & inside);
            STEP(finish(path, count, base, static_cast<u8>(shift), update, translation));
            if (count == 4 && (update || translation.accessed))
                m_cpu.paging_structures.note(m_linear, table, above);
            return Outcome::next;
        }
        table = entry.value & physical_mask;
    }
}

Outcome Walk::pae(Translation& translation, bool update)
{
    u64 const pointer = m_cpu.pdpte[(m_linear >> 30) & 3];
    if (!(pointer & present))
        return page_fault(0);
    Entry path[2];
    path[0] = load(pointer & physical_mask, static_cast<unsigned>(m_linear >> 21) & 511, 8);
    bool const large = (path[0].value & page_size) != 0;
    u64 const reserved = reserved_high | (bit(63) - bit(52));
    if (!upper(path[0], reserved | (large ? (bit(21) - 1) & ~u64 { 0x1fff } : 0)))
        return m_outcome;
    if (large)
        return finish(path, 1, (path[0].value & physical_mask & ~(bit(21) - 1)) | (m_linear & 0x1ff000), 21, update, translation);
    path[1] = load(path[0].value & physical_mask, static_cast<unsigned>(m_linear >> 12) & 511, 8);
    if (!upper(path[1], reserved))
        return m_outcome;
    return finish(path, 2, path[1].value & physical_mask, 12, update, translation);
}

Outcome Walk::thirty_two_bit(Translation& translation, bool update)
{
    Entry path[2];
    path[0] = load(m_cpu.cr3 & 0xfffff000, static_cast<unsigned>(m_linear >> 22) & 1023, 4);
    bool const large = (path[0].value & page_size) && (m_cpu.cr4 & x86::cr4::pse);
    // PSE-36: bits 20..13 of the entry are bits 39..32 of the address; bit 21 is reserved (SDM vol. 3A table 4-4).
    if (!upper(path[0], large ? bit(21) : 0))
        return m_outcome;
    if (large) {
        u64 const base = (path[0].value & 0xffc00000) | bits(path[0].value, 20, 13) << 32;
        return finish(path, 1, base | (m_linear & 0x3ff000), 22, update, translation);
    }
    path[1] = load(path[0].value & 0xfffff000, static_cast<unsigned>(m_linear >> 12) & 1023, 4);
    if (!upper(path[1], 0))
        return m_outcome;
    return finish(path, 2, path[1].value & 0xfffff000, 12, update, translation);
}

} // namespace

Outcome walk_pages(Cpu& cpu, u64 linear, Access access, TlbIndex rights, Translation& translation, bool update)
{
    if (!(cpu.cr0 & x86::cr0::pg)) {
        translation = { .physical = linear & 0xfffff000, .user = true, .writable = true, .global = true, .dirty = true };
        return Outcome::next;
    }
    for (;;) {
        Walk walk(cpu, linear, access, rights);
        Outcome const outcome = cpu.long_mode() ? walk.four_level(translation, update) : cpu.cr4 & x86::cr4::pae ? walk.pae(translation, update) : walk.thirty_two_bit(translation, update);
        if (!walk.has_changed())
            return outcome;
    }
}

// SDM vol. 3A 4.4.1: present entries must have bits 2:1, 8:5 and those above the physical address width clear.
bool load_page_directory_pointers(Cpu& cpu)
{
    std::array<u64, 4> loaded {};
    for (unsigned i = 0; i < 4; ++i) {
        u8* const host = cpu.wires.memory->range(Gpa((cpu.cr3 & 0xffffffe0) + i * 8), 8);
        u64 value = ~u64 { 0 };
        if (host)
            __builtin_memcpy(&value, host, 8);
        if ((value & present) && (value & (0x1e6 | ~(bit(physical_address_bits) - 1))))
            return false;
        loaded[i] = value;
    }
    cpu.pdpte = loaded;
    return true;
}

} // namespace anyhyve::soft
