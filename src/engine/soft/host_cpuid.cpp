// Reads the host's CPUID leaves that guests' answers are made from.
#include "engine/soft/host_cpuid.hpp"

#include <algorithm>
#include <cpuid.h>

namespace anyhyve::soft {

namespace {

struct HostLeaf {
    u32 leaf, subleaf;
    CpuidLeaf value;
};

CpuidLeaf read(u32 leaf, u32 subleaf)
{
    CpuidLeaf value;
    __cpuid_count(leaf, subleaf, value.eax, value.ebx, value.ecx, value.edx);
    return value;
}

unsigned subleaves(u32 leaf)
{
    switch (leaf) {
    case 4: case 0x8000001d: return 6;
    case 7: return 2;
    case 0xd: return 2;
    default: return 1;
    }
}

std::vector<HostLeaf> read_all()
{
    std::vector<HostLeaf> table;
    for (u32 const first : { 0u, 0x80000000u }) {
        u32 const last = std::min(read(first, 0).eax, first == 0 ? 0x16u : 0x80000021u);
        for (u32 leaf = first; leaf <= last; ++leaf) {
            for (unsigned subleaf = 0; subleaf < subleaves(leaf); ++subleaf)
                table.push_back({ leaf, subleaf, read(leaf, subleaf) });
        }
    }
    return table;
}

} // namespace

CpuidLeaf host_cpuid(u32 leaf, u32 subleaf)
{
    static std::vector<HostLeaf> const table = read_all();
    for (auto const& entry : table) {
        if (entry.leaf == leaf && entry.subleaf == subleaf)
            return entry.value;
    }
    return {};
}

u32 host_cpuid_last(u32 first_of_range)
{
    return host_cpuid(first_of_range).eax;
}

} // namespace anyhyve::soft
