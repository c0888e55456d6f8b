// CPUID, answered from the guest's table.
#include "engine/soft/cpuid.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/host_vector_unit.hpp"

namespace anyhyve::soft {

namespace {

constexpr u32 leaf1_ecx_osxsave = 1u << 27, leaf1_edx_apic = 1u << 9, leaf7_ecx_ospke = 1u << 4;

} // namespace

CpuidLeaf const* Cpuid::find(u32 leaf, u32 subleaf) const
{
    for (auto const& entry : m_rows) {
        if (entry.leaf == leaf && entry.subleaf == subleaf)
            return &entry.value;
    }
    return nullptr;
}

CpuidLeaf Cpuid::query(Cpu const& cpu, u32 leaf, u32 subleaf) const
{
    bool const has_subleaves = leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x8000001d;
    CpuidLeaf const* const entry = find(leaf, has_subleaves ? subleaf : 0);
    if (entry == nullptr) {
        if (leaf == 0xb) // levels beyond the last still tell who asks (SDM vol. 2A CPUID, leaf 0BH)
            return { .eax = 0, .ebx = 0, .ecx = subleaf & 0xff, .edx = cpu.wires.id };
        return {};
    }
    CpuidLeaf answer = *entry;
    if (leaf == 1 && (cpu.cr4 & x86::cr4::osxsave))
        answer.ecx |= leaf1_ecx_osxsave;
    if (leaf == 1 && !cpu.apic_enabled)
        answer.edx &= ~leaf1_edx_apic;
    if (leaf == 7 && subleaf == 0 && (cpu.cr4 & x86::cr4::pke))
        answer.ecx |= leaf7_ecx_ospke;
    if (leaf == 0xd && subleaf == 0)
        answer.ebx = host_vector_unit().standard_size(cpu.xcr0);
    if (leaf == 0xd && subleaf == 1 && has(x86::Feature::xsavec))
        answer.ebx = host_vector_unit().compacted_size(cpu.xcr0 | cpu.xss);
    return answer;
}

Outcome execute_cpuid(Cpu& cpu, x86::Instruction const&)
{
    auto const leaf = cpu.cpuid->query(cpu, static_cast<u32>(cpu.gpr[x86::rax]), static_cast<u32>(cpu.gpr[x86::rcx]));
    cpu.gpr[x86::rax] = leaf.eax;
    cpu.gpr[x86::rbx] = leaf.ebx;
    cpu.gpr[x86::rcx] = leaf.ecx;
    cpu.gpr[x86::rdx] = leaf.edx;
    return Outcome::next;
}

} // namespace anyhyve::soft
