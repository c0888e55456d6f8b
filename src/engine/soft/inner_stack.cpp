// Stacks of inner privilege levels as the TSS names them.
#include "engine/soft/inner_stack.hpp"

#include "engine/soft/known_memory.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

namespace vector = x86::vector;

namespace {

// RSP0 of the 64-bit TSS, and IST1 (SDM vol. 3A figure 7-11).
constexpr u32 tss64_rsp0 = 4, tss64_ist1 = 0x24;

Outcome read_tss64(Cpu& cpu, u32 offset, u64& pointer)
{
    if (offset + 7 > cpu.tr.limit)
        return raise_selector(cpu, vector::invalid_tss, cpu.tr.selector);
    return read_quadwords<1>(cpu, cpu.tr.base + offset, &pointer, Rights::supervisor);
}

} // namespace

Outcome fetch_inner_stack(Cpu& cpu, u8 level, StackTarget& stack)
{
    bool const wide = (x86::access::type(cpu.tr.access) & descriptor_type::wide_bit) != 0;
    unsigned const pointer_size = wide ? 4 : 2;
    // The first stack follows the back link; each takes a pointer and a selector of the pointer's size.
    u32 const offset = pointer_size + level * pointer_size * 2;
    if (offset + pointer_size + 1 > cpu.tr.limit)
        return raise_selector(cpu, vector::invalid_tss, cpu.tr.selector);
    u8 bytes[6];
    STEP(cpu.mmu->read(wrap_linear(cpu, cpu.tr.base + offset), bytes, pointer_size + 2, Rights::supervisor));
    u64 pointer = 0;
    for (unsigned i = pointer_size; i-- > 0;)
        pointer = pointer << 8 | bytes[i];
    u16 const selector = static_cast<u16>(bytes[pointer_size] | bytes[pointer_size + 1] << 8);
    STEP(check_stack_segment(cpu, selector, level, vector::invalid_tss, stack.segment));
    stack.width = stack_width(stack.segment);
    stack.pointer = pointer & width_mask(stack.width);
    stack.rights = stack_rights(cpu, level);
    stack.fault_code = selector & 0xfffc;
    return Outcome::next;
}

Outcome fetch_inner_stack64(Cpu& cpu, u8 level, u64& pointer)
{
    return read_tss64(cpu, tss64_rsp0 + level * 8u, pointer);
}

Outcome fetch_interrupt_stack64(Cpu& cpu, u8 number, u64& pointer)
{
    return read_tss64(cpu, tss64_ist1 + (number - 1) * 8u, pointer);
}

} // namespace anyhyve::soft
