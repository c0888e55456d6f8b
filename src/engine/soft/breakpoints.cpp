// Compares accesses with DR0 to DR3 as DR7 says.
#include "engine/soft/breakpoints.hpp"

namespace anyhyve::soft {

namespace {

enum class Condition : u8 { execute, write, port, access };
constexpr unsigned breakpoint_count = 4;
constexpr u64 page_size = 0x1000;

bool enabled(Cpu const& cpu, unsigned n) { return (cpu.dr7 >> (2 * n) & 3) != 0; }
Condition condition(Cpu const& cpu, unsigned n) { return static_cast<Condition>(cpu.dr7 >> (16 + 4 * n) & 3); }

u64 length(Cpu const& cpu, unsigned n)
{
    constexpr u64 lengths[] = { 1, 2, 8, 4 };
    return lengths[cpu.dr7 >> (18 + 4 * n) & 3];
}

// The low bits of the address that the length covers do not count.
bool overlaps(Cpu const& cpu, unsigned n, u64 first, u64 size)
{
    u64 const bytes = length(cpu, n), start = cpu.dr[n] & ~(bytes - 1);
    return first - start < bytes || start - first < size;
}

// Bits of DR6 for those that the access hits.
u64 hits(Cpu const& cpu, u64 linear, u64 size, Access access)
{
    u64 found = 0;
    for (unsigned n = 0; n < breakpoint_count; ++n) {
        bool const watched = condition(cpu, n) == Condition::access || (condition(cpu, n) == Condition::write && access == Access::write);
        if (enabled(cpu, n) && watched && overlaps(cpu, n, linear, size))
            found |= u64 { 1 } << n;
    }
    return found;
}

} // namespace

bool watches_data_in(Cpu const& cpu, u64 linear)
{
    return watches_access(cpu, linear & page_mask, page_size, Access::write);
}

bool watches_code_in(Cpu const& cpu, u64 linear)
{
    for (unsigned n = 0; n < breakpoint_count; ++n)
        if (enabled(cpu, n) && condition(cpu, n) == Condition::execute && (cpu.dr[n] & page_mask) == (linear & page_mask))
            return true;
    return false;
}

bool watches_access(Cpu const& cpu, u64 linear, u64 size, Access access)
{
    return hits(cpu, linear, size, access) != 0;
}

u64 code_breakpoints(Cpu const& cpu)
{
    u64 const linear = cpu.code_linear(cpu.rip);
    u64 hits = 0;
    for (unsigned n = 0; n < breakpoint_count; ++n)
        if (enabled(cpu, n) && condition(cpu, n) == Condition::execute && cpu.dr[n] == linear)
            hits |= u64 { 1 } << n;
    return hits;
}

void note_data_access(Cpu& cpu, u64 linear, u64 size, Access access)
{
    cpu.pending_debug |= hits(cpu, linear, size, access);
}

void note_port_access(Cpu& cpu, u16 port, unsigned width)
{
    if (!(cpu.cr4 & x86::cr4::de))
        return;
    for (unsigned n = 0; n < breakpoint_count; ++n)
        if (enabled(cpu, n) && condition(cpu, n) == Condition::port && overlaps(cpu, n, port, width))
            cpu.pending_debug |= u64 { 1 } << n;
}

} // namespace anyhyve::soft
