// Copying and clearing bytes without the C library, whose versions use vector registers: the guest's are in them. Threads: any.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::soft {

inline void copy_bytes(void* to, void const* from, u64 count)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}
inline void zero_bytes(void* to, u64 count)
{
    asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
}

} // namespace anyhyve::soft
