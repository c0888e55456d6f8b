// Addresses of memory operands: effective, segmented (Intel SDM vol. 3A 5.3, 5.5), linear; and accesses by them.
#include "base/bits.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

Outcome Mmu::segment_fault(x86::Segment segment)
{
    return raise_with_code(m_cpu, segment == x86::Segment::ss ? x86::vector::stack_fault : x86::vector::general_protection, 0);
}

Outcome Mmu::linear_address(x86::Segment segment, u64 offset, unsigned size, Access access, u64& linear)
{
    using namespace x86;
    SegmentRegister const& s = m_cpu.segment(segment);
    if (m_cpu.code64()) {
        linear = offset + (segment == Segment::fs || segment == Segment::gs ? s.base : 0);
        if (!is_canonical(linear) || !is_canonical(linear + size - 1))
            return segment_fault(segment);
        return Outcome::next;
    }
    offset &= 0xffffffff;
    linear = (s.base + offset) & 0xffffffff;
    u64 const last = offset + size - 1;
    if (m_cpu.real_mode() || m_cpu.virtual_8086())
        return last <= s.limit ? Outcome::next : segment_fault(segment);
    u32 const rights = s.access;
    if ((rights & access::unusable) || !(rights & access::present))
        return segment_fault(segment);
    if (access == Access::write && ((rights & access::code) || !(rights & access::writable)))
        return segment_fault(segment);
    if (access == Access::read && (rights & access::code) && !(rights & access::readable))
        return segment_fault(segment);
    if (!(rights & access::code) && (rights & access::expand_down)) {
        u64 const top = rights & access::big ? 0xffffffff : 0xffff;
        return offset > s.limit && last <= top ? Outcome::next : segment_fault(segment);
    }
    return last <= s.limit ? Outcome::next : segment_fault(segment);
}

Outcome Mmu::read_segment(x86::Segment segment, u64 offset, void* to, unsigned size)
{
    u64 linear = 0;
    STEP(linear_address(segment, offset, size, Access::read, linear));
    return read(linear, to, size);
}

Outcome Mmu::write_segment(x86::Segment segment, u64 offset, void const* from, unsigned size)
{
    u64 linear = 0;
    STEP(linear_address(segment, offset, size, Access::write, linear));
    return write(linear, from, size);
}

u64 Mmu::effective_address(x86::Instruction const& insn) const
{
    u64 address = static_cast<u64>(insn.displacement);
    if (insn.rip_relative)
        address += m_cpu.next_rip;
    if (insn.base != 0xff)
        address += m_cpu.gpr[insn.base];
    if (insn.index != 0xff && insn.index < 16)
        address += m_cpu.gpr[insn.index] * insn.scale;
    return address & mask_of_bytes(insn.address_size);
}

Outcome Mmu::operand_address(x86::Instruction const& insn, unsigned size, Access access, u64& linear)
{
    return linear_address(insn.segment, effective_address(insn), size, access, linear);
}

Outcome Mmu::read_rm(x86::Instruction const& insn, unsigned width, u64& value)
{
    value = 0;
    if (!insn.has_memory) {
        value = width == 1 ? m_cpu.byte_reg(insn.rm, insn.rex != 0) : m_cpu.reg(insn.rm, width);
        return Outcome::next;
    }
    u64 linear = 0;
    STEP(operand_address(insn, width, Access::read, linear));
    return read(linear, &value, width);
}

Outcome Mmu::write_rm(x86::Instruction const& insn, unsigned width, u64 value)
{
    if (!insn.has_memory) {
        width == 1 ? m_cpu.set_byte_reg(insn.rm, insn.rex != 0, static_cast<u8>(value)) : m_cpu.set_reg(insn.rm, width, value);
        return Outcome::next;
    }
    u64 linear = 0;
    STEP(operand_address(insn, width, Access::write, linear));
    return write(linear, &value, width);
}

} // namespace anyhyve::soft
