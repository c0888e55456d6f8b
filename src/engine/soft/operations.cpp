// The one list of operations.
#include "engine/soft/operations.hpp"

#include <iterator>

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

namespace {

using x86::Operation;

// In the order of x86::Operation. What has no function is the translator's own.
constexpr OperationRow operations[] = {
    { Operation::undefined, nullptr, ends_block },
    { Operation::copy, nullptr, stays_in_code | host_flags | flags_by_row },
    { Operation::nop, nullptr, stays_in_code | flags_by_row },
    { Operation::jump_conditional, nullptr, ends_block | stays_in_code | flags_by_row },
    { Operation::jump_relative, nullptr, ends_block | stays_in_code },
    { Operation::jump_indirect, nullptr, ends_block | stays_in_code },
    { Operation::call_relative, nullptr, ends_block | stays_in_code },
    { Operation::call_indirect, nullptr, ends_block | stays_in_code },
    { Operation::return_near, nullptr, ends_block | stays_in_code },
    { Operation::loop, nullptr, ends_block | flags_by_row },
    { Operation::jump_cx_zero, nullptr, ends_block },
    { Operation::push, nullptr, stays_in_code | flags_by_row },
    { Operation::pop, nullptr, stays_in_code | flags_by_row },
    { Operation::push_immediate, nullptr, stays_in_code | flags_by_row },
    { Operation::push_segment, execute_push_segment },
    { Operation::pop_segment, execute_pop_segment, ends_block },
    { Operation::push_flags, execute_push_flags },
    { Operation::pop_flags, execute_pop_flags, ends_block },
    { Operation::push_all, execute_push_all },
    { Operation::pop_all, execute_pop_all },
    { Operation::enter, execute_enter },
    { Operation::leave, execute_leave, stays_in_code },
    { Operation::lea, nullptr, stays_in_code | flags_by_row },
    { Operation::move_offset, nullptr, stays_in_code | host_flags | flags_by_row },
    { Operation::bit_test_memory, nullptr, stays_in_code | host_flags | flags_by_row },
    { Operation::xlat, execute_xlat },
    { Operation::mask_move, execute_mask_move },
    { Operation::gather_scatter, execute_gather_scatter },
    { Operation::exchange_accumulator, execute_exchange_accumulator, stays_in_code | host_flags | flags_by_row },
    { Operation::jump_far, execute_jump_far, ends_block },
    { Operation::call_far, execute_call_far, ends_block },
    { Operation::return_far, execute_return_far, ends_block },
    { Operation::interrupt, execute_interrupt, ends_block },
    { Operation::interrupt3, execute_interrupt3, ends_block },
    { Operation::interrupt_overflow, execute_interrupt_overflow, ends_block },
    { Operation::interrupt1, execute_interrupt1, ends_block },
    { Operation::interrupt_return, execute_interrupt_return, ends_block },
    { Operation::syscall, execute_syscall, ends_block },
    { Operation::sysret, execute_sysret, ends_block },
    { Operation::sysenter, execute_sysenter, ends_block },
    { Operation::sysexit, execute_sysexit, ends_block },
    { Operation::string_move, execute_string_move },
    { Operation::string_compare, execute_string_compare },
    { Operation::string_store, execute_string_store },
    { Operation::string_load, execute_string_load },
    { Operation::string_scan, execute_string_scan },
    { Operation::string_in, execute_string_in },
    { Operation::string_out, execute_string_out },
    { Operation::in, execute_in },
    { Operation::out, execute_out },
    { Operation::cli, execute_cli },
    { Operation::sti, execute_sti },
    { Operation::cld, execute_cld },
    { Operation::std, execute_std },
    { Operation::stac, execute_stac, ends_block },
    { Operation::clac, execute_clac, ends_block },
    { Operation::move_to_segment, execute_move_to_segment, ends_block },
    { Operation::move_from_segment, execute_move_from_segment },
    { Operation::load_far_pointer, execute_load_far_pointer },
    { Operation::load_access_rights, execute_load_access_rights },
    { Operation::load_segment_limit, execute_load_segment_limit },
    { Operation::verify_read, execute_verify_read },
    { Operation::verify_write, execute_verify_write },
    { Operation::adjust_rpl, execute_adjust_rpl },
    { Operation::lgdt, execute_lgdt },
    { Operation::sgdt, execute_sgdt },
    { Operation::lidt, execute_lidt },
    { Operation::sidt, execute_sidt },
    { Operation::lldt, execute_lldt },
    { Operation::sldt, execute_sldt },
    { Operation::ltr, execute_ltr },
    { Operation::str, execute_str },
    { Operation::smsw, execute_smsw },
    { Operation::lmsw, execute_lmsw, ends_block },
    { Operation::clts, execute_clts, ends_block },
    { Operation::move_from_control, execute_move_from_control },
    { Operation::move_to_control, execute_move_to_control, ends_block },
    { Operation::move_from_debug, execute_move_from_debug },
    { Operation::move_to_debug, execute_move_to_debug, ends_block },
    { Operation::invd, execute_invd },
    { Operation::wbinvd, execute_wbinvd },
    { Operation::invlpg, execute_invlpg, ends_block },
    { Operation::invpcid, execute_invpcid, ends_block },
    { Operation::swapgs, execute_swapgs },
    { Operation::hlt, execute_hlt, ends_block },
    { Operation::monitor, execute_monitor },
    { Operation::mwait, execute_mwait },
    { Operation::pause, execute_pause, ends_block },
    { Operation::rdmsr, execute_rdmsr },
    { Operation::wrmsr, execute_wrmsr, ends_block },
    { Operation::rdtsc, execute_rdtsc },
    { Operation::rdtscp, execute_rdtscp },
    { Operation::rdpmc, execute_rdpmc },
    { Operation::cpuid, execute_cpuid },
    { Operation::rdpid, execute_rdpid },
    { Operation::xgetbv, execute_xgetbv },
    { Operation::xsetbv, execute_xsetbv, ends_block },
    { Operation::rdpkru, execute_rdpkru },
    { Operation::wrpkru, execute_wrpkru },
    { Operation::read_fs_base, execute_read_fs_base },
    { Operation::read_gs_base, execute_read_gs_base },
    { Operation::write_fs_base, execute_write_fs_base },
    { Operation::write_gs_base, execute_write_gs_base },
    { Operation::aaa, execute_aaa },
    { Operation::aas, execute_aas },
    { Operation::aam, execute_aam },
    { Operation::aad, execute_aad },
    { Operation::daa, execute_daa },
    { Operation::das, execute_das },
    { Operation::bound, execute_bound },
    { Operation::salc, execute_salc },
    { Operation::inc_dec_short, nullptr, host_flags | flags_by_row },
    { Operation::fxsave, execute_fxsave },
    { Operation::fxrstor, execute_fxrstor },
    { Operation::xsave, execute_xsave },
    { Operation::xsavec, execute_xsavec },
    { Operation::xsaveopt, execute_xsaveopt },
    { Operation::xsaves, execute_xsaves },
    { Operation::xrstor, execute_xrstor },
    { Operation::xrstors, execute_xrstors },
    { Operation::fnsave, execute_fnsave },
    { Operation::frstor, execute_frstor },
    { Operation::fnstenv, execute_fnstenv },
    { Operation::fldenv, execute_fldenv },
};

constexpr bool in_order()
{
    for (unsigned i = 0; i < std::size(operations); ++i) {
        if (static_cast<unsigned>(operations[i].operation) != i)
            return false;
    }
    return std::size(operations) == static_cast<unsigned>(Operation::count);
}
static_assert(in_order(), "every operation has its row, in their order");

} // namespace

OperationRow const& operation_row(Operation operation)
{
    return operations[static_cast<unsigned>(operation)];
}

} // namespace anyhyve::soft
