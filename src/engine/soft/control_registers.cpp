// MOV to and from CR0, CR2, CR3, CR4, CR8, and the instructions that change a part of them or drop translations.
// Source: Intel SDM vol. 2 MOV (control registers), LMSW, SMSW, CLTS, INVLPG, INVPCID, XGETBV, XSETBV; vol. 3A 2.5 and 4.1.
#include "engine/soft/control_registers.hpp"

#include "base/bits.hpp"
#include "engine/soft/cpuid.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr u64 cr0_known = cr0::pe | cr0::mp | cr0::em | cr0::ts | cr0::et | cr0::ne | cr0::wp | cr0::am | cr0::nw | cr0::cd | cr0::pg;
constexpr u64 cr3_pcid_mask = 0xfff;
constexpr u64 cr3_keep_translations = u64 { 1 } << 63; // with CR4.PCIDE: MOV CR3 need not invalidate

bool pae_paging(u64 cr0_value, u64 cr4_value, u64 efer_value)
{
    return (cr0_value & cr0::pg) && (cr4_value & cr4::pae) && !(efer_value & efer::lma);
}

// Loads the PAE pointers for registers that are already set. On failure puts them and the given register back.
Outcome load_pdptes_or_undo(Cpu& cpu, u64& changed, u64 before)
{
    auto const pdpte = cpu.pdpte;
    if (cpu.mmu->load_pdptes())
        return Outcome::next;
    cpu.pdpte = pdpte;
    changed = before;
    return raise_gp(cpu);
}

// May CR0.PG change from what it is? Long mode comes and goes with it (SDM vol. 3A 9.8.5).
bool paging_change_allowed(Cpu const& cpu, u64 value)
{
    if (!(value & cr0::pg))
        return !cpu.code64() && !(cpu.cr4 & cr4::pcide);
    if (!(cpu.efer & efer::lme))
        return true;
    bool const tss16 = (access::type(cpu.tr.access) & 8) == 0 && !(cpu.tr.access & access::unusable) && (cpu.tr.access & access::present);
    bool const cs_long = (cpu.segment(Segment::cs).access & access::long_mode) != 0;
    return (cpu.cr4 & cr4::pae) && !cs_long && !(tss16 && cpu.tr.selector != 0);
}

void flush_after(Cpu& cpu, u64 changed, u64 flushing_bits)
{
    if (changed & flushing_bits)
        cpu.mmu->flush_all();
    cpu.mmu->update_mode();
}

} // namespace

Outcome write_cr0(Cpu& cpu, u64 value)
{
    if (value >> 32)
        return raise_gp(cpu);
    value = (value & cr0_known) | cr0::et;
    if (((value & cr0::pg) && !(value & cr0::pe)) || ((value & cr0::nw) && !(value & cr0::cd)))
        return raise_gp(cpu);
    u64 const before = cpu.cr0;
    u64 const changed = before ^ value;
    if (changed == 0)
        return Outcome::next;
    if ((changed & cr0::pg) && !paging_change_allowed(cpu, value))
        return raise_gp(cpu);

    u64 efer_value = cpu.efer & ~efer::lma;
    if ((value & cr0::pg) && (cpu.efer & efer::lme))
        efer_value |= efer::lma;
    cpu.cr0 = value;
    if ((changed & (cr0::pg | cr0::cd | cr0::nw)) && pae_paging(value, cpu.cr4, efer_value)) {
        u64 const efer_before = cpu.efer;
        cpu.efer = efer_value;
        if (auto const outcome = load_pdptes_or_undo(cpu, cpu.cr0, before); outcome != Outcome::next) {
            cpu.efer = efer_before;
            return outcome;
        }
    }
    cpu.efer = efer_value;
    flush_after(cpu, changed, cr0::pg | cr0::wp | cr0::pe);
    return Outcome::next;
}

Outcome write_cr3(Cpu& cpu, u64 value)
{
    bool const pcid = (cpu.cr4 & cr4::pcide) != 0;
    bool keep = false;
    if (pcid) {
        keep = (value & cr3_keep_translations) != 0;
        value &= ~cr3_keep_translations;
    }
    if (cpu.long_mode()) {
        if (value >> cpu.cpuid->physical_bits())
            return raise_gp(cpu);
    } else
        value = static_cast<u32>(value);
    u64 const before = cpu.cr3;
    cpu.cr3 = value;
    if (pae_paging(cpu.cr0, cpu.cr4, cpu.efer))
        STEP(load_pdptes_or_undo(cpu, cpu.cr3, before));
    // One set of translations per vCPU serves the PCID in use; those of another one are never kept.
    if (!keep || value != before)
        cpu.mmu->flush_non_global();
    return Outcome::next;
}

Outcome write_cr4(Cpu& cpu, u64 value)
{
    if (value & ~cpu.cpuid->supported_cr4())
        return raise_gp(cpu);
    u64 const before = cpu.cr4;
    u64 const changed = before ^ value;
    if ((changed & cr4::pae) && !(value & cr4::pae) && cpu.long_mode())
        return raise_gp(cpu);
    if ((changed & value & cr4::pcide) && (!cpu.long_mode() || (cpu.cr3 & cr3_pcid_mask)))
        return raise_gp(cpu);
    if (changed == 0)
        return Outcome::next;
    cpu.cr4 = value;
    constexpr u64 reloads_pdptes = cr4::pge | cr4::pse | cr4::pae | cr4::smep;
    if ((changed & reloads_pdptes) && pae_paging(cpu.cr0, value, cpu.efer))
        STEP(load_pdptes_or_undo(cpu, cpu.cr4, before));
    flush_after(cpu, changed, cr4::pge | cr4::pse | cr4::pae | cr4::smep | cr4::smap | cr4::pcide | cr4::pke | cr4::pks);
    return Outcome::next;
}

namespace {

Outcome write_cr8(Cpu& cpu, u64 value)
{
    if (value >> 4)
        return raise_gp(cpu);
    VectorStateGuard const guard(cpu);
    cpu.wires.interrupts->set_cr8(value);
    return Outcome::next;
}

bool control_register_exists(Cpu const& cpu, unsigned number)
{
    return number == 0 || number == 2 || number == 3 || number == 4 || (number == 8 && cpu.code64());
}

u64 read_control(Cpu& cpu, unsigned number)
{
    switch (number) {
    case 0: return cpu.cr0;
    case 2: return cpu.cr2;
    case 3: return cpu.cr3;
    case 4: return cpu.cr4;
    default: {
        VectorStateGuard const guard(cpu);
        return cpu.wires.interrupts->cr8();
    }
    }
}

Outcome write_control(Cpu& cpu, unsigned number, u64 value)
{
    switch (number) {
    case 0: return write_cr0(cpu, value);
    case 2: cpu.cr2 = value; return Outcome::next;
    case 3: return write_cr3(cpu, value);
    case 4: return write_cr4(cpu, value);
    default: return write_cr8(cpu, value);
    }
}

} // namespace

Outcome execute_move_from_control(Cpu& cpu, Instruction const& instruction)
{
    if (!control_register_exists(cpu, instruction.reg))
        return raise_ud(cpu);
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    cpu.set_reg(register_operand(instruction), cpu.code64() ? 8 : 4, read_control(cpu, instruction.reg));
    return Outcome::next;
}

Outcome execute_move_to_control(Cpu& cpu, Instruction const& instruction)
{
    if (!control_register_exists(cpu, instruction.reg))
        return raise_ud(cpu);
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    STEP(write_control(cpu, instruction.reg, cpu.reg(register_operand(instruction), cpu.code64() ? 8 : 4)));
    return continue_behind(cpu);
}

Outcome execute_smsw(Cpu& cpu, Instruction const& instruction)
{
    if ((cpu.cr4 & cr4::umip) && cpu.cpl != 0)
        return raise_gp(cpu);
    if (instruction.has_memory)
        return cpu.mmu->write_rm(instruction, 2, cpu.cr0 & 0xffff);
    cpu.set_reg(instruction.rm, instruction.operand_size, cpu.cr0 & mask_of_bytes(instruction.operand_size));
    return Outcome::next;
}

Outcome execute_lmsw(Cpu& cpu, Instruction const& instruction)
{
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    u64 word = 0;
    STEP(cpu.mmu->read_rm(instruction, 2, word));
    constexpr u64 loaded = cr0::pe | cr0::mp | cr0::em | cr0::ts;
    STEP(write_cr0(cpu, (cpu.cr0 & ~(loaded & ~cr0::pe)) | (word & loaded))); // it can set PE, but not clear it
    return continue_behind(cpu);
}

Outcome execute_clts(Cpu& cpu, Instruction const&)
{
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    cpu.cr0 &= ~cr0::ts;
    cpu.mmu->update_mode();
    return continue_behind(cpu);
}

Outcome execute_invlpg(Cpu& cpu, Instruction const& instruction)
{
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    u64 const address = wrap_linear(cpu, cpu.base_of(instruction.segment) + cpu.mmu->effective_address(instruction));
    if (is_canonical(address))
        cpu.mmu->flush_page(address);
    return Outcome::next;
}

Outcome execute_invpcid(Cpu& cpu, Instruction const& instruction)
{
    if (cpu.cpl != 0)
        return raise_gp(cpu);
    enum Type : u64 { address, single_context, all_with_globals, all };
    u64 const type = cpu.reg(instruction.reg, cpu.code64() ? 8 : 4);
    u64 linear = 0;
    STEP(cpu.mmu->operand_address(instruction, 16, Access::read, linear));
    std::array<u64, 2> descriptor {};
    STEP(cpu.mmu->read(linear, descriptor.data(), sizeof descriptor));
    auto const [pcid, target] = descriptor;
    if (type > all)
        return raise_gp(cpu);
    if ((pcid & ~cr3_pcid_mask) || (type <= single_context && pcid != 0 && !(cpu.cr4 & cr4::pcide)))
        return raise_gp(cpu);
    if (type == address && !is_canonical(target))
        return raise_gp(cpu);
    u64 const current = cpu.cr4 & cr4::pcide ? cpu.cr3 & cr3_pcid_mask : 0;
    switch (type) {
    case address:
        if (pcid == current)
            cpu.mmu->flush_page(target);
        break;
    case single_context:
        if (pcid == current)
            cpu.mmu->flush_non_global();
        break;
    case all_with_globals:
        cpu.mmu->flush_all();
        break;
    default:
        cpu.mmu->flush_non_global();
        break;
    }
    return Outcome::next;
}

Outcome execute_xgetbv(Cpu& cpu, Instruction const&)
{
    if (!(cpu.cr4 & cr4::osxsave))
        return raise_ud(cpu);
    u32 const index = static_cast<u32>(cpu.gpr[rcx]);
    u64 value = cpu.xcr0;
    if (index == 1 && host_vector_unit().xgetbv1) {
        u32 low = 0, high = 0;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
        u64 const in_use = (u64 { high } << 32) | low | (cpu.key_rights[user_pages].value != 0 ? xcr0::pkru : 0);
        value &= in_use;
    } else if (index != 0)
        return raise_gp(cpu);
    cpu.gpr[rax] = static_cast<u32>(value);
    cpu.gpr[rdx] = value >> 32;
    return Outcome::next;
}

Outcome execute_xsetbv(Cpu& cpu, Instruction const&)
{
    if (!(cpu.cr4 & cr4::osxsave))
        return raise_ud(cpu);
    u64 const value = (cpu.gpr[rdx] << 32) | static_cast<u32>(cpu.gpr[rax]);
    u64 const avx512 = value & xcr0::avx512;
    bool const complete = (value & xcr0::x87) && (!(value & xcr0::avx) || (value & xcr0::sse))
        && (avx512 == 0 || (avx512 == xcr0::avx512 && (value & xcr0::avx)));
    if (cpu.cpl != 0 || static_cast<u32>(cpu.gpr[rcx]) != 0 || !complete || (value & ~cpu.cpuid->supported_xcr0()))
        return raise_gp(cpu);
    cpu.xcr0 = value;
    cpu.mmu->update_mode();
    return continue_behind(cpu);
}

} // namespace anyhyve::soft
