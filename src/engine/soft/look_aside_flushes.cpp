// Forgetting translations: what flushes drop (Intel SDM vol. 3A 4.10.4), and the right to write to a page.
#include <span>

#include "base/bits.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/page_walk.hpp"

namespace anyhyve::soft {

namespace {

inline u64 region_bit(u64 linear) { return bit(static_cast<unsigned>((linear >> 21) ^ (linear >> 27)) & 63); }
inline u64 huge_region_bit(u64 linear) { return bit(static_cast<unsigned>((linear >> 30) ^ (linear >> 36)) & 63); }

} // namespace

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

} // namespace anyhyve::soft
