// Builds the guest's CPUID table. (Answers are given in cpuid_instruction.cpp, while the guest's vector registers are live.)
#include "engine/soft/cpuid.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/bits.hpp"
#include "engine/soft/cpuid_features.hpp"
#include "engine/soft/host_cpuid.hpp"
#include "engine/soft/page_walk.hpp"
#include "engine/soft/vendor.hpp"

namespace anyhyve::soft {

namespace {

constexpr u32 last_basic = 0x16, first_hypervisor = 0x40000000, hypervisor_timing = 0x40000010, first_extended = 0x80000000;
constexpr u32 last_extended_intel = 0x80000008, last_extended_amd = 0x80000021;
constexpr u32 leaf1_ecx_monitor = 1u << 3, leaf1_ecx_x2apic = 1u << 21, leaf1_edx_htt = 1u << 28;

u32& select(CpuidLeaf& leaf, CpuidRegister where)
{
    switch (where) {
    case CpuidRegister::eax: return leaf.eax;
    case CpuidRegister::ebx: return leaf.ebx;
    case CpuidRegister::ecx: return leaf.ecx;
    default: return leaf.edx;
    }
}

bool offered(CpuidFeature const& feature, bool amd)
{
    CpuidLeaf leaf = host_cpuid(feature.leaf, feature.subleaf);
    bool const host = (select(leaf, feature.where) >> feature.bit) & 1;
    bool const enabled = (host_vector_unit().mask & feature.xcr0_needed) == feature.xcr0_needed && (feature.xcr0_needed == 0 || host_vector_unit().xsave);
    switch (feature.offer) {
    case Offer::host: return host && enabled;
    case Offer::always: return enabled;
    case Offer::amd: return amd;
    case Offer::intel: return !amd;
    case Offer::amd_host: return amd && host && enabled;
    }
    return false;
}

// Bits that number `count` things.
unsigned width_of(unsigned count) { return count <= 1 ? 0 : static_cast<unsigned>(std::bit_width(count - 1)); }

struct Topology {
    unsigned threads, cores, logical; // threads of a core, cores of a socket, threads of a socket
};

Topology topology(CpuPolicy const& policy)
{
    unsigned const threads = std::max(1u, policy.threads), cores = std::max(1u, policy.cores);
    return { threads, cores, threads * cores };
}

CpuidLeaf text_leaf(char const* text)
{
    auto const word = [text](unsigned at) {
        u32 value = 0;
        for (unsigned i = 0; i < 4; ++i)
            value |= u32 { static_cast<u8>(text[at + i]) } << (8 * i);
        return value;
    };
    return { .eax = 0, .ebx = word(0), .ecx = word(4), .edx = word(8) };
}

} // namespace

Ratio nearest_ratio(u64 numerator, u64 denominator, u32 limit)
{
    // Convergents of the continued fraction.
    u64 p_before = 0, q_before = 1, p = 1, q = 0;
    while (denominator != 0) {
        u64 const digit = numerator / denominator;
        if (digit > limit || digit * p + p_before > limit)
            break;
        u64 const p_next = digit * p + p_before, q_next = digit * q + q_before;
        p_before = p, q_before = q, p = p_next, q = q_next;
        u64 const rest = numerator % denominator;
        numerator = denominator, denominator = rest;
    }
    return { static_cast<u32>(p), static_cast<u32>(q) };
}

Cpuid::Cpuid(VcpuWires const& wires)
    : m_amd(cpu_vendor() == Vendor::amd)
{
    m_rows.reserve(64);
    m_features[static_cast<unsigned>(x86::Feature::base)] = true;
    m_physical_bits = physical_address_bits;
    add_features();
    add_identity(wires);
    add_topology(wires);
    add_caches(wires);
    add_extended_state();
    add_frequencies(wires);
    add_hypervisor(wires);
    add_extended_leaves(wires);
    add_limits();
}

CpuidLeaf& Cpuid::row(u32 leaf, u32 subleaf)
{
    for (auto& entry : m_rows) {
        if (entry.leaf == leaf && entry.subleaf == subleaf)
            return entry.value;
    }
    m_rows.push_back({ leaf, subleaf, {} });
    return m_rows.back().value;
}

void Cpuid::add_features()
{
    for (auto const& feature : cpuid_tables::features) {
        if (!offered(feature, m_amd))
            continue;
        select(row(feature.leaf, feature.subleaf), feature.where) |= 1u << feature.bit;
        m_features[static_cast<unsigned>(feature.feature)] = true;
    }
    // XSAVES with IA32_XSS = 0 is XSAVEC at CPL 0, so it comes with that.
    if (has(x86::Feature::xsavec)) {
        row(0xd, 1).eax |= 1 << 3;
        m_features[static_cast<unsigned>(x86::Feature::xsaves)] = true;
    }
    if (m_amd) { // leaf 80000001H repeats most of leaf 1's EDX
        constexpr u32 repeated = 0x0183f3ff;
        row(0x80000001).edx |= row(1).edx & repeated;
    }
    row(7).eax = find(7, 1) != nullptr ? 1 : 0;
}

void Cpuid::add_identity(VcpuWires const& wires)
{
    auto const [threads, cores, logical] = topology(wires.policy);
    auto& leaf1 = row(1);
    leaf1.eax = host_cpuid(1).eax;
    constexpr u32 clflush_quadwords = 8;
    leaf1.ebx = (wires.id & 0xff) << 24 | std::min(logical, 255u) << 16 | clflush_quadwords << 8;
    if (wires.policy.x2apic)
        leaf1.ecx |= leaf1_ecx_x2apic;
    if (logical > 1)
        leaf1.edx |= leaf1_edx_htt;
    // Idle processors that wait for a store need no interrupt from the one that has work for them. Of no use to a single one.
    if (wires.policy.vcpu_count > 1) {
        leaf1.ecx |= leaf1_ecx_monitor;
        m_features[static_cast<unsigned>(x86::Feature::monitor)] = true;
        row(5) = { .eax = Monitor::line_size, .ebx = Monitor::line_size, .ecx = 0, .edx = 0 };
    }
    m_supported_xcr0 = host_vector_unit().mask;
    if (has(x86::Feature::pku))
        m_supported_xcr0 |= xcr0::pkru;
    using namespace x86::cr4;
    m_supported_cr4 = vme | pvi | tsd | de | pse | pae | mce | pge | pce | osfxsr | osxmmexcpt | umip | fsgsbase | pcide | smep | smap | pks;
    if (has(x86::Feature::pku))
        m_supported_cr4 |= pke;
    if (has(x86::Feature::xsave))
        m_supported_cr4 |= osxsave;
}

u64 Cpuid::supported_efer() const
{
    using namespace x86::efer;
    return sce | lme | nxe;
}

void Cpuid::add_topology(VcpuWires const& wires)
{
    auto const [threads, cores, logical] = topology(wires.policy);
    constexpr u32 level_thread = 1 << 8, level_core = 2 << 8;
    row(0xb, 0) = { .eax = width_of(threads), .ebx = threads, .ecx = level_thread | 0, .edx = wires.id };
    row(0xb, 1) = { .eax = width_of(threads) + width_of(cores), .ebx = logical, .ecx = level_core | 1, .edx = wires.id };
    if (!m_amd)
        return;
    auto& ext8 = row(0x80000008);
    ext8.ecx = (logical - 1) | width_of(logical) << 12;
    u32 const core = wires.id / threads % cores, socket = wires.id / logical;
    row(0x8000001e) = { .eax = wires.id, .ebx = core | (threads - 1) << 8, .ecx = socket & 0xff, .edx = 0 };
    if (logical > 1)
        row(0x80000001).ecx |= 1 << 1; // cores, where old software would see threads
}

void Cpuid::add_caches(VcpuWires const& wires)
{
    auto const [threads, cores, logical] = topology(wires.policy);
    row(2) = host_cpuid(2);
    u32 const leaf = m_amd ? 0x8000001d : 4;
    for (u32 subleaf = 0; subleaf < 6; ++subleaf) {
        CpuidLeaf cache = host_cpuid(leaf, subleaf);
        if ((cache.eax & 0x1f) == 0)
            break;
        u32 const level = (cache.eax >> 5) & 7;
        u32 const sharing = level >= 3 ? logical : threads;
        cache.eax = (cache.eax & 0x3fff) | (((1u << width_of(sharing)) - 1) & 0xfff) << 14;
        if (!m_amd)
            cache.eax |= (((1u << width_of(cores)) - 1) & 0x3f) << 26;
        row(leaf, subleaf) = cache;
    }
}

void Cpuid::add_extended_state()
{
    if (!has(x86::Feature::xsave))
        return;
    auto const& unit = host_vector_unit();
    row(0xd, 0) = { .eax = static_cast<u32>(m_supported_xcr0), .ebx = 0, .ecx = unit.standard_size(m_supported_xcr0), .edx = 0 };
    for (unsigned n = 2; n < xcr0::component_count; ++n) {
        auto const& component = unit.components[n];
        if (m_supported_xcr0 & bit(n))
            row(0xd, n) = { .eax = component.size, .ebx = component.offset, .ecx = component.aligned ? 2u : 0u, .edx = 0 };
    }
}

// Guests that find their frequencies here need no calibration. Linux multiplies crystal kHz and numerator in 32 bits, so the
// ratio is the best one that lets it; and it cuts the crystal's Hz to kHz, so they are whole kHz.
void Cpuid::add_frequencies(VcpuWires const& wires)
{
    u64 const tsc = wires.clock->tsc_frequency();
    constexpr u32 crystal_kilohertz = apic_bus_frequency / 1000;
    auto const ratio = nearest_ratio(tsc, u64 { crystal_kilohertz } * 1000, 0xffffffff / crystal_kilohertz);
    row(0x15) = { .eax = ratio.q, .ebx = ratio.p, .ecx = crystal_kilohertz * 1000, .edx = 0 };
    u32 const megahertz = static_cast<u32>((tsc + 500'000) / 1'000'000);
    row(0x16) = { .eax = megahertz, .ebx = megahertz, .ecx = 100, .edx = 0 };
    row(hypervisor_timing) = { .eax = static_cast<u32>(tsc / 1000), .ebx = crystal_kilohertz, .ecx = 0, .edx = 0 };
}

void Cpuid::add_hypervisor(VcpuWires const& wires)
{
    std::string signature = wires.policy.cpuid_signature;
    signature.resize(12, ' ');
    auto& leaf = row(first_hypervisor);
    leaf = text_leaf(signature.c_str());
    leaf.eax = hypervisor_timing;
}

void Cpuid::add_extended_leaves(VcpuWires const&)
{
    auto& ext1 = row(0x80000001);
    if (m_amd)
        ext1.eax = host_cpuid(0x80000001).eax;
    for (u32 leaf = 0x80000002; leaf <= 0x80000006; ++leaf) // brand string, caches and TLBs
        row(leaf) = host_cpuid(leaf);
    constexpr u32 linear_bits = 48;
    row(0x80000008).eax = m_physical_bits | linear_bits << 8;
    if (m_amd) {
        row(0x80000019) = host_cpuid(0x80000019); // TLBs for 1 GiB pages
        row(0x8000001a) = host_cpuid(0x8000001a); // performance hints
    }
}

void Cpuid::add_limits()
{
    auto& first = row(0);
    first = host_cpuid(0);
    first.eax = last_basic;
    auto& extended = row(first_extended);
    if (m_amd)
        extended = host_cpuid(first_extended);
    extended.eax = m_amd ? last_extended_amd : last_extended_intel;
}

} // namespace anyhyve::soft
