// Compares accesses with DR0 to DR3 as DR7 says.
#include "engine/soft/breakpoints.hpp"

namespace anyhyve::soft {

namespace {

enum class Condition : u8 { execute, write, port, access };
constexpr unsigned breakpoint_count = 4;

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

} // namespace

bool watches_data(Cpu const& cpu)
{
    for (unsigned n = 0; n < breakpoint_count; ++n)
        if (enabled(cpu, n) && (condition(cpu, n) == Condition::write || condition(cpu, n) == Condition::access))
            return true;
    return false;
}

u64 code_breakpoints(Cpu const& cpu)
{
    u64 const linear = cpu.code64() ? cpu.rip : (cpu.segment(x86::Segment::cs).base + cpu.rip) & 0xffffffff;
    u64 hits = 0;
    for (unsigned n = 0; n < breakpoint_count; ++n)
        if (enabled(cpu, n) && condition(cpu, n) == Condition::execute && cpu.dr[n] == linear)
            hits |= u64 { 1 } << n;
    return hits;
}

void note_data_access(Cpu& cpu, u64 linear, u64 size, Access access)
{
    for (unsigned n = 0; n < breakpoint_count; ++n) {
        bool const watched = condition(cpu, n) == Condition::access || (condition(cpu, n) == Condition::write && access == Access::write);
        if (enabled(cpu, n) && watched && overlaps(cpu, n, linear, size))
            cpu.pending_debug |= u64 { 1 } << n;
    }
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
