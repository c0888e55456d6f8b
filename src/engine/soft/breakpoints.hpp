// The four breakpoints of the debug registers: on instructions, on data, on ports. Code runs as ever meanwhile, but for what is near them:
// pages with a watched datum stay out of the look-aside tables, and an instruction that is about to access it is begun again, alone; pages with a
// breakpoint on an instruction stay out of the code look-aside table, and in them every instruction runs alone.
// Source: Intel SDM vol. 3B 17.2.4, 17.2.5 and 17.3.1.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// DR7: a local and a global enable bit for each.
inline bool breakpoints_enabled(Cpu const& cpu) { return (cpu.dr7 & 0xff) != 0; }

// Is one of them on data in the page of `linear`, or on an instruction in that page?
bool watches_data_in(Cpu const&, u64 linear);
bool watches_code_in(Cpu const&, u64 linear);
// Is cpu.rip in a page with a breakpoint on an instruction, or the one before, whose last instruction may end in it?
inline bool watches_next_code(Cpu const& cpu)
{
    u64 const linear = cpu.code_linear(cpu.rip);
    return breakpoints_enabled(cpu) && (watches_code_in(cpu, linear) || watches_code_in(cpu, linear + 0x1000));
}
// Do they name the access?
bool watches_access(Cpu const&, u64 linear, u64 size, Access);

// Bits of DR6 for those that name the instruction at cpu.rip.
u64 code_breakpoints(Cpu const&);

// Remembers in cpu.pending_debug those that the access hits: they are reported behind the instruction.
void note_data_access(Cpu&, u64 linear, u64 size, Access);
void note_port_access(Cpu&, u16 port, unsigned width);

} // namespace anyhyve::soft
