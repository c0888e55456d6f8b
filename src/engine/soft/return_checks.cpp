// What RETF and IRET have in common.
#include "engine/soft/return_checks.hpp"

namespace anyhyve::soft {

using x86::Segment;
namespace vector = x86::vector;

Outcome check_return_code(Cpu& cpu, u16 selector, u64 rip, Descriptor& code)
{
    if (is_null(selector))
        return raise_gp(cpu);
    STEP(fetch_descriptor(cpu, selector, vector::general_protection, code));
    u8 const rpl = code.rpl();
    bool const level_fits = code.conforming() ? code.dpl() <= rpl : code.dpl() == rpl;
    bool const both_sizes = cpu.long_mode() && code.is(x86::access::long_mode | x86::access::big);
    if (!code.code() || rpl < cpu.cpl || !level_fits || both_sizes)
        return raise_selector(cpu, vector::general_protection, selector);
    if (!code.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    bool const to_64 = cpu.long_mode() && code.is(x86::access::long_mode);
    if (to_64 ? !is_canonical(rip) : rip > code.limit())
        return raise_gp(cpu);
    return mark_accessed(cpu, code);
}

Outcome check_return_stack(Cpu& cpu, u16 selector, Descriptor const& code, x86::SegmentRegister& stack)
{
    u8 const rpl = code.rpl();
    if (is_null(selector)) {
        // 64-bit code outside ring 3 may run without a stack segment.
        bool const allowed = cpu.long_mode() && code.is(x86::access::long_mode) && rpl != 3 && (selector & 3) == rpl;
        if (!allowed)
            return raise_gp(cpu);
        stack = null_segment(selector, rpl);
        return Outcome::next;
    }
    return check_stack_segment(cpu, selector, rpl, vector::general_protection, stack);
}

void enter_return_code(Cpu& cpu, Descriptor const& code, u64 rip)
{
    bool const outer = code.rpl() != cpu.cpl;
    cpu.segment(Segment::cs) = code.segment_register();
    cpu.cpl = code.rpl();
    cpu.rip = rip;
    if (outer)
        drop_inner_segments(cpu);
}

} // namespace anyhyve::soft
