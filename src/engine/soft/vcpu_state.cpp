// State in and out of a software vCPU.
#include "engine/soft/cpuid.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/vcpu.hpp"

namespace anyhyve::soft {

CpuState SoftVcpu::state() const
{
    Cpu const& cpu = *m_cpu;
    CpuState s;
    s.gpr = cpu.gpr;
    s.rip = cpu.rip;
    s.rflags = cpu.rflags;
    s.segments = cpu.segments;
    s.ldtr = cpu.ldtr;
    s.tr = cpu.tr;
    s.gdtr = cpu.gdtr;
    s.idtr = cpu.idtr;
    s.cr0 = cpu.cr0;
    s.cr2 = cpu.cr2;
    s.cr3 = cpu.cr3;
    s.cr4 = cpu.cr4;
    s.cr8 = cpu.wires.interrupts ? cpu.wires.interrupts->cr8() : 0;
    s.xcr0 = cpu.xcr0;
    s.pkru = cpu.key_rights[user_pages].value;
    s.pkrs = cpu.key_rights[supervisor_pages].value;
    s.pdpte = cpu.pdpte;
    s.dr = cpu.dr;
    s.dr6 = cpu.dr6;
    s.dr7 = cpu.dr7;
    s.efer = cpu.efer;
    s.star = cpu.star;
    s.lstar = cpu.lstar;
    s.cstar = cpu.cstar;
    s.sfmask = cpu.sfmask;
    s.kernel_gs_base = cpu.kernel_gs_base;
    s.tsc_aux = cpu.tsc_aux;
    s.sysenter_cs = cpu.sysenter_cs;
    s.sysenter_esp = cpu.sysenter_esp;
    s.sysenter_eip = cpu.sysenter_eip;
    s.pat = cpu.pat;
    s.misc_enable = cpu.misc_enable;
    s.xss = cpu.xss;
    s.spec_ctrl = cpu.spec_ctrl;
    s.tsc_offset = cpu.tsc_offset;
    s.tsc_adjust = cpu.tsc_adjust;
    s.mtrr_def_type = cpu.mtrr_def_type;
    s.mtrr_fixed = cpu.mtrr_fixed;
    s.mtrr_variable = cpu.mtrr_variable;
    s.xsave = cpu.xsave;
    // MWAIT may end for any reason, and what its line held is not part of the state: the code behind it goes on.
    bool const halted = cpu.halted && !cpu.monitor.waiting;
    s.activity = m_waiting_for_sipi ? Activity::wait_for_sipi : halted ? Activity::halted : Activity::running;
    s.interrupt_shadow = cpu.interrupt_shadow;
    s.nmi_blocked = cpu.nmi_blocked;
    s.nmi_pending = (cpu.events.load() & Cpu::event_nmi) != 0;
    return s;
}

void SoftVcpu::set_state(CpuState const& s)
{
    Cpu& cpu = *m_cpu;
    cpu.gpr = s.gpr;
    cpu.rip = s.rip;
    cpu.rflags = (s.rflags & x86::rflags::writable) | x86::rflags::fixed;
    cpu.segments = s.segments;
    cpu.ldtr = s.ldtr;
    cpu.tr = s.tr;
    cpu.gdtr = s.gdtr;
    cpu.idtr = s.idtr;
    cpu.cr0 = s.cr0;
    cpu.cr2 = s.cr2;
    cpu.cr3 = s.cr3;
    cpu.cr4 = s.cr4;
    if (cpu.wires.interrupts && cpu.wires.interrupts->cr8() != s.cr8)
        cpu.wires.interrupts->set_cr8(s.cr8); // clears the lower half of the task priority, which is not part of this state
    u64 apic_base = 0;
    if (cpu.wires.interrupts && cpu.wires.interrupts->read_msr(x86::msr::apic_base, apic_base))
        cpu.apic_enabled = (apic_base & apic_base_enable) != 0;
    cpu.xcr0 = s.xcr0;
    m_mmu.set_key_rights(user_pages, s.pkru);
    m_mmu.set_key_rights(supervisor_pages, s.pkrs);
    cpu.pdpte = s.pdpte;
    cpu.dr = s.dr;
    cpu.dr6 = s.dr6;
    cpu.dr7 = s.dr7;
    cpu.efer = s.efer;
    cpu.star = s.star;
    cpu.lstar = s.lstar;
    cpu.cstar = s.cstar;
    cpu.sfmask = s.sfmask;
    cpu.kernel_gs_base = s.kernel_gs_base;
    cpu.tsc_aux = s.tsc_aux;
    cpu.sysenter_cs = s.sysenter_cs;
    cpu.sysenter_esp = s.sysenter_esp;
    cpu.sysenter_eip = s.sysenter_eip;
    cpu.pat = s.pat;
    cpu.misc_enable = s.misc_enable;
    cpu.xss = s.xss;
    cpu.spec_ctrl = s.spec_ctrl;
    cpu.tsc_offset = s.tsc_offset;
    cpu.tsc_adjust = s.tsc_adjust;
    cpu.mtrr_def_type = s.mtrr_def_type;
    cpu.mtrr_fixed = s.mtrr_fixed;
    cpu.mtrr_variable = s.mtrr_variable;
    cpu.xsave = s.xsave;
    // The privilege level is the stack segment's DPL (SDM vol. 3A 5.5; vol. 3C 24.4.1), and 3 in virtual-8086 mode.
    bool const protected_mode = cpu.protected_mode();
    cpu.cpl = !protected_mode ? 0 : cpu.virtual_8086() ? 3 : x86::access::dpl(cpu.segment(x86::Segment::ss).access);
    cpu.interrupt_shadow = s.interrupt_shadow;
    cpu.nmi_blocked = s.nmi_blocked;
    cpu.halted = s.activity == Activity::halted;
    cpu.monitor = {};
    m_waiting_for_sipi = s.activity == Activity::wait_for_sipi;
    if (s.nmi_pending)
        cpu.events.fetch_or(Cpu::event_nmi);
    cpu.events.fetch_or(Cpu::event_interrupt); // look once
    std::lock_guard lock(m_cache.lock()); // another virtual CPU may take a page out of the look-aside tables meanwhile
    m_mmu.flush_all();
    m_mmu.update_mode();
    split_flags(cpu);
}

} // namespace anyhyve::soft
