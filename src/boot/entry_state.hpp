// The processor as a boot protocol wants it at the kernel's first instruction, with the descriptors and page tables it needs in RAM.
#pragma once

#include "base/result.hpp"
#include "vmm/cpu_state.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve::boot {

// 32-bit protected mode without paging, flat 4 GiB segments (code 0x10, data 0x18), a busy TSS in TR, interrupts off.
Result<CpuState> flat32_state(GuestMemory&, Gpa entry);

// 64-bit mode, the same selectors, the first 4 GiB mapped one to one by 2 MiB pages, interrupts off.
Result<CpuState> long64_state(GuestMemory&, Gpa entry);

} // namespace anyhyve::boot
