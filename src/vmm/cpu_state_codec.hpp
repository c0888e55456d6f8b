// The state of a vCPU as bytes of a snapshot chunk, and back with every value checked.
#pragma once

#include "base/result.hpp"
#include "vmm/cpu_state.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

// The version of the chunk "vcpuN" that encode_cpu_state() writes.
// 2 has PKRU and PKRS; 1, without, can still be read.
constexpr u32 cpu_state_version = 2;

void encode_cpu_state(CpuState const&, Encoder&);

// Refuses (EBADMSG) what no CPU can be in: reserved bits, modes that exclude each other, addresses that are not canonical, an XSAVE
// area with components that XCR0 does not have. An engine may set what this accepts without looking again.
// On error `state` is as it was.
Result<void> decode_cpu_state(Decoder&, u32 version, CpuState& state);
// The same checks on a state from anywhere else (a loader, the control socket).
Result<void> check_cpu_state(CpuState const&);

} // namespace anyhyve
