// The MP floating pointer and configuration table, by which older kernels find processors and interrupt wires.
// Spec: Intel MultiProcessor Specification 1.4 chapter 4.
#pragma once

#include <vector>

#include "boot/acpi_tables.hpp"

namespace anyhyve::boot {

struct MpConfiguration {
    u32 vcpus = 1;
    u32 cpu_signature = 0; // leaf 1 of CPUID: EAX
    u32 cpu_features = 0;  // and EDX
    std::vector<PciInterruptRoute> routes;
};

// The bytes for memory_map::mp_table. An error when that many processors do not fit: such a machine goes without (x86.mptable=false).
Result<std::vector<u8>> build_mp_table(MpConfiguration const&);

} // namespace anyhyve::boot
