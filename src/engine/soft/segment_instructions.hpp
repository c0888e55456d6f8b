// Instructions that load, store or examine segment registers and descriptors.
// Source: Intel SDM vol. 2, the pages of the instructions named.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

Outcome execute_move_to_segment(Cpu&, x86::Instruction const&);
Outcome execute_move_from_segment(Cpu&, x86::Instruction const&);
Outcome execute_load_far_pointer(Cpu&, x86::Instruction const&); // LDS LES LFS LGS LSS
Outcome execute_load_access_rights(Cpu&, x86::Instruction const&);
Outcome execute_load_segment_limit(Cpu&, x86::Instruction const&);
Outcome execute_verify_read(Cpu&, x86::Instruction const&);
Outcome execute_verify_write(Cpu&, x86::Instruction const&);
Outcome execute_adjust_rpl(Cpu&, x86::Instruction const&);
Outcome execute_lldt(Cpu&, x86::Instruction const&);
Outcome execute_sldt(Cpu&, x86::Instruction const&);
Outcome execute_ltr(Cpu&, x86::Instruction const&);
Outcome execute_str(Cpu&, x86::Instruction const&);
Outcome execute_swapgs(Cpu&, x86::Instruction const&);
Outcome execute_read_fs_base(Cpu&, x86::Instruction const&);
Outcome execute_read_gs_base(Cpu&, x86::Instruction const&);
Outcome execute_write_fs_base(Cpu&, x86::Instruction const&);
Outcome execute_write_gs_base(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
