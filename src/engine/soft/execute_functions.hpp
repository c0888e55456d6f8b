// Instructions that touch no segment and no gate: their functions, by file. (The others are declared in the headers of their files.)
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// control_registers.cpp
Outcome execute_move_from_control(Cpu&, x86::Instruction const&);
Outcome execute_move_to_control(Cpu&, x86::Instruction const&);
Outcome execute_smsw(Cpu&, x86::Instruction const&);
Outcome execute_lmsw(Cpu&, x86::Instruction const&);
Outcome execute_clts(Cpu&, x86::Instruction const&);
Outcome execute_invlpg(Cpu&, x86::Instruction const&);
Outcome execute_invpcid(Cpu&, x86::Instruction const&);
Outcome execute_xgetbv(Cpu&, x86::Instruction const&);
Outcome execute_xsetbv(Cpu&, x86::Instruction const&);

// system_instructions.cpp
Outcome execute_lgdt(Cpu&, x86::Instruction const&);
Outcome execute_sgdt(Cpu&, x86::Instruction const&);
Outcome execute_lidt(Cpu&, x86::Instruction const&);
Outcome execute_sidt(Cpu&, x86::Instruction const&);
Outcome execute_move_from_debug(Cpu&, x86::Instruction const&);
Outcome execute_move_to_debug(Cpu&, x86::Instruction const&);
Outcome execute_invd(Cpu&, x86::Instruction const&);
Outcome execute_wbinvd(Cpu&, x86::Instruction const&);
Outcome execute_hlt(Cpu&, x86::Instruction const&);
Outcome execute_monitor(Cpu&, x86::Instruction const&);
Outcome execute_mwait(Cpu&, x86::Instruction const&);
Outcome execute_rdpkru(Cpu&, x86::Instruction const&);
Outcome execute_wrpkru(Cpu&, x86::Instruction const&);

// model_specific_registers.cpp, cpuid.cpp, time_stamp.cpp
Outcome execute_rdmsr(Cpu&, x86::Instruction const&);
Outcome execute_wrmsr(Cpu&, x86::Instruction const&);
Outcome execute_cpuid(Cpu&, x86::Instruction const&);
Outcome execute_rdtsc(Cpu&, x86::Instruction const&);
Outcome execute_rdtscp(Cpu&, x86::Instruction const&);
Outcome execute_pause(Cpu&, x86::Instruction const&);
Outcome execute_rdpmc(Cpu&, x86::Instruction const&);
Outcome execute_rdpid(Cpu&, x86::Instruction const&);

// string_operations.cpp, io_instructions.cpp
Outcome execute_string_move(Cpu&, x86::Instruction const&);
Outcome execute_string_compare(Cpu&, x86::Instruction const&);
Outcome execute_string_store(Cpu&, x86::Instruction const&);
Outcome execute_string_load(Cpu&, x86::Instruction const&);
Outcome execute_string_scan(Cpu&, x86::Instruction const&);
Outcome execute_string_in(Cpu&, x86::Instruction const&);
Outcome execute_string_out(Cpu&, x86::Instruction const&);
Outcome execute_in(Cpu&, x86::Instruction const&);
Outcome execute_out(Cpu&, x86::Instruction const&);

// extended_state.cpp, x87_state.cpp
Outcome execute_fxsave(Cpu&, x86::Instruction const&);
Outcome execute_fxrstor(Cpu&, x86::Instruction const&);
Outcome execute_xsave(Cpu&, x86::Instruction const&);
Outcome execute_xsavec(Cpu&, x86::Instruction const&);
Outcome execute_xsaveopt(Cpu&, x86::Instruction const&);
Outcome execute_xsaves(Cpu&, x86::Instruction const&);
Outcome execute_xrstor(Cpu&, x86::Instruction const&);
Outcome execute_xrstors(Cpu&, x86::Instruction const&);
Outcome execute_fnsave(Cpu&, x86::Instruction const&);
Outcome execute_frstor(Cpu&, x86::Instruction const&);
Outcome execute_fnstenv(Cpu&, x86::Instruction const&);
Outcome execute_fldenv(Cpu&, x86::Instruction const&);

// legacy_arithmetic.cpp
Outcome execute_aaa(Cpu&, x86::Instruction const&);
Outcome execute_aas(Cpu&, x86::Instruction const&);
Outcome execute_aam(Cpu&, x86::Instruction const&);
Outcome execute_aad(Cpu&, x86::Instruction const&);
Outcome execute_daa(Cpu&, x86::Instruction const&);
Outcome execute_das(Cpu&, x86::Instruction const&);
Outcome execute_bound(Cpu&, x86::Instruction const&);
Outcome execute_salc(Cpu&, x86::Instruction const&);
Outcome execute_xlat(Cpu&, x86::Instruction const&);
Outcome execute_exchange_accumulator(Cpu&, x86::Instruction const&);

// vector_gather.cpp
Outcome execute_mask_move(Cpu&, x86::Instruction const&);
Outcome execute_gather_scatter(Cpu&, x86::Instruction const&);

} // namespace anyhyve::soft
