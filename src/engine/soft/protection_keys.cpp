// Protection keys: PKRU, PKRS, and which look-aside entries hang on them.
// Spec: Intel SDM vol. 3A 4.6.2; vol. 2 RDPKRU, WRPKRU.
//
// The walk fills entries with what the registers permit at that time. A register that comes to permit less drops entries of the keys in question
// and no others; one that comes to permit more drops nothing, since the next access walks again. Guests that use key 0 alone never get here
// with anything to drop, as long as they leave key 0 its rights.
#include "base/bits.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/page_walk.hpp"

namespace anyhyve::soft {

void Mmu::note_key(TlbIndex index, unsigned slot, Translation const& translation)
{
    u8 const key = static_cast<u8>(keyed_as(translation.pages, translation.key));
    if (m_keys[index][slot] == key)
        return;
    m_keys[index][slot] = key;
    m_keyed[index].add(slot);
    m_keyed_global |= translation.global;
    m_cpu.key_rights[translation.pages].watched |= KeyRights::both_bits(translation.key);
}

// No entry has a key any more.
void Mmu::forget_keys()
{
    for (auto& log : m_keyed) {
        log.count = 0;
        log.overflow = false;
    }
    m_keyed_global = false;
    for (auto& rights : m_cpu.key_rights)
        rights.watched = KeyRights::of_key_zero;
}

void Mmu::set_key_rights(KeyedPages pages, u32 value)
{
    KeyRights& rights = m_cpu.key_rights[pages];
    u32 const withdrawn = value & ~rights.value & rights.watched;
    rights.value = value;
    if (withdrawn == 0)
        return;
    forget_pages();
    if (withdrawn & KeyRights::of_key_zero)
        drop_unkeyed();
    drop_keyed(pages, withdrawn);
}

void Mmu::drop_keyed(KeyedPages pages, u32 withdrawn)
{
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        FillLog& log = m_keyed[i]; // read and written anew at once: what is kept goes where it has been read, or before
        bool const everywhere = log.overflow;
        unsigned const count = everywhere ? tlb_entries : log.count;
        log.count = 0;
        log.overflow = false;
        for (unsigned n = 0; n < count; ++n) {
            unsigned const slot = everywhere ? n : log.slots[n];
            TlbEntry& entry = m_cpu.tlb[i][slot];
            u8& key = m_keys[i][slot];
            if (key == 0)
                continue;
            u32 const taken = key / protection_keys == pages ? withdrawn >> (2 * (key % protection_keys)) & 3 : 0;
            if (taken != 0) {
                entry.write_tag = ~u64 { 0 };
                m_watched_writable[i].reset(slot);
            }
            if (taken & KeyRights::access_disabled) {
                entry = {};
                key = 0;
            } else
                log.add(slot);
        }
    }
}

// Entries of key 0, of whatever pages: nothing tells them from those that hang on no key.
void Mmu::drop_unkeyed()
{
    m_large_pages.flush_all();
    for (unsigned i = 0; i < tlb_index_count; ++i) {
        for (unsigned slot = 0; slot < tlb_entries; ++slot) {
            if (m_keys[i][slot] == 0)
                m_cpu.tlb[i][slot] = {};
        }
    }
}

// In any mode; the registers exist where CR4.PKE says so.
Outcome execute_rdpkru(Cpu& cpu, x86::Instruction const&)
{
    if (!(cpu.cr4 & x86::cr4::pke))
        return raise_ud(cpu);
    if (static_cast<u32>(cpu.gpr[x86::rcx]) != 0)
        return raise_gp(cpu);
    cpu.gpr[x86::rax] = cpu.key_rights[user_pages].value;
    cpu.gpr[x86::rdx] = 0;
    return Outcome::next;
}

Outcome execute_wrpkru(Cpu& cpu, x86::Instruction const&)
{
    if (!(cpu.cr4 & x86::cr4::pke))
        return raise_ud(cpu);
    if (static_cast<u32>(cpu.gpr[x86::rcx]) != 0 || static_cast<u32>(cpu.gpr[x86::rdx]) != 0)
        return raise_gp(cpu);
    cpu.mmu->set_key_rights(user_pages, static_cast<u32>(cpu.gpr[x86::rax]));
    return Outcome::next;
}

} // namespace anyhyve::soft
