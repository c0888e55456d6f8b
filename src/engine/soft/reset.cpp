// INIT and the start-up IPI, both taken outside of generated code, while the guest's vector state is in cpu.xsave. Spec: Intel SDM vol. 3A table 9-1 (state after INIT), 8.4.4 (SIPI).
#include "engine/soft/activity.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/operations.hpp"

namespace anyhyve::soft {

// What INIT leaves alone: the x87/SSE state, MSRs but EFER, the TSC, MTRRs; CR0.CD and NW.
void reset_by_init(Cpu& cpu)
{
    using namespace x86;
    cpu.gpr.fill(0);
    cpu.gpr[rdx] = 0x600;
    cpu.rip = 0xfff0;
    cpu.rflags = rflags::fixed;
    for (auto& segment : cpu.segments)
        segment = { 0, access::present | access::non_system | access::writable | access::accessed, 0xffff, 0 };
    cpu.segment(Segment::cs) = { 0xf000, access::present | access::non_system | access::code | access::readable | access::accessed, 0xffff, 0xffff0000 };
    cpu.ldtr = { 0, access::present | 2, 0xffff, 0 };
    cpu.tr = { 0, access::present | 11, 0xffff, 0 };
    cpu.gdtr = cpu.idtr = { 0, 0xffff };
    cpu.cr0 = (cpu.cr0 & (cr0::cd | cr0::nw)) | cr0::et;
    cpu.cr2 = cpu.cr3 = cpu.cr4 = 0;
    cpu.efer = 0;
    cpu.dr.fill(0);
    cpu.dr6 = 0xffff0ff0;
    cpu.dr7 = 0x400;
    cpu.cpl = 0;
    cpu.interrupt_shadow = cpu.nmi_blocked = cpu.halted = false;
    cpu.monitor = {};
    cpu.wires.interrupts->reset_by_init();
    RunningScope const running(cpu, cpu.mmu->cache());
    cpu.mmu->flush_all();
    cpu.mmu->update_mode();
}

void start_by_sipi(Cpu& cpu, u8 vector)
{
    RunningScope const running(cpu, cpu.mmu->cache());
    auto& cs = cpu.segment(x86::Segment::cs);
    cs.selector = static_cast<u16>(vector << 8);
    cs.base = u64 { vector } << 12;
    cpu.rip = 0;
    cpu.mmu->update_mode();
}

} // namespace anyhyve::soft
