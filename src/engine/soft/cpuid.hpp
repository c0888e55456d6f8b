// What the guest's CPUID answers: the host's features, as far as our decoder table and the machine's policy go along.
// Source: Intel SDM vol. 2A CPUID; AMD APM vol. 3 appendix E. Hypervisor leaves: the 0x40000000 convention of VMware and FreeBSD.
#pragma once

#include <bitset>
#include <vector>

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

constexpr u64 apic_base_enable = 1 << 11; // IA32_APIC_BASE: the APIC is on, and CPUID shows it

struct CpuidLeaf {
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// Made once per vCPU, before it runs; answers from memory, since the host's CPUID costs microseconds under a hypervisor.
// Threads: immutable after construction.
class Cpuid {
public:
    explicit Cpuid(VcpuWires const&);

    // The answer to CPUID in the current state of `cpu` (OSXSAVE and the XSAVE sizes follow CR4 and XCR0). Unknown leaves are zero.
    CpuidLeaf query(Cpu const& cpu, u32 leaf, u32 subleaf) const;

    bool has(x86::Feature feature) const { return m_features[static_cast<unsigned>(feature)]; }
    unsigned physical_bits() const { return m_physical_bits; }
    u64 supported_cr4() const { return m_supported_cr4; }
    u64 supported_xcr0() const { return m_supported_xcr0; }
    bool amd() const { return m_amd; }
    // Bits that may be set in IA32_EFER besides LMA.
    u64 supported_efer() const;

private:
    struct Row {
        u32 leaf, subleaf;
        CpuidLeaf value;
    };

    CpuidLeaf& row(u32 leaf, u32 subleaf = 0);
    CpuidLeaf const* find(u32 leaf, u32 subleaf) const;
    void add_features();
    void add_identity(VcpuWires const&);
    void add_topology(VcpuWires const&);
    void add_caches(VcpuWires const&);
    void add_extended_state();
    void add_frequencies(VcpuWires const&);
    void add_hypervisor(VcpuWires const&);
    void add_extended_leaves(VcpuWires const&);
    void add_limits();

    std::vector<Row> m_rows;
    std::bitset<static_cast<unsigned>(x86::Feature::count)> m_features;
    unsigned m_physical_bits = 39;
    u64 m_supported_cr4 = 0;
    u64 m_supported_xcr0 = 3;
    bool m_amd = false;
};

// The local APIC timer's input clock, which the machine's local APIC counts (bhyve's 128 MiHz).
constexpr u64 apic_bus_frequency = 128 * MiB;

// p / q nearest to numerator / denominator with p at most `limit`.
struct Ratio {
    u32 p = 0, q = 1;
};
Ratio nearest_ratio(u64 numerator, u64 denominator, u32 limit);

} // namespace anyhyve::soft
