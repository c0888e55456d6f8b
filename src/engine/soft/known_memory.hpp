// Quadwords of guest memory whose page the look-aside tables already know, without a call: for the hot paths of 64-bit gates and returns.
#pragma once

#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"

namespace anyhyve::soft {

// Host memory of [linear, linear+size), or nullptr: then the memory unit must be asked.
inline u8* known_memory(Cpu const& cpu, u64 linear, unsigned size, Access access, Rights rights)
{
    if (cpu.mode & mode::alignment_check) [[unlikely]]
        return nullptr;
    TlbIndex const index = rights == Rights::supervisor ? tlb_supervisor : mode::tlb(cpu.mode);
    TlbEntry const& entry = cpu.tlb[index][tlb_slot(linear)];
    u64 const tag = access == Access::write ? entry.write_tag : entry.read_tag;
    u64 const offset = linear & 0xfff;
    if (tag != linear - offset || offset > 0x1000 - size)
        return nullptr;
    // SAFETY: a tag that matches says that addend leads to RAM of this page, where such accesses need no further look.
    return reinterpret_cast<u8*>(linear + entry.addend);
}

template<unsigned count>
[[gnu::always_inline]] inline Outcome read_quadwords(Cpu& cpu, u64 linear, u64* values, Rights rights)
{
    u8 const* const host = known_memory(cpu, linear, count * 8, Access::read, rights);
    if (!host) [[unlikely]]
        return cpu.mmu->read(linear, values, count * 8, rights);
    for (unsigned i = 0; i < count; i++)
        __builtin_memcpy(values + i, host + i * 8, 8);
    return Outcome::next;
}

template<unsigned count>
[[gnu::always_inline]] inline Outcome write_quadwords(Cpu& cpu, u64 linear, u64 const* values, Rights rights)
{
    u8* const host = known_memory(cpu, linear, count * 8, Access::write, rights);
    if (!host) [[unlikely]]
        return cpu.mmu->write(linear, values, count * 8, rights);
    for (unsigned i = 0; i < count; i++)
        __builtin_memcpy(host + i * 8, values + i, 8);
    return Outcome::next;
}

} // namespace anyhyve::soft
