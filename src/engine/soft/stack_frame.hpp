// Frames of several values on a stack, as gates, far transfers, PUSHA and IRET write and read them: pointer wrapped by the stack's
// width, limit checked by its segment, and nothing written unless all of it can be.
// Source: Intel SDM vol. 1 6.2 (stack width), vol. 3A 6.12 and 6.14 (frames).
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// Bytes of the stack pointer in use: 8 in 64-bit code, else what SS.B says.
inline unsigned stack_width(x86::SegmentRegister const& ss) { return ss.access & x86::access::big ? 4 : 2; }
inline unsigned stack_width(Cpu const& cpu) { return cpu.code64() ? 8 : stack_width(cpu.segment(x86::Segment::ss)); }
constexpr u64 width_mask(unsigned width) { return width == 8 ? ~u64 { 0 } : (u64 { 1 } << (width * 8)) - 1; }
inline u64 stack_pointer(Cpu const& cpu) { return cpu.reg(x86::rsp, stack_width(cpu)); }

// Changes as much of RSP as the stack segment now in force uses; a 16-bit stack keeps bits 16-31 of before.
inline void set_stack_pointer(Cpu& cpu, u64 value)
{
    unsigned const width = stack_width(cpu);
    cpu.gpr[x86::rsp] = width == 2 ? (cpu.gpr[x86::rsp] & 0xffff0000) | (value & 0xffff) : value & width_mask(width);
}

// The privilege under which the stack of level `cpl` is written: the current one's rights, unless the frame is for an inner level.
inline Rights stack_rights(Cpu const& cpu, u8 cpl) { return cpl == cpu.cpl ? Rights::current : Rights::supervisor; }

// Where a frame goes.
struct StackTarget {
    x86::SegmentRegister segment;
    u64 pointer = 0;
    unsigned width = 8;
    Rights rights = Rights::current;
    u32 fault_code = 0; // error code of the #SS when it does not fit
};
StackTarget current_stack(Cpu const&);

// Values of one size, in the order they are pushed.
class StackFrame {
public:
    static constexpr unsigned capacity = 40; // call gate with 31 parameters, SS, ESP, CS, EIP

    explicit StackFrame(unsigned item_size) : m_item_size(item_size) {}
    void push(u64 value) { m_values[m_count++] = value; }
    // Writes the frame; `pointer` is then where its last value lies.
    Outcome write(Cpu&, StackTarget const&, u64& pointer) const;

private:
    Outcome write_block(Cpu&, StackTarget const&, u64 pointer) const;
    Outcome write_items(Cpu&, StackTarget const&) const;
    Outcome probe_items(Cpu&, StackTarget const&) const;

    unsigned m_item_size;
    unsigned m_count = 0;
    u64 m_values[capacity]; // the first m_count hold something
};

// Reads `count` values of `item_size` bytes from the current stack, `offset` bytes above its pointer; zero-extended, topmost first.
constexpr unsigned read_frame_capacity = 9; // IRET to virtual-8086 mode
Outcome read_frame(Cpu&, u64 offset, unsigned item_size, unsigned count, u64* values);

} // namespace anyhyve::soft
