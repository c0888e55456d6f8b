// The one register, which only writes mean anything to.
#include "device/legacy/debug_exit.hpp"

#include "base/bits.hpp"

namespace anyhyve {

u64 DebugExit::read(u64, unsigned)
{
    return 0;
}

void DebugExit::write(u64, unsigned width, u64 value)
{
    // A process has eight bits of exit status. The lowest is set: 0 would say that the guest rebooted.
    m_end_machine(static_cast<int>(((value & mask_of_bytes(width)) << 1 | 1) & 0xff));
}

} // namespace anyhyve
