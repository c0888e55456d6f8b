// CPUID, answered from the guest's table.
#include "engine/soft/cpuid.hpp"
#include "engine/soft/execute_functions.hpp"

namespace anyhyve::soft {

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
