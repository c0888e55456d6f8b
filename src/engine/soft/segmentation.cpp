// Segment descriptors and segment register loads: the checks of SDM vol. 3A chapter 5, each with its error code.
#include "engine/soft/segmentation.hpp"

#include "engine/soft/known_memory.hpp"

namespace anyhyve::soft {

using x86::Segment;
using x86::SegmentRegister;
namespace access = x86::access;
namespace vector = x86::vector;

Outcome fetch_descriptor(Cpu& cpu, u16 selector, u8 bad, Descriptor& out)
{
    u64 base = cpu.gdtr.base;
    u32 limit = cpu.gdtr.limit;
    if (in_ldt(selector)) {
        bool const usable = (cpu.ldtr.access & (access::unusable | access::present)) == access::present;
        if (!usable)
            return raise_selector(cpu, bad, selector);
        base = cpu.ldtr.base;
        limit = cpu.ldtr.limit;
    }
    u32 const offset = selector & 0xfff8u;
    if (u64 { offset } + 7 > limit)
        return raise_selector(cpu, bad, selector);
    out.selector = selector;
    out.address = wrap_linear(cpu, base + offset);
    out.high = 0;
    return read_quadwords<1>(cpu, out.address, &out.low, Rights::supervisor);
}

Outcome fetch_system_half(Cpu& cpu, u8 bad, Descriptor& descriptor)
{
    if (!cpu.long_mode())
        return Outcome::next;
    u32 const limit = in_ldt(descriptor.selector) ? cpu.ldtr.limit : cpu.gdtr.limit;
    if ((descriptor.selector & 0xfff8u) + 15 > limit)
        return raise_selector(cpu, bad, descriptor.selector);
    STEP(cpu.mmu->read_value(descriptor.address + 8, descriptor.high, Rights::supervisor));
    // Bits 8-12 of the last word must be 0, so that the half cannot be taken for a descriptor of its own (SDM vol. 3A 5.8.3.1).
    if (descriptor.high & 0x1f0000000000)
        return raise_selector(cpu, bad, descriptor.selector);
    return Outcome::next;
}

// Writes back the byte with the type; nothing else of the entry, which other processors may be changing.
static Outcome write_type(Cpu& cpu, Descriptor const& descriptor)
{
    return cpu.mmu->write_value(wrap_linear(cpu, descriptor.address + 5), static_cast<u8>(descriptor.low >> 40), Rights::supervisor);
}

Outcome mark_accessed(Cpu& cpu, Descriptor& descriptor)
{
    if (descriptor.is(access::accessed))
        return Outcome::next;
    descriptor.low |= u64 { access::accessed } << 40;
    return write_type(cpu, descriptor);
}

Outcome mark_busy(Cpu& cpu, Descriptor& descriptor, Busy busy)
{
    u64 const bit = u64 { descriptor_type::busy_bit } << 40;
    descriptor.low = busy == Busy::yes ? descriptor.low | bit : descriptor.low & ~bit;
    return write_type(cpu, descriptor);
}

SegmentRegister null_segment(u16 selector, u8 dpl)
{
    return { .selector = selector, .access = access::unusable | u32 { dpl } << access::dpl_shift, .limit = 0, .base = 0 };
}

SegmentRegister real_mode_segment(Segment segment, SegmentRegister const& before, u16 selector)
{
    bool const was_usable = (before.access & access::unusable) == 0;
    u32 const kept = was_usable ? before.access & (access::big | access::granular) : 0;
    u32 const type = access::present | access::non_system | access::writable | access::accessed | (segment == Segment::cs ? access::code : 0);
    return { .selector = selector, .access = kept | type, .limit = was_usable ? before.limit : 0xffff, .base = u64 { selector } << 4 };
}

SegmentRegister virtual_8086_segment(u16 selector)
{
    return { .selector = selector,
             .access = access::present | access::dpl_mask | access::non_system | access::writable | access::accessed,
             .limit = 0xffff,
             .base = u64 { selector } << 4 };
}

Outcome check_data_segment(Cpu& cpu, u16 selector, u8 cpl, u8 bad, SegmentRegister& out)
{
    if (is_null(selector)) {
        out = null_segment(selector);
        return Outcome::next;
    }
    Descriptor descriptor;
    STEP(fetch_descriptor(cpu, selector, bad, descriptor));
    if (!descriptor.readable())
        return raise_selector(cpu, bad, selector);
    if (!descriptor.conforming() && (descriptor.rpl() > descriptor.dpl() || cpl > descriptor.dpl()))
        return raise_selector(cpu, bad, selector);
    if (!descriptor.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    STEP(mark_accessed(cpu, descriptor));
    out = descriptor.segment_register();
    return Outcome::next;
}

Outcome check_stack_segment(Cpu& cpu, u16 selector, u8 cpl, u8 bad, SegmentRegister& out)
{
    if (is_null(selector))
        return raise_with_code(cpu, bad, 0);
    Descriptor descriptor;
    STEP(fetch_descriptor(cpu, selector, bad, descriptor));
    if (descriptor.rpl() != cpl || !descriptor.writable_data() || descriptor.dpl() != cpl)
        return raise_selector(cpu, bad, selector);
    if (!descriptor.present())
        return raise_selector(cpu, vector::stack_fault, selector);
    STEP(mark_accessed(cpu, descriptor));
    out = descriptor.segment_register();
    return Outcome::next;
}

Outcome check_ldt(Cpu& cpu, u16 selector, u8 bad, SegmentRegister& out)
{
    if (is_null(selector)) {
        out = null_segment(selector);
        return Outcome::next;
    }
    if (in_ldt(selector))
        return raise_selector(cpu, bad, selector);
    Descriptor descriptor;
    STEP(fetch_descriptor(cpu, selector, bad, descriptor));
    if (!descriptor.system() || descriptor.type() != descriptor_type::ldt)
        return raise_selector(cpu, bad, selector);
    STEP(fetch_system_half(cpu, bad, descriptor));
    if (!descriptor.present())
        return raise_selector(cpu, bad == vector::invalid_tss ? bad : vector::segment_not_present, selector);
    if (!is_canonical(descriptor.base()))
        return raise_selector(cpu, bad, selector);
    out = descriptor.segment_register();
    return Outcome::next;
}

Outcome check_segment(Cpu& cpu, Segment segment, u16 selector, SegmentRegister& out)
{
    if (cpu.real_mode()) {
        out = real_mode_segment(segment, cpu.segment(segment), selector);
        return Outcome::next;
    }
    if (cpu.virtual_8086()) {
        out = virtual_8086_segment(selector);
        return Outcome::next;
    }
    if (segment != Segment::ss)
        return check_data_segment(cpu, selector, cpu.cpl, vector::general_protection, out);
    // SDM vol. 2B MOV: 64-bit code outside ring 3 may run without a stack segment.
    if (is_null(selector) && cpu.code64() && cpu.cpl < 3 && (selector & 3) == cpu.cpl) {
        out = null_segment(selector, cpu.cpl);
        return Outcome::next;
    }
    return check_stack_segment(cpu, selector, cpu.cpl, vector::general_protection, out);
}

Outcome load_segment(Cpu& cpu, Segment segment, u16 selector)
{
    SegmentRegister loaded;
    STEP(check_segment(cpu, segment, selector, loaded));
    cpu.segment(segment) = loaded;
    cpu.mmu->update_mode();
    return Outcome::next;
}

void drop_inner_segments(Cpu& cpu)
{
    for (auto const name : { Segment::es, Segment::ds, Segment::fs, Segment::gs }) {
        SegmentRegister& segment = cpu.segment(name);
        bool const conforming = (segment.access & (access::code | access::conforming)) == (access::code | access::conforming);
        bool const null = (segment.access & access::unusable) != 0;
        if (!null && (conforming || access::dpl(segment.access) >= cpu.cpl))
            continue;
        // The base survives: 64-bit code reaches FS and GS data through it. Of the null selectors only 0 is left.
        segment.selector = 0;
        segment.access = access::unusable;
        segment.limit = 0;
    }
}

} // namespace anyhyve::soft
