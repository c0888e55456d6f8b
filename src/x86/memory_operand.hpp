// The memory operand of a decoded instruction: a register that its address lacks, and how many bytes it takes.
#pragma once

#include "x86/instruction.hpp"

namespace anyhyve::x86 {

// Instruction::base and index where the address has none.
inline constexpr u8 no_register = 0xff;

// Widths that do not depend on the instruction, or 0, in the order of MemoryWidth up to b64.
inline constexpr u8 fixed_widths[] = { 0, 1, 2, 4, 8, 10, 16, 32, 64 };

// Widths that are rare or depend on more: the ones above MemoryWidth::vector.
unsigned rare_operand_bytes(Instruction const& instruction);

// What the memory operand takes.
inline unsigned operand_bytes(Instruction const& instruction)
{
    auto const width = instruction.info->width;
    if (width == MemoryWidth::operand)
        return instruction.operand_size;
    if (width < MemoryWidth::operand)
        return fixed_widths[static_cast<unsigned>(width)];
    if (width == MemoryWidth::vector)
        return 16u << (instruction.vector_length & 3);
    return rare_operand_bytes(instruction);
}

} // namespace anyhyve::x86
