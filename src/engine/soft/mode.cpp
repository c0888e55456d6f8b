// Recomputes what translated code may assume: the mode bits and how far plain segment accesses may go.
#include "engine/soft/mode.hpp"

#include "engine/soft/mmu.hpp"

namespace anyhyve::soft {

namespace mode {

using x86::Segment;

static bool is_flat(Cpu const& cpu)
{
    constexpr u64 end = u64 { 1 } << 32;
    for (auto s : { Segment::es, Segment::ss, Segment::ds }) {
        unsigned const i = static_cast<u8>(s);
        if (cpu.segments[i].base != 0 || cpu.segment_read_end[i] != end || cpu.segment_write_end[i] != end)
            return false;
    }
    auto const& cs = cpu.segment(Segment::cs);
    return cs.base == 0 && cs.limit == 0xffffffff;
}

ModeBits current(Cpu const& cpu)
{
    using namespace x86;
    ModeBits m = 0;
    if (cpu.code64())
        m |= static_cast<ModeBits>(CodeSize::bits64);
    else {
        if ((cpu.segment(Segment::cs).access & access::big) && !cpu.virtual_8086())
            m |= static_cast<ModeBits>(CodeSize::bits32);
        if (cpu.segment(Segment::ss).access & access::big)
            m |= stack32;
        if (is_flat(cpu))
            m |= flat;
        if (cpu.real_mode() || cpu.virtual_8086())
            m |= real_addressing;
    }
    TlbIndex const tlb = cpu.cpl == 3 ? tlb_user : (cpu.cr4 & cr4::smap) && (cpu.rflags & rflags::ac) ? tlb_supervisor_user_access : tlb_supervisor;
    m |= static_cast<ModeBits>(tlb) << tlb_shift;
    if (cpu.cpl == 0 && cpu.protected_mode())
        m |= ring0;
    if (cpu.cr4 & cr4::smap)
        m |= smap;
    if (cpu.cr4 & cr4::tsd)
        m |= time_stamp_disabled;
    if (cpu.cr0 & cr0::ts)
        m |= task_switched;
    if (cpu.cr0 & cr0::em)
        m |= fpu_emulation;
    if (cpu.cr0 & cr0::mp)
        m |= monitor_fpu;
    if (cpu.cr4 & cr4::osfxsr)
        m |= sse_enabled;
    if ((cpu.cr4 & cr4::osxsave) && (cpu.xcr0 & 6) == 6) {
        m |= avx_enabled;
        if ((cpu.xcr0 & 0xe0) == 0xe0)
            m |= avx512_enabled;
    }
    if (cpu.cpl == 3 && (cpu.cr0 & cr0::am) && (cpu.rflags & rflags::ac))
        m |= alignment_check;
    return m;
}

} // namespace mode

// How far [0, end) of a segment may be accessed with nothing but a compare; 0 sends every access to the slow way.
static u64 plain_end(Cpu const& cpu, x86::SegmentRegister const& segment, Access access)
{
    using namespace x86;
    u64 const end = u64 { segment.limit } + 1;
    if (cpu.real_mode() || cpu.virtual_8086())
        return end;
    u32 const rights = segment.access;
    if ((rights & access::unusable) || !(rights & access::present) || !(rights & access::non_system))
        return 0;
    if (rights & access::code)
        return access == Access::read && (rights & access::readable) ? end : 0;
    if (rights & access::expand_down)
        return 0;
    return access == Access::read || (rights & access::writable) ? end : 0;
}

void Mmu::update_mode()
{
    if (!m_cpu.code64()) {
        for (unsigned i = 0; i < m_cpu.segments.size(); ++i) {
            m_cpu.segment_read_end[i] = plain_end(m_cpu, m_cpu.segments[i], Access::read);
            m_cpu.segment_write_end[i] = plain_end(m_cpu, m_cpu.segments[i], Access::write);
        }
    }
    m_cpu.mode = mode::current(m_cpu);
    check_jump_modes();
}

} // namespace anyhyve::soft
