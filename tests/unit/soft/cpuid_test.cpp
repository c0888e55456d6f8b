// The guest's CPUID: what it must show, what it must hide, and frequencies that come out right in a guest's arithmetic.
#include <cpuid.h>

#include <bitset>

#include "engine/soft/cpuid_features.hpp"
#include "engine/soft/host_vector_unit.hpp"
#include "execute_machine.hpp"
#include "x86/opcode_iterator.hpp"

namespace anyhyve::soft {

class CpuidTable : public ExecuteMachine {
protected:
    CpuidLeaf ask(u32 leaf, u32 subleaf = 0)
    {
        cpu.gpr[x86::rax] = leaf;
        cpu.gpr[x86::rcx] = subleaf;
        EXPECT_EQ(execute({ 0x0f, 0xa2 }), Outcome::next);
        return { static_cast<u32>(cpu.gpr[x86::rax]), static_cast<u32>(cpu.gpr[x86::rbx]), static_cast<u32>(cpu.gpr[x86::rcx]), static_cast<u32>(cpu.gpr[x86::rdx]) };
    }
    static bool has(u32 value, unsigned number) { return value >> number & 1; }
};

TEST_F(CpuidTable, IdentityIsTheHosts)
{
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
    __cpuid(0, eax, ebx, ecx, edx);
    auto const leaf = ask(0);
    EXPECT_EQ(leaf.eax, 0x16u);
    EXPECT_EQ(leaf.ebx, ebx);
    EXPECT_EQ(leaf.ecx, ecx);
    EXPECT_EQ(leaf.edx, edx);
    __cpuid(1, eax, ebx, ecx, edx);
    EXPECT_EQ(ask(1).eax, eax);
    __cpuid(0x80000002, eax, ebx, ecx, edx);
    EXPECT_EQ(ask(0x80000002).eax, eax);
}

TEST_F(CpuidTable, OffersWhatMakesGuestsCheap)
{
    auto const one = ask(1);
    for (unsigned const number : { 17u /* PCID */, 21u /* x2APIC */, 24u /* TSC deadline */, 31u /* hypervisor */ })
        EXPECT_TRUE(has(one.ecx, number)) << number;
    auto const seven = ask(7);
    for (unsigned const number : { 0u /* FSGSBASE */, 7u /* SMEP */, 9u /* ERMS */, 10u /* INVPCID */, 20u /* SMAP */ })
        EXPECT_TRUE(has(seven.ebx, number)) << number;
    EXPECT_TRUE(has(seven.ecx, 2)) << "UMIP";
    EXPECT_EQ(has(seven.ecx, 3), host_vector_unit().xsave) << "PKU";
    EXPECT_TRUE(has(seven.ecx, 31)) << "PKS";
    EXPECT_TRUE(has(seven.ecx, 22)) << "RDPID";
    EXPECT_TRUE(has(seven.edx, 29)) << "ARCH_CAPABILITIES";
    EXPECT_EQ(ask(0x80000007).edx, 1u << 8);
    EXPECT_EQ(ask(0x80000007).eax, 0u);
    EXPECT_EQ(ask(6).eax, 1u << 2);
    for (unsigned const number : { 11u, 20u, 26u, 27u, 29u })
        EXPECT_TRUE(has(ask(0x80000001).edx, number)) << number;
}

TEST_F(CpuidTable, HidesWhatTheEngineLacks)
{
    auto const one = ask(1);
    for (unsigned const number : { 2u /* DTES64 */, 3u /* MONITOR */, 5u /* VMX */, 6u /* SMX */, 15u /* PDCM */ })
        EXPECT_FALSE(has(one.ecx, number)) << number;
    auto const seven = ask(7);
    for (unsigned const number : { 2u /* SGX */, 4u /* HLE */, 11u /* RTM */, 14u /* MPX */ })
        EXPECT_FALSE(has(seven.ebx, number)) << number;
    for (unsigned const number : { 4u /* OSPKE */, 5u /* WAITPKG */, 7u /* CET */, 16u /* LA57 */, 23u /* Key Locker */, 29u /* ENQCMD */ })
        EXPECT_FALSE(has(seven.ecx, number)) << number;
    for (unsigned const number : { 5u /* UINTR */, 20u /* CET */, 22u, 24u, 25u /* AMX */ })
        EXPECT_FALSE(has(seven.edx, number)) << number;
    EXPECT_FALSE(has(ask(0x80000001).ecx, 2)) << "SVM";
    for (u32 const leaf : { 5u, 9u, 0xau, 0x12u, 0x14u, 0x1fu, 0x23u, 0x40000001u, 0x4000000fu, 0x8000000au, 0x8000001fu, 0x80000020u, 0x80000026u, 0xffffffffu }) {
        auto const nothing = ask(leaf);
        EXPECT_EQ(nothing.eax | nothing.ebx | nothing.ecx | nothing.edx, 0u) << leaf;
    }
}

TEST_F(CpuidTable, FeaturesFollowTheHost)
{
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    u64 const xcr0_mask = host_vector_unit().mask;
    EXPECT_EQ(has(ask(7).ebx, 5), has(ebx, 5) && (xcr0_mask & xcr0::avx));
    EXPECT_EQ(has(ask(7).ebx, 16), has(ebx, 16) && (xcr0_mask & xcr0::avx512));
    EXPECT_EQ(cpuid->has(x86::Feature::avx2), has(ask(7).ebx, 5));
    EXPECT_TRUE(cpuid->has(x86::Feature::base));
    EXPECT_TRUE(cpuid->has(x86::Feature::sse2));
}

// Whatever the host has: a feature may be offered when the opcode table has its instructions.
TEST_F(CpuidTable, OffersOnlyInstructionsThatExist)
{
    using F = x86::Feature;
    std::bitset<static_cast<unsigned>(F::count)> known;
    // What older processors run as something else, and vector lengths.
    for (F const feature : { F::base, F::lzcnt, F::prefetchw, F::cldemote, F::wbnoinvd, F::avx512vl })
        known.set(static_cast<unsigned>(feature));
    x86::for_each_opcode_form([&](x86::OpcodeForm const& form) { known.set(static_cast<unsigned>(form.info().feature)); });
    for (auto const& row : cpuid_tables::features)
        EXPECT_TRUE(known.test(static_cast<unsigned>(row.feature))) << std::hex << row.leaf << " bit " << std::dec << unsigned { row.bit };
}

TEST_F(CpuidTable, OsxsaveFollowsCr4)
{
    cpu.cr4 &= ~x86::cr4::osxsave;
    EXPECT_FALSE(has(ask(1).ecx, 27));
    cpu.cr4 |= x86::cr4::osxsave;
    EXPECT_TRUE(has(ask(1).ecx, 27));
}

TEST_F(CpuidTable, OspkeFollowsCr4)
{
    EXPECT_FALSE(has(ask(7).ecx, 4));
    cpu.cr4 |= x86::cr4::pke;
    EXPECT_TRUE(has(ask(7).ecx, 4));
    EXPECT_EQ(ask(7, 1).ecx, 0u);
}

TEST_F(CpuidTable, TheApicIsShownWhileItIsOn)
{
    EXPECT_TRUE(has(ask(1).edx, 9));
    cpu.apic_enabled = false;
    EXPECT_FALSE(has(ask(1).edx, 9));
}

TEST_F(CpuidTable, ExtendedStateSizes)
{
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
    __cpuid_count(0xd, 0, eax, ebx, ecx, edx);
    EXPECT_EQ(ask(0xd).eax, host_vector_unit().mask | xcr0::pkru);
    if (eax == (host_vector_unit().mask | xcr0::pkru)) {
        EXPECT_EQ(ask(0xd).ecx, ecx);
    }
    cpu.xcr0 = xcr0::x87;
    EXPECT_EQ(ask(0xd).ebx, 576u);
    EXPECT_EQ(ask(0xd, 1).ebx, 576u);
    cpu.xcr0 = 7;
    EXPECT_EQ(ask(0xd).ebx, 832u);
    EXPECT_EQ(ask(0xd, 2).eax, 256u);
    EXPECT_EQ(ask(0xd, 2).ebx, 576u);
    EXPECT_EQ(ask(0xd, 9).eax, 8u); // protection keys, behind all others
    EXPECT_EQ(ask(0xd, 9).ebx + 8, ask(0xd).ecx);
    cpu.xcr0 = 7 | xcr0::pkru;
    EXPECT_EQ(ask(0xd).ebx, ask(0xd).ecx);
    EXPECT_EQ(ask(0xd, 1).ebx, 840u);
    EXPECT_EQ(ask(0xd, 8).eax, 0u);
    EXPECT_EQ(ask(0xd, 1).ecx, 0u); // no supervisor states
}

TEST_F(CpuidTable, FrequencySurvives32BitArithmetic)
{
    auto const leaf = ask(0x15);
    ASSERT_NE(leaf.eax, 0u);
    u32 const crystal_kilohertz = leaf.ecx / 1000;
    ASSERT_LE(u64 { crystal_kilohertz } * leaf.ebx, 0xffffffffu);
    double const kilohertz = static_cast<double>(crystal_kilohertz * leaf.ebx) / leaf.eax;
    double const wanted = static_cast<double>(clock->tsc_frequency()) / 1000;
    EXPECT_NEAR(kilohertz / wanted, 1, 2e-7);
    EXPECT_EQ(ask(0x40000010).eax, clock->tsc_frequency() / 1000);
    EXPECT_NEAR(ask(0x16).eax, wanted / 1000, 1);
}

TEST_F(CpuidTable, Ratio)
{
    auto const third = nearest_ratio(1'000'000, 3'000'000, 100);
    EXPECT_EQ(third.p, 1u);
    EXPECT_EQ(third.q, 3u);
    auto const pi = nearest_ratio(314'159'265, 100'000'000, 400);
    EXPECT_EQ(pi.p, 355u);
    EXPECT_EQ(pi.q, 113u);
}

TEST_F(CpuidTable, Signature)
{
    auto const leaf = ask(0x40000000);
    EXPECT_EQ(leaf.eax, 0x40000010u);
    EXPECT_EQ(leaf.ebx, 0x76796862u); // "bhyv"
    EXPECT_EQ(leaf.ecx, 0x68622065u); // "e bh"
    EXPECT_EQ(leaf.edx, 0x20657679u); // "yve "
}

TEST_F(CpuidTable, TopologyOfSocketsCoresAndThreads)
{
    cpu.wires.id = 5;
    cpu.wires.policy = { .vcpu_count = 8, .sockets = 2, .cores = 2, .threads = 2 };
    Cpuid const table(cpu.wires);
    auto const threads = table.query(cpu, 0xb, 0);
    EXPECT_EQ(threads.eax, 1u);
    EXPECT_EQ(threads.ebx, 2u);
    EXPECT_EQ(threads.ecx, 0x100u);
    EXPECT_EQ(threads.edx, 5u);
    auto const cores = table.query(cpu, 0xb, 1);
    EXPECT_EQ(cores.eax, 2u);
    EXPECT_EQ(cores.ebx, 4u);
    EXPECT_EQ(cores.ecx, 0x201u);
    EXPECT_EQ(table.query(cpu, 0xb, 2).ecx, 2u);
    EXPECT_EQ(table.query(cpu, 1, 0).ebx >> 24, 5u);
    EXPECT_EQ(table.query(cpu, 1, 0).ebx >> 16 & 0xff, 4u);
    EXPECT_TRUE(has(table.query(cpu, 1, 0).edx, 28));
    if (table.amd()) {
        EXPECT_EQ(table.query(cpu, 0x80000008, 0).ecx, 3u | 2u << 12);
        EXPECT_EQ(table.query(cpu, 0x8000001e, 0).eax, 5u);
        EXPECT_EQ(table.query(cpu, 0x8000001e, 0).ebx, 0u | 1u << 8); // core 0 of its socket, two threads
        EXPECT_EQ(table.query(cpu, 0x8000001e, 0).ecx, 1u);
    }
}

} // namespace anyhyve::soft
