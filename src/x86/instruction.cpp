// What the operands of a decoded instruction take: bytes of memory, general registers.
#include "x86/instruction.hpp"
#include "x86/memory_operand.hpp"

namespace anyhyve::x86 {

unsigned rare_operand_bytes(Instruction const& instruction)
{
    using W = MemoryWidth;
    unsigned const vector = 16u << (instruction.vector_length & 3);
    unsigned const operand = instruction.operand_size;
    bool const one = instruction.evex_b;
    switch (instruction.info->width) {
    case W::vector_half: return vector / 2;
    case W::vector_quarter: return vector / 4;
    case W::vector_eighth: return vector / 8;
    case W::broadcast32: return one ? 4 : vector;
    case W::broadcast64: return one ? 8 : vector;
    case W::broadcast32_half: return one ? 4 : vector / 2;
    case W::broadcast16: return one ? 2 : vector;
    case W::broadcast16_half: return one ? 2 : vector / 2;
    case W::broadcast16_quarter: return one ? 2 : vector / 4;
    case W::operand_pair: return operand * 2;
    case W::far_pointer: return operand + 2;
    case W::pseudo_descriptor: return instruction.code_size == CodeSize::bits64 ? 10 : 6;
    case W::x87_environment: return operand == 2 ? 14 : 28;
    case W::x87_state: return operand == 2 ? 94 : 108;
    case W::fx_state: return 512;
    default: return 0; // xsave_state
    }
}

unsigned memory_operand_size(Instruction const& instruction)
{
    return instruction.has_memory ? operand_bytes(instruction) : 0;
}

RegisterUse general_registers(Instruction const& instruction)
{
    auto const& info = *instruction.info;
    RegisterUse result { info.implicit_read, info.implicit_write };
    auto const add = [&](unsigned number, unsigned use) {
        result.read = static_cast<u16>(result.read | (use & use_read ? 1u : 0u) << number);
        result.written = static_cast<u16>(result.written | (use & use_write ? 1u : 0u) << number);
    };
    auto const field = [&](FieldKind kind, FieldUse use, unsigned number) {
        if (kind == FieldKind::gpr8 && instruction.rex == 0)
            number &= 3; // AH, CH, DH, BH
        if (kind == FieldKind::gpr || kind == FieldKind::gpr8)
            add(number, use);
    };
    field(info.reg_kind, info.reg_use, instruction.reg);
    if (info.opcode_register || instruction.mod == 3)
        field(info.rm_kind, info.rm_use, instruction.rm);
    field(info.vvvv_kind, info.vvvv_use, instruction.vvvv);
    if (instruction.has_memory && instruction.base != no_register)
        add(instruction.base, use_read);
    if (instruction.has_memory && instruction.index != no_register && !info.vsib)
        add(instruction.index, use_read);
    return result;
}

} // namespace anyhyve::x86
