// Where generated code finds the fields of the Cpu: offsets for gs:[...] operands.
#pragma once

#include <cstddef>

#include "engine/soft/cpu.hpp"

// offsetof of a type that is not standard-layout only for its atomics and nested wires: fine with g++ and clang.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace anyhyve::soft {

static_assert(sizeof(TlbEntry) == 32, "generated code scales slots by 32");
static_assert(offsetof(Cpu, jump_cache) < 0x7fffffff, "reached by a 32-bit displacement");

template<typename T>
constexpr u32 as_offset(T value) { return static_cast<u32>(value); }

constexpr u32 gpr_offset(unsigned n) { return as_offset(offsetof(Cpu, gpr) + n * 8); }
constexpr u32 rip_offset() { return as_offset(offsetof(Cpu, rip)); }
constexpr u32 flags_offset() { return as_offset(offsetof(Cpu, arithmetic_flags)); }
constexpr u32 scratch_offset(unsigned n) { return as_offset(offsetof(Cpu, scratch) + n * 8); }
constexpr u32 poll_offset() { return as_offset(offsetof(Cpu, poll)); }
constexpr u32 rflags_offset() { return as_offset(offsetof(Cpu, rflags)); }
constexpr u32 self_offset() { return as_offset(offsetof(Cpu, self)); }
constexpr u32 host_rsp_offset() { return as_offset(offsetof(Cpu, host_rsp)); }
constexpr u32 mode_offset() { return as_offset(offsetof(Cpu, mode)); }
constexpr u32 events_offset() { return as_offset(offsetof(Cpu, events)); }
constexpr u32 pauses_left_offset() { return as_offset(offsetof(Cpu, pauses_left)); }
constexpr u32 tsc_aux_offset() { return as_offset(offsetof(Cpu, tsc_aux)); }
constexpr u32 tsc_offset_offset() { return as_offset(offsetof(Cpu, tsc_offset)); }
constexpr u32 clock_tsc_offset_offset() { return as_offset(offsetof(Cpu, clock_tsc_offset)); }
constexpr u32 cr4_offset() { return as_offset(offsetof(Cpu, cr4)); }
constexpr u32 pkru_offset() { return as_offset(offsetof(Cpu, key_rights) + user_pages * sizeof(KeyRights) + offsetof(KeyRights, value)); }
constexpr u32 pkru_watched_offset() { return as_offset(offsetof(Cpu, key_rights) + user_pages * sizeof(KeyRights) + offsetof(KeyRights, watched)); }
constexpr u32 kernel_gs_base_offset() { return as_offset(offsetof(Cpu, kernel_gs_base)); }
constexpr u32 segment_base_offset(x86::Segment s) { return as_offset(offsetof(Cpu, segments) + static_cast<u8>(s) * sizeof(x86::SegmentRegister) + offsetof(x86::SegmentRegister, base)); }
constexpr u32 segment_selector_offset(x86::Segment s) { return as_offset(offsetof(Cpu, segments) + static_cast<u8>(s) * sizeof(x86::SegmentRegister) + offsetof(x86::SegmentRegister, selector)); }
constexpr u32 segment_end_offset(x86::Segment s, Access access)
{
    return as_offset((access == Access::write ? offsetof(Cpu, segment_write_end) : offsetof(Cpu, segment_read_end)) + static_cast<u8>(s) * 8);
}
constexpr u32 tlb_offset(TlbIndex t) { return as_offset(offsetof(Cpu, tlb) + t * sizeof(TlbEntry) * tlb_entries); }
constexpr u32 tlb_read_tag_offset(TlbIndex t) { return as_offset(tlb_offset(t) + offsetof(TlbEntry, read_tag)); }
constexpr u32 tlb_write_tag_offset(TlbIndex t) { return as_offset(tlb_offset(t) + offsetof(TlbEntry, write_tag)); }
constexpr u32 tlb_addend_offset(TlbIndex t) { return as_offset(tlb_offset(t) + offsetof(TlbEntry, addend)); }
constexpr u32 tlb_run_offset(TlbIndex t) { return as_offset(tlb_offset(t) + offsetof(TlbEntry, run)); }
constexpr u32 code_tlb_offset(TlbIndex t) { return as_offset(offsetof(Cpu, code_tlb) + t * sizeof(u64) * code_tlb_entries); }
constexpr u32 large_offset(TlbIndex t) { return as_offset(offsetof(Cpu, large_tlb) + t * sizeof(TlbEntry) * large_tlb_entries); }
constexpr u32 large_tag_offset(TlbIndex t, Access access) { return as_offset(large_offset(t) + (access == Access::write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag))); }
constexpr u32 large_addend_offset(TlbIndex t) { return as_offset(large_offset(t) + offsetof(TlbEntry, addend)); }
constexpr u32 large_run_offset(TlbIndex t) { return as_offset(large_offset(t) + offsetof(TlbEntry, run)); }
constexpr u32 stack_page_offset(TlbIndex t) { return as_offset(offsetof(Cpu, stack_pages) + t * sizeof(StackPage) + offsetof(StackPage, page)); }
constexpr u32 stack_addend_offset(TlbIndex t) { return as_offset(offsetof(Cpu, stack_pages) + t * sizeof(StackPage) + offsetof(StackPage, addend)); }
constexpr u32 site_page_offset(u16 slot) { return as_offset(offsetof(Cpu, sites) + slot * sizeof(SiteSlot) + offsetof(SiteSlot, page)); }
constexpr u32 site_addend_offset(u16 slot) { return as_offset(offsetof(Cpu, sites) + slot * sizeof(SiteSlot) + offsetof(SiteSlot, addend)); }
constexpr u32 run_offset(u16 slot) { return as_offset(offsetof(Cpu, runs) + (slot - page_slots) * sizeof(RunSlot)); }
constexpr u32 run_first_offset(u16 slot) { return as_offset(run_offset(slot) + offsetof(RunSlot, first)); }
constexpr u32 run_addend_offset(u16 slot) { return as_offset(run_offset(slot) + offsetof(RunSlot, addend)); }
constexpr u32 run_end_offset(u16 slot, unsigned size_class) { return as_offset(run_offset(slot) + offsetof(RunSlot, end) + size_class * sizeof(u64)); }
constexpr u32 site_patience_offset(u16 slot) { return as_offset(offsetof(Cpu, site_patience) + slot * sizeof(u32)); }
constexpr u32 sites_used_offset(u16 slot) { return as_offset(offsetof(Cpu, sites_used) + slot / slots_per_mark); }
constexpr u32 jump_cache_rip_offset(TlbIndex t) { return as_offset(offsetof(Cpu, jump_cache) + t * sizeof(JumpCache) + offsetof(JumpCache, rip)); }
constexpr u32 jump_cache_entry_offset(TlbIndex t) { return as_offset(offsetof(Cpu, jump_cache) + t * sizeof(JumpCache) + offsetof(JumpCache, entry)); }

} // namespace anyhyve::soft

#pragma GCC diagnostic pop
