// Checks and storage of PAT and MTRRs.
#include "engine/soft/memory_types.hpp"

#include "base/bits.hpp"
#include "engine/soft/cpuid.hpp"

namespace anyhyve::soft {

namespace {

enum MemoryType : u8 { uncacheable = 0, write_combining = 1, write_through = 4, write_protected = 5, write_back = 6, uncached_minus = 7 };

bool valid_in_mtrr(u8 type)
{
    return type == uncacheable || type == write_combining || type == write_through || type == write_protected || type == write_back;
}

// Number of the fixed register: 64 KiB, two of 16 KiB, eight of 4 KiB.
unsigned fixed_number(u32 index)
{
    if (index == x86::msr::mtrr_fix64k)
        return 0;
    return index < x86::msr::mtrr_fix4k ? 1 + index - x86::msr::mtrr_fix16k : 3 + index - x86::msr::mtrr_fix4k;
}

} // namespace

bool set_pat(Cpu& cpu, u32, u64 value)
{
    for (unsigned i = 0; i < 8; ++i) {
        u8 const type = static_cast<u8>(value >> (8 * i));
        if (!valid_in_mtrr(type) && type != uncached_minus)
            return false;
    }
    cpu.pat = value;
    return true;
}

bool set_default_mtrr(Cpu& cpu, u32, u64 value)
{
    constexpr u64 enable = 1 << 11, fixed_enable = 1 << 10, type_mask = 0xff;
    if ((value & ~(enable | fixed_enable | type_mask)) || !valid_in_mtrr(static_cast<u8>(value)))
        return false;
    cpu.mtrr_def_type = value;
    return true;
}

bool get_fixed_mtrr(Cpu& cpu, u32 index, u64& value)
{
    value = cpu.mtrr_fixed[fixed_number(index)];
    return true;
}

bool set_fixed_mtrr(Cpu& cpu, u32 index, u64 value)
{
    for (unsigned i = 0; i < 8; ++i) {
        if (!valid_in_mtrr(static_cast<u8>(value >> (8 * i))))
            return false;
    }
    cpu.mtrr_fixed[fixed_number(index)] = value;
    return true;
}

bool get_variable_mtrr(Cpu& cpu, u32 index, u64& value)
{
    value = cpu.mtrr_variable[index - x86::msr::mtrr_phys_base0];
    return true;
}

bool set_variable_mtrr(Cpu& cpu, u32 index, u64 value)
{
    if (value >> cpu.cpuid->physical_bits())
        return false;
    bool const is_mask = index & 1;
    if (is_mask ? (value & 0x7ff) != 0 : (value & 0xf00) != 0 || !valid_in_mtrr(static_cast<u8>(value)))
        return false;
    cpu.mtrr_variable[index - x86::msr::mtrr_phys_base0] = value;
    return true;
}

} // namespace anyhyve::soft
