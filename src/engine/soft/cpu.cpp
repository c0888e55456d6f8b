// What a software vCPU begins with.
#include "engine/soft/cpu.hpp"

#include <sys/random.h>

namespace anyhyve::soft {

u64 StackPage::choose_nowhere()
{
    u64 number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
        number = __builtin_ia32_rdtsc();
    constexpr u64 not_canonical = u64 { 0x5a } << 56;
    return not_canonical | (number & 0x00ff'ffff'ffff'f000);
}

Cpu::Cpu()
{
    sites_used.fill(1); // so that the first forget_sites() empties all slots
}

} // namespace anyhyve::soft
