// Machine time in a fuzz case: it goes in small steps that fire every timer, and jumps as on a host too busy to fire them.
#pragma once

#include "fuzz/input.hpp"
#include "timer/fake_clock.hpp"

namespace anyhyve::fuzz {

// Every record steps, an odd offset jumps before (up to 18 minutes).
inline void pass_time(FakeClock& clock, Record const& record)
{
    if (record.offset & 1)
        clock.stall(record.value & 0xff'ffff'ffff);
    clock.advance(record.offset & 0xfffe);
}

} // namespace anyhyve::fuzz
