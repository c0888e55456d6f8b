// The one list of instructions with code of their own.
#include "engine/soft/operations.hpp"

#include "engine/soft/execute_functions.hpp"
#include "engine/soft/far_transfers.hpp"
#include "engine/soft/fast_system_calls.hpp"
#include "engine/soft/flag_operations.hpp"
#include "engine/soft/interrupt_instructions.hpp"
#include "engine/soft/interrupt_return.hpp"
#include "engine/soft/segment_instructions.hpp"
#include "engine/soft/stack_operations.hpp"

namespace anyhyve::soft {

Outcome execute_undefined(Cpu& cpu, x86::Instruction const&)
{
    return raise_ud(cpu);
}

Outcome execute_not_available(Cpu& cpu, x86::Instruction const&)
{
    return raise(cpu, x86::vector::device_not_available);
}

Execute execute_function(x86::Operation operation)
{
    using x86::Operation;
    switch (operation) {
    case Operation::push_segment: return execute_push_segment;
    case Operation::pop_segment: return execute_pop_segment;
    case Operation::push_flags: return execute_push_flags;
    case Operation::pop_flags: return execute_pop_flags;
    case Operation::push_all: return execute_push_all;
    case Operation::pop_all: return execute_pop_all;
    case Operation::enter: return execute_enter;
    case Operation::leave: return execute_leave;
    case Operation::xlat: return execute_xlat;
    case Operation::mask_move: return execute_mask_move;
    case Operation::gather_scatter: return execute_gather_scatter;
    case Operation::exchange_accumulator: return execute_exchange_accumulator;
    case Operation::jump_far: return execute_jump_far;
    case Operation::call_far: return execute_call_far;
    case Operation::return_far: return execute_return_far;
    case Operation::interrupt: return execute_interrupt;
    case Operation::interrupt3: return execute_interrupt3;
    case Operation::interrupt_overflow: return execute_interrupt_overflow;
    case Operation::interrupt1: return execute_interrupt1;
    case Operation::interrupt_return: return execute_interrupt_return;
    case Operation::syscall: return execute_syscall;
    case Operation::sysret: return execute_sysret;
    case Operation::sysenter: return execute_sysenter;
    case Operation::sysexit: return execute_sysexit;
    case Operation::string_move: return execute_string_move;
    case Operation::string_compare: return execute_string_compare;
    case Operation::string_store: return execute_string_store;
    case Operation::string_load: return execute_string_load;
    case Operation::string_scan: return execute_string_scan;
    case Operation::string_in: return execute_string_in;
    case Operation::string_out: return execute_string_out;
    case Operation::in: return execute_in;
    case Operation::out: return execute_out;
    case Operation::cli: return execute_cli;
    case Operation::sti: return execute_sti;
    case Operation::cld: return execute_cld;
    case Operation::std: return execute_std;
    case Operation::stac: return execute_stac;
    case Operation::clac: return execute_clac;
    case Operation::move_to_segment: return execute_move_to_segment;
    case Operation::move_from_segment: return execute_move_from_segment;
    case Operation::load_far_pointer: return execute_load_far_pointer;
    case Operation::load_access_rights: return execute_load_access_rights;
    case Operation::load_segment_limit: return execute_load_segment_limit;
    case Operation::verify_read: return execute_verify_read;
    case Operation::verify_write: return execute_verify_write;
    case Operation::adjust_rpl: return execute_adjust_rpl;
    case Operation::lgdt: return execute_lgdt;
    case Operation::sgdt: return execute_sgdt;
    case Operation::lidt: return execute_lidt;
    case Operation::sidt: return execute_sidt;
    case Operation::lldt: return execute_lldt;
    case Operation::sldt: return execute_sldt;
    case Operation::ltr: return execute_ltr;
    case Operation::str: return execute_str;
    case Operation::smsw: return execute_smsw;
    case Operation::lmsw: return execute_lmsw;
    case Operation::clts: return execute_clts;
    case Operation::move_from_control: return execute_move_from_control;
    case Operation::move_to_control: return execute_move_to_control;
    case Operation::move_from_debug: return execute_move_from_debug;
    case Operation::move_to_debug: return execute_move_to_debug;
    case Operation::invd: return execute_invd;
    case Operation::wbinvd: return execute_wbinvd;
    case Operation::invlpg: return execute_invlpg;
    case Operation::invpcid: return execute_invpcid;
    case Operation::swapgs: return execute_swapgs;
    case Operation::hlt: return execute_hlt;
    case Operation::monitor: return execute_monitor;
    case Operation::mwait: return execute_mwait;
    case Operation::rdmsr: return execute_rdmsr;
    case Operation::wrmsr: return execute_wrmsr;
    case Operation::rdtsc: return execute_rdtsc;
    case Operation::rdtscp: return execute_rdtscp;
    case Operation::rdpmc: return execute_rdpmc;
    case Operation::pause: return execute_pause;
    case Operation::cpuid: return execute_cpuid;
    case Operation::rdpid: return execute_rdpid;
    case Operation::xgetbv: return execute_xgetbv;
    case Operation::xsetbv: return execute_xsetbv;
    case Operation::rdpkru: return execute_rdpkru;
    case Operation::wrpkru: return execute_wrpkru;
    case Operation::read_fs_base: return execute_read_fs_base;
    case Operation::read_gs_base: return execute_read_gs_base;
    case Operation::write_fs_base: return execute_write_fs_base;
    case Operation::write_gs_base: return execute_write_gs_base;
    case Operation::aaa: return execute_aaa;
    case Operation::aas: return execute_aas;
    case Operation::aam: return execute_aam;
    case Operation::aad: return execute_aad;
    case Operation::daa: return execute_daa;
    case Operation::das: return execute_das;
    case Operation::bound: return execute_bound;
    case Operation::salc: return execute_salc;
    case Operation::fxsave: return execute_fxsave;
    case Operation::fxrstor: return execute_fxrstor;
    case Operation::xsave: return execute_xsave;
    case Operation::xsavec: return execute_xsavec;
    case Operation::xsaveopt: return execute_xsaveopt;
    case Operation::xsaves: return execute_xsaves;
    case Operation::xrstor: return execute_xrstor;
    case Operation::xrstors: return execute_xrstors;
    case Operation::fnsave: return execute_fnsave;
    case Operation::frstor: return execute_frstor;
    case Operation::fnstenv: return execute_fnstenv;
    case Operation::fldenv: return execute_fldenv;
    // The translator's own.
    case Operation::undefined:
    case Operation::copy:
    case Operation::nop:
    case Operation::jump_conditional:
    case Operation::jump_relative:
    case Operation::jump_indirect:
    case Operation::call_relative:
    case Operation::call_indirect:
    case Operation::return_near:
    case Operation::loop:
    case Operation::jump_cx_zero:
    case Operation::push:
    case Operation::pop:
    case Operation::push_immediate:
    case Operation::lea:
    case Operation::inc_dec_short:
    case Operation::move_offset:
    case Operation::bit_test_memory:
    case Operation::count:
        break;
    }
    return nullptr;
}

} // namespace anyhyve::soft
