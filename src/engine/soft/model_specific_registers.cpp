// RDMSR and WRMSR: one table, a row for each register or range, in the order of their numbers.
// Source: Intel SDM vol. 4; AMD PPR for family 19h (C001_xxxx); bhyve's policy for registers that exist only to be read.
#include "engine/soft/model_specific_registers.hpp"

#include "base/bits.hpp"
#include "engine/soft/control_registers.hpp"
#include "engine/soft/cpuid.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/memory_types.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/time_stamp.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

using Read = bool (*)(Cpu&, u32 index, u64& value);
using Write = bool (*)(Cpu&, u32 index, u64 value);
enum class Owner : u8 { any, intel, amd };

struct MsrRow {
    u32 first, last;
    Owner owner;
    Read read;
    Write write;
};

// --- accessors that rows are made of ---

template<auto field>
bool get(Cpu& cpu, u32, u64& value)
{
    value = cpu.*field;
    return true;
}
template<auto field>
bool set(Cpu& cpu, u32, u64 value)
{
    cpu.*field = value;
    return true;
}
template<auto field>
bool set_canonical(Cpu& cpu, u32, u64 value)
{
    if (!is_canonical(value))
        return false;
    cpu.*field = value;
    return true;
}
// 32 bits; the upper half is reserved.
template<auto field>
bool set_low(Cpu& cpu, u32, u64 value)
{
    if (value >> 32)
        return false;
    cpu.*field = value;
    return true;
}
template<u64 constant>
bool get_constant(Cpu&, u32, u64& value)
{
    value = constant;
    return true;
}
bool drop(Cpu&, u32, u64) { return true; }
bool refuse(Cpu&, u32, u64) { return false; }
bool refuse_read(Cpu&, u32, u64&) { return false; }
// Registers with nothing in them that a guest could turn on.
bool only_zero(Cpu&, u32, u64 value) { return value == 0; }

template<Segment segment>
bool get_base(Cpu& cpu, u32, u64& value)
{
    value = cpu.segment(segment).base;
    return true;
}
template<Segment segment>
bool set_base(Cpu& cpu, u32, u64 value)
{
    if (!is_canonical(value))
        return false;
    cpu.segment(segment).base = value;
    if (!cpu.code64())
        cpu.mmu->update_mode();
    return true;
}

bool get_interrupts(Cpu& cpu, u32 index, u64& value)
{
    VectorStateGuard const guard(cpu);
    return cpu.wires.interrupts->read_msr(index, value);
}
bool set_interrupts(Cpu& cpu, u32 index, u64 value)
{
    VectorStateGuard const guard(cpu);
    return cpu.wires.interrupts->write_msr(index, value);
}
bool set_apic_base(Cpu& cpu, u32 index, u64 value)
{
    if (!set_interrupts(cpu, index, value))
        return false;
    cpu.apic_enabled = (value & apic_base_enable) != 0;
    return true;
}

// --- registers with rules of their own ---

bool get_pkrs(Cpu& cpu, u32, u64& value)
{
    value = cpu.key_rights[supervisor_pages].value;
    return true;
}
bool set_pkrs(Cpu& cpu, u32, u64 value)
{
    if (value >> 32)
        return false;
    cpu.mmu->set_key_rights(supervisor_pages, static_cast<u32>(value));
    return true;
}

bool get_tsc(Cpu& cpu, u32, u64& value)
{
    value = guest_tsc(cpu);
    return true;
}
bool set_tsc(Cpu& cpu, u32, u64 value)
{
    write_tsc(cpu, value);
    return true;
}
bool set_tsc_adjust(Cpu& cpu, u32, u64 value)
{
    write_tsc_adjust(cpu, value);
    return true;
}
bool get_deadline(Cpu& cpu, u32, u64& value) { return read_tsc_deadline(cpu, value); }
bool set_deadline(Cpu& cpu, u32, u64 value) { return write_tsc_deadline(cpu, value); }

bool set_efer(Cpu& cpu, u32, u64 value)
{
    u64 const before = cpu.efer;
    if (value & ~(cpu.cpuid->supported_efer() | efer::lma))
        return false;
    value = (value & ~efer::lma) | (before & efer::lma);
    u64 const changed = before ^ value;
    if ((changed & efer::lme) && (cpu.cr0 & cr0::pg))
        return false;
    cpu.efer = value;
    if (changed & efer::nxe)
        cpu.mmu->flush_all();
    if (changed)
        cpu.mmu->update_mode();
    return true;
}

// IBRS, STIBP, SSBD: kept for the guest to read back.
bool set_speculation_control(Cpu& cpu, u32, u64 value)
{
    if (value & ~u64 { 7 })
        return false;
    cpu.spec_ctrl = value;
    return true;
}
bool set_command(Cpu&, u32, u64 value) { return (value & ~u64 { 1 }) == 0; }

// Branch trace and precise event sampling are not available (bits 11 and 12). The rest is kept and changes nothing. AMD's processors do
// not have this register, but hypervisors give it to their guests there, too.
constexpr u64 misc_enable_fixed = bit(11) | bit(12);
constexpr u64 misc_enable_changeable = bit(0) | bit(3) | bit(16) | bit(18) | bit(22) | bit(23) | bit(34);
constexpr u64 misc_enable_monitor = bit(18); // always set where CPUID offers MONITOR; elsewhere kept, too
bool get_misc_enable(Cpu& cpu, u32, u64& value)
{
    value = (cpu.misc_enable & misc_enable_changeable) | misc_enable_fixed | (cpu.cpuid->has(Feature::monitor) ? misc_enable_monitor : 0);
    return true;
}
bool set_misc_enable(Cpu& cpu, u32, u64 value)
{
    cpu.misc_enable = value & misc_enable_changeable;
    return true;
}

// Maximum non-turbo ratio in units of 100 MHz.
bool get_platform_info(Cpu& cpu, u32, u64& value)
{
    auto const megahertz = cpu.cpuid->query(cpu, 0x16, 0).eax;
    value = u64 { (megahertz + 50) / 100 } << 8;
    return true;
}

// An update signature that no guest takes for an old, faulty one. Intel software writes 0 and runs CPUID before it reads.
bool get_microcode(Cpu& cpu, u32, u64& value)
{
    value = cpu.cpuid->amd() ? 0x0fffffff : u64 { 0xffffffff } << 32;
    return true;
}

bool get_top_of_memory(Cpu& cpu, u32, u64& value)
{
    value = cpu.wires.memory != nullptr ? cpu.wires.memory->low_size() : 0;
    return true;
}
bool get_top_of_high_memory(Cpu& cpu, u32, u64& value)
{
    u64 const high = cpu.wires.memory != nullptr ? cpu.wires.memory->high_size() : 0;
    value = high != 0 ? GuestMemory::high_base + high : 0;
    return true;
}

// RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO,
// ITS_NO: guest code runs translated in a process of its own, so what a guest could do about these faults would only cost it time.
constexpr u64 arch_capabilities = bit(0) | bit(1) | bit(3) | bit(4) | bit(5) | bit(6) | bit(8) | bit(13) | bit(14) | bit(15) | bit(20) | bit(24)
    | bit(26) | bit(27) | bit(62);

constexpr u64 feature_control_locked = 1;
constexpr u64 hwcr_tsc_at_p0 = bit(24);        // the TSC counts at the P0 frequency: Linux warns when it is clear
constexpr u64 de_cfg_lfence_serializes = bit(1);
constexpr u64 vm_cr_svm_disabled = bit(3) | bit(4);
constexpr u64 rapl_power_unit = 0x000a1003;    // bhyve's

constexpr MsrRow table[] = {
    { 0x0, 0x1, Owner::intel, get_constant<0>, drop },                  // P5_MC_ADDR, P5_MC_TYPE
    { msr::tsc, msr::tsc, Owner::any, get_tsc, set_tsc },
    { 0x17, 0x17, Owner::intel, get_constant<0>, refuse },              // PLATFORM_ID
    { msr::apic_base, msr::apic_base, Owner::any, get_interrupts, set_apic_base },
    { 0x2a, 0x2a, Owner::intel, get_constant<0>, drop },                // EBL_CR_POWERON
    { msr::feature_control, msr::feature_control, Owner::intel, get_constant<feature_control_locked>, refuse },
    { msr::tsc_adjust, msr::tsc_adjust, Owner::any, get<&Cpu::tsc_adjust>, set_tsc_adjust },
    { msr::spec_ctrl, msr::spec_ctrl, Owner::any, get<&Cpu::spec_ctrl>, set_speculation_control },
    { msr::pred_cmd, msr::pred_cmd, Owner::any, refuse_read, set_command },
    { 0x79, 0x79, Owner::intel, get_constant<0>, drop },                // BIOS_UPDT_TRIG
    { msr::bios_sign_id, msr::bios_sign_id, Owner::any, get_microcode, drop },
    { 0xce, 0xce, Owner::intel, get_platform_info, refuse },            // PLATFORM_INFO
    { msr::mtrr_cap, msr::mtrr_cap, Owner::any, get_constant<mtrr_capabilities>, refuse },
    { msr::arch_capabilities, msr::arch_capabilities, Owner::any, get_constant<arch_capabilities>, refuse },
    { 0x10b, 0x10b, Owner::intel, refuse_read, set_command },           // FLUSH_CMD
    { 0x140, 0x140, Owner::intel, get_constant<0>, only_zero },         // MISC_FEATURES_ENABLES
    { msr::sysenter_cs, msr::sysenter_cs, Owner::any, get<&Cpu::sysenter_cs>, set<&Cpu::sysenter_cs> },
    { msr::sysenter_esp, msr::sysenter_esp, Owner::any, get<&Cpu::sysenter_esp>, set_canonical<&Cpu::sysenter_esp> },
    { msr::sysenter_eip, msr::sysenter_eip, Owner::any, get<&Cpu::sysenter_eip>, set_canonical<&Cpu::sysenter_eip> },
    { msr::mcg_cap, msr::mcg_cap, Owner::any, get_constant<0>, refuse },
    { msr::mcg_status, msr::mcg_status, Owner::any, get_constant<0>, only_zero },
    { msr::misc_enable, msr::misc_enable, Owner::any, get_misc_enable, set_misc_enable },
    { 0x1ad, 0x1ad, Owner::intel, get_constant<0>, refuse },            // TURBO_RATIO_LIMIT
    { 0x1d9, 0x1d9, Owner::any, get_constant<0>, only_zero },           // DEBUGCTL
    { msr::mtrr_phys_base0, msr::mtrr_phys_base0 + 2 * mtrr_variable_count - 1, Owner::any, get_variable_mtrr, set_variable_mtrr },
    { msr::mtrr_fix64k, msr::mtrr_fix64k, Owner::any, get_fixed_mtrr, set_fixed_mtrr },
    { msr::mtrr_fix16k, msr::mtrr_fix16k + 1, Owner::any, get_fixed_mtrr, set_fixed_mtrr },
    { msr::mtrr_fix4k, msr::mtrr_fix4k + 7, Owner::any, get_fixed_mtrr, set_fixed_mtrr },
    { msr::pat, msr::pat, Owner::any, get<&Cpu::pat>, set_pat },
    { msr::mtrr_def_type, msr::mtrr_def_type, Owner::any, get<&Cpu::mtrr_def_type>, set_default_mtrr },
    { 0x606, 0x606, Owner::intel, get_constant<rapl_power_unit>, refuse }, // RAPL_POWER_UNIT, and the energy counters
    { 0x611, 0x611, Owner::intel, get_constant<0>, refuse },
    { 0x619, 0x619, Owner::intel, get_constant<0>, refuse },
    { 0x639, 0x639, Owner::intel, get_constant<0>, refuse },
    { 0x641, 0x641, Owner::intel, get_constant<0>, refuse },
    { msr::tsc_deadline, msr::tsc_deadline, Owner::any, get_deadline, set_deadline },
    { msr::pkrs, msr::pkrs, Owner::any, get_pkrs, set_pkrs },
    { msr::x2apic_first, msr::x2apic_last, Owner::any, get_interrupts, set_interrupts },
    { msr::xss, msr::xss, Owner::any, get<&Cpu::xss>, only_zero },
    { msr::efer, msr::efer, Owner::any, get<&Cpu::efer>, set_efer },
    { msr::star, msr::star, Owner::any, get<&Cpu::star>, set<&Cpu::star> },
    { msr::lstar, msr::lstar, Owner::any, get<&Cpu::lstar>, set_canonical<&Cpu::lstar> },
    { msr::cstar, msr::cstar, Owner::any, get<&Cpu::cstar>, set_canonical<&Cpu::cstar> },
    { msr::sfmask, msr::sfmask, Owner::any, get<&Cpu::sfmask>, set_low<&Cpu::sfmask> },
    { msr::fs_base, msr::fs_base, Owner::any, get_base<Segment::fs>, set_base<Segment::fs> },
    { msr::gs_base, msr::gs_base, Owner::any, get_base<Segment::gs>, set_base<Segment::gs> },
    { msr::kernel_gs_base, msr::kernel_gs_base, Owner::any, get<&Cpu::kernel_gs_base>, set_canonical<&Cpu::kernel_gs_base> },
    { msr::tsc_aux, msr::tsc_aux, Owner::any, get<&Cpu::tsc_aux>, set_low<&Cpu::tsc_aux> },
    // Event selects and counters of the K7, which every AMD64 processor has and CPUID does not announce: nothing is ever counted.
    { 0xc0010000, 0xc0010007, Owner::amd, get_constant<0>, drop },
    { 0xc0010010, 0xc0010010, Owner::amd, get_constant<0>, drop },      // SYSCFG
    { 0xc0010015, 0xc0010015, Owner::amd, get_constant<hwcr_tsc_at_p0>, drop },
    { 0xc0010016, 0xc0010019, Owner::amd, get_constant<0>, drop },      // I/O range registers
    { 0xc001001a, 0xc001001a, Owner::amd, get_top_of_memory, drop },
    { 0xc001001d, 0xc001001d, Owner::amd, get_top_of_high_memory, drop },
    { 0xc001001f, 0xc0010020, Owner::amd, get_constant<0>, drop },      // NB_CFG, PATCH_LOADER
    { 0xc0010044, 0xc001004a, Owner::amd, get_constant<0>, drop },      // machine-check masks
    { 0xc0010055, 0xc0010058, Owner::amd, get_constant<0>, drop },      // INT_PENDING, SMI cycle, MMIO_CONF_BASE (none)
    { 0xc0010061, 0xc001006b, Owner::amd, get_constant<0>, drop },      // P-states: none enabled
    { 0xc0010114, 0xc0010114, Owner::amd, get_constant<vm_cr_svm_disabled>, drop },
    { 0xc0010140, 0xc0010141, Owner::amd, get_constant<0>, drop },      // OS-visible workarounds: none
    { 0xc0011020, 0xc0011028, Owner::amd, get_constant<0>, drop },      // load/store, instruction and data cache configuration
    { 0xc0011029, 0xc0011029, Owner::amd, get_constant<de_cfg_lfence_serializes>, drop },
    { 0xc001102a, 0xc001102f, Owner::amd, get_constant<0>, drop },
};

MsrRow const* find(Cpu const& cpu, u32 index)
{
    Owner const other = cpu.cpuid->amd() ? Owner::intel : Owner::amd;
    // The rows are sorted: the last one that begins at or before `index`.
    MsrRow const* low = table;
    MsrRow const* high = table + sizeof table / sizeof table[0];
    while (high - low > 1) {
        MsrRow const* const middle = low + (high - low) / 2;
        (middle->first <= index ? low : high) = middle;
    }
    return index >= low->first && index <= low->last && low->owner != other ? low : nullptr;
}

} // namespace

bool read_msr(Cpu& cpu, u32 index, u64& value)
{
    value = 0;
    if (auto const* row = find(cpu, index))
        return row->read(cpu, index, value);
    if (cpu.wires.policy.strict_msr)
        return false;
    report_guest(cpu, "read of unknown MSR", index);
    return true;
}

bool write_msr(Cpu& cpu, u32 index, u64 value)
{
    if (auto const* row = find(cpu, index))
        return row->write(cpu, index, value);
    if (cpu.wires.policy.strict_msr)
        return false;
    report_guest(cpu, "write to unknown MSR", index);
    return true;
}

Outcome execute_rdmsr(Cpu& cpu, Instruction const&)
{
    u64 value = 0;
    if (cpu.cpl != 0 || !read_msr(cpu, static_cast<u32>(cpu.gpr[rcx]), value))
        return raise_gp(cpu);
    cpu.gpr[rax] = static_cast<u32>(value);
    cpu.gpr[rdx] = value >> 32;
    return Outcome::next;
}

Outcome execute_wrmsr(Cpu& cpu, Instruction const&)
{
    u64 const value = (cpu.gpr[rdx] << 32) | static_cast<u32>(cpu.gpr[rax]);
    ModeBits const mode = cpu.mode;
    if (cpu.cpl != 0 || !write_msr(cpu, static_cast<u32>(cpu.gpr[rcx]), value))
        return raise_gp(cpu);
    return cpu.mode == mode ? Outcome::next : continue_behind(cpu);
}

} // namespace anyhyve::soft
