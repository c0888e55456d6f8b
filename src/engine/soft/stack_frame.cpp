// Frames of several values on a stack: written whole or not at all.
#include "engine/soft/stack_frame.hpp"

#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

namespace access = x86::access;

namespace {

constexpr unsigned largest_access = 64; // of one Mmu call

bool in_limit(x86::SegmentRegister const& segment, u64 offset, unsigned size)
{
    if (segment.access & access::unusable)
        return false;
    u64 const last = offset + size - 1;
    bool const expand_down = (segment.access & (access::code | access::expand_down)) == access::expand_down;
    if (!expand_down)
        return last <= segment.limit;
    return offset > segment.limit && last <= (segment.access & access::big ? 0xffffffff : 0xffff);
}

// The linear address of [offset, offset+size) of the stack, or #SS.
Outcome stack_address(Cpu& cpu, StackTarget const& stack, u64 offset, unsigned size, u64& linear)
{
    bool fits = false;
    if (stack.width == 8) {
        linear = offset;
        fits = is_canonical(offset) && is_canonical(offset + size - 1);
    } else {
        linear = static_cast<u32>(stack.segment.base + offset);
        fits = in_limit(stack.segment, offset, size);
    }
    return fits ? Outcome::next : raise_with_code(cpu, x86::vector::stack_fault, stack.fault_code);
}

// Values of 2, 4 or 8 bytes, each in one access: byte by byte would stall on what was just written whole.
void store(u8* to, u64 value, unsigned size)
{
    switch (size) {
    case 2: __builtin_memcpy(to, &value, 2); return;
    case 4: __builtin_memcpy(to, &value, 4); return;
    default: __builtin_memcpy(to, &value, 8); return;
    }
}

u64 load(u8 const* from, unsigned size)
{
    u64 value = 0;
    switch (size) {
    case 2: __builtin_memcpy(&value, from, 2); return value;
    case 4: __builtin_memcpy(&value, from, 4); return value;
    default: __builtin_memcpy(&value, from, 8); return value;
    }
}

} // namespace

StackTarget current_stack(Cpu const& cpu)
{
    return { .segment = cpu.segment(x86::Segment::ss), .pointer = stack_pointer(cpu), .width = stack_width(cpu) };
}

// The frame as one range, lowest address first.
Outcome StackFrame::write_block(Cpu& cpu, StackTarget const& stack, u64 pointer) const
{
    unsigned const total = m_count * m_item_size;
    u64 linear = 0;
    STEP(stack_address(cpu, stack, pointer, total, linear));
    u8 bytes[capacity * 8];
    for (unsigned i = 0; i < m_count; i++)
        store(bytes + (m_count - 1 - i) * m_item_size, m_values[i], m_item_size);
    if (total <= largest_access)
        return cpu.mmu->write(linear, bytes, total, stack.rights);
    for (unsigned done = 0; done < total; done += largest_access)
        STEP(cpu.mmu->probe(linear + done, total - done < largest_access ? total - done : largest_access, Access::write, stack.rights));
    for (unsigned done = 0; done < total; done += largest_access)
        STEP(cpu.mmu->write(linear + done, bytes + done, total - done < largest_access ? total - done : largest_access, stack.rights));
    return Outcome::next;
}

// Fails where the first value to be pushed does.
Outcome StackFrame::probe_items(Cpu& cpu, StackTarget const& stack) const
{
    u64 linear = 0;
    for (unsigned i = 0; i < m_count; i++) {
        STEP(stack_address(cpu, stack, (stack.pointer - (i + 1) * m_item_size) & width_mask(stack.width), m_item_size, linear));
        STEP(cpu.mmu->probe(linear, m_item_size, Access::write, stack.rights));
    }
    return Outcome::next;
}

// The frame value by value: its pointer passes 0.
Outcome StackFrame::write_items(Cpu& cpu, StackTarget const& stack) const
{
    u64 const mask = width_mask(stack.width);
    u64 linear = 0;
    STEP(probe_items(cpu, stack));
    for (unsigned i = 0; i < m_count; i++) {
        STEP(stack_address(cpu, stack, (stack.pointer - (i + 1) * m_item_size) & mask, m_item_size, linear));
        u8 bytes[8];
        store(bytes, m_values[i], m_item_size);
        STEP(cpu.mmu->write(linear, bytes, m_item_size, stack.rights));
    }
    return Outcome::next;
}

Outcome StackFrame::write(Cpu& cpu, StackTarget const& stack, u64& pointer) const
{
    unsigned const total = m_count * m_item_size;
    u64 const mask = width_mask(stack.width);
    u64 const bottom = (stack.pointer - total) & mask;
    bool const contiguous = bottom <= ((stack.pointer - 1) & mask) && !(cpu.mode & mode::alignment_check); // which is about each item
    auto const outcome = contiguous ? write_block(cpu, stack, bottom) : write_items(cpu, stack);
    if (outcome != Outcome::next) {
        STEP(probe_items(cpu, stack));
        return outcome;
    }
    pointer = bottom;
    return Outcome::next;
}

Outcome read_frame(Cpu& cpu, u64 offset, unsigned item_size, unsigned count, u64* values)
{
    unsigned const total = count * item_size;
    u64 const mask = width_mask(stack_width(cpu));
    u64 const first = (cpu.gpr[x86::rsp] + offset) & mask;
    bool const each = (cpu.mode & mode::alignment_check) != 0; // is to be aligned
    if (item_size == 8 && mask == ~u64 { 0 } && !each)
        return cpu.mmu->read_segment(x86::Segment::ss, first, values, total);
    u8 bytes[read_frame_capacity * 8];
    if (((first + total - 1) & mask) >= first && !each)
        STEP(cpu.mmu->read_segment(x86::Segment::ss, first, bytes, total));
    else {
        for (unsigned i = 0; i < count; i++)
            STEP(cpu.mmu->read_segment(x86::Segment::ss, (first + i * item_size) & mask, bytes + i * item_size, item_size));
    }
    for (unsigned i = 0; i < count; i++)
        values[i] = load(bytes + i * item_size, item_size);
    return Outcome::next;
}

} // namespace anyhyve::soft
