// One operand of a string instruction: where its next elements lie, and how many of them can be handled at once.
#pragma once

#include "engine/soft/breakpoints.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/string_primitives.hpp"

namespace anyhyve::soft {

// What all string instructions share: count, direction, widths, and when to stop for an interrupt.
class StringInstruction {
public:
    StringInstruction(Cpu& cpu, x86::Instruction const& instruction, unsigned width)
        : m_cpu(cpu)
        , m_instruction(instruction)
        , m_width(width)
        , m_repeated(instruction.repeat != x86::RepeatPrefix::none)
        , m_direction(cpu.rflags & x86::rflags::df ? host_string::Direction::down : host_string::Direction::up)
        , m_left(m_repeated ? cpu.reg(x86::rcx, instruction.address_size) : 1)
    {
    }

    unsigned width() const { return m_width; }
    u64 left() const { return m_left; }
    bool repeated() const { return m_repeated; }
    host_string::Direction direction() const { return m_direction; }
    host_string::RepeatWhile condition() const
    {
        return m_instruction.repeat == x86::RepeatPrefix::repne ? host_string::RepeatWhile::not_equal : host_string::RepeatWhile::equal;
    }
    x86::Segment source_segment() const
    {
        return m_instruction.segment_override == x86::Segment::none ? x86::Segment::ds : m_instruction.segment_override;
    }
    // Elements to try at once: with the trap flag set, every iteration is a step of its own.
    u64 wanted() const { return steps() ? 1 : m_left; }

    // `count` elements are done: the registers say so, and the instruction can be restarted behind them.
    void advance(u64 count, bool source, bool destination)
    {
        u64 const bytes = m_direction == host_string::Direction::up ? count * m_width : 0 - count * m_width;
        unsigned const size = m_instruction.address_size;
        if (source)
            m_cpu.set_reg(x86::rsi, size, m_cpu.gpr[x86::rsi] + bytes);
        if (destination)
            m_cpu.set_reg(x86::rdi, size, m_cpu.gpr[x86::rdi] + bytes);
        m_left -= count;
        if (m_repeated)
            m_cpu.set_reg(x86::rcx, size, m_left);
    }

    // Elements are left, and something else comes first: an interrupt, the trap of a single step, or a breakpoint that was hit.
    bool must_pause() const
    {
        return m_left != 0 && ((m_cpu.poll.load(std::memory_order_relaxed) != 0 && is_wanted()) || steps() || m_cpu.pending_debug != 0);
    }
    // cpu.rip still names the instruction, whose breakpoint has been reported.
    Outcome pause() const
    {
        if (breakpoints_enabled(m_cpu))
            m_cpu.rflags |= x86::rflags::rf;
        return Outcome::jump;
    }

    Cpu& cpu() const { return m_cpu; }
    unsigned address_size() const { return m_instruction.address_size; }

private:
    // Somebody waits, an interrupt or another vCPU. That the instruction has overwritten its own block, which makes the poll word 1 too, is no
    // reason: it goes on as it was fetched.
    bool is_wanted() const { return m_cpu.events.load(std::memory_order_relaxed) != 0 || m_cpu.mmu->cache().standstill_wanted(); }
    bool steps() const { return (m_cpu.rflags & x86::rflags::tf) != 0; }

    Cpu& m_cpu;
    x86::Instruction const& m_instruction;
    unsigned m_width;
    bool m_repeated;
    host_string::Direction m_direction;
    u64 m_left;
};

struct StringOperand {
    u8* host = nullptr; // the first element, or nullptr: device memory, or across a page; then it is one element at `linear`
    u64 linear = 0;
    u64 count = 0;      // elements that follow each other in host memory, the first included

    // The elements at segment:offset, up to `wanted`, checked for `access`.
    Outcome locate(StringInstruction const&, x86::Segment, x86::GeneralRegister, Access, u64 wanted);
    Outcome locate_source(StringInstruction const& string, u64 wanted)
    {
        return locate(string, string.source_segment(), x86::rsi, Access::read, wanted);
    }
    Outcome locate_destination(StringInstruction const& string, Access access, u64 wanted)
    {
        return locate(string, x86::Segment::es, x86::rdi, access, wanted);
    }

private:
    bool locate_cached(StringInstruction const&, x86::Segment, u64 offset, Access, u64 wanted);
};

} // namespace anyhyve::soft
