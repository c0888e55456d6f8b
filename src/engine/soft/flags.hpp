// The two places of the arithmetic flags: cpu.rflags, and the image that generated code keeps with LAHF and SETO.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// LAHF leaves SF ZF AF PF CF in AH, SETO leaves OF in AL (SDM vol. 2, LAHF).
constexpr u64 lahf_mask = x86::rflags::sf | x86::rflags::zf | x86::rflags::af | x86::rflags::pf | x86::rflags::cf;

constexpr u64 flags_from_image(u64 image)
{
    return (image >> 8 & lahf_mask) | (image & 1) << 11;
}
constexpr u64 image_from_flags(u64 rflags)
{
    return (rflags & lahf_mask) << 8 | x86::rflags::fixed << 8 | (rflags >> 11 & 1);
}
inline void merge_flags(Cpu& cpu)
{
    cpu.rflags = (cpu.rflags & ~x86::rflags::arithmetic) | flags_from_image(cpu.arithmetic_flags);
}
inline void split_flags(Cpu& cpu)
{
    cpu.arithmetic_flags = image_from_flags(cpu.rflags);
}

} // namespace anyhyve::soft
