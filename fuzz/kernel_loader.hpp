// The frame of the targets that load kernels: memory, the attempt, and what holds of any outcome.
#pragma once

#include "base/assert.hpp"
#include "boot/kernel.hpp"

namespace anyhyve {

// What is asked for is loaded or refused with a reason, and nothing else happens. All attempts go into the same memory.
inline void try_to_load(boot::KernelRequest const& request)
{
    static auto const memory = GuestMemory::create_anonymous(32 * MiB).release_value();
    auto const loaded = boot::load_kernel(*memory, request);
    if (loaded.ok())
        ASSERT(memory->is_ram(Gpa(loaded.value().bsp.rip)), "a loaded kernel starts in RAM");
    else
        ASSERT(!loaded.error().message().empty(), "a refusal has a reason");
}

} // namespace anyhyve
