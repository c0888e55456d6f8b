// What generated code counts while a profile is made.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::soft {

enum class Counter : u8 {
    // ends of blocks: each is counted once when it is reached
    jump,            // JMP to a known target
    conditional,     // Jcc
    not_taken,       // ... of those, fell through
    loop,            // LOOP, JrCXZ
    call,            // CALL to a known target
    indirect_jump,
    indirect_call,
    near_return,
    operation,       // an instruction with code of ours that leaves its block
    fall_through,    // the block was full, or at the end of its page
    // besides
    page_crossing,   // a link to another page: its guard was checked
    poll,            // a block began with an event in its way
    look_up,         // probes of the look-aside tables
    stack_look_up,   // probes of the stack's page
    site_look_up,    // hot code: comparisons with the page that an access, or a group of them, found last
    site_miss,       // ... that it was not
    count
};
constexpr unsigned counter_count = static_cast<unsigned>(Counter::count);

} // namespace anyhyve::soft
