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

// A value of a power-of-two size in one access, so that another vCPU never sees half of it.
inline void copy_out(u8* host, void const* from, unsigned size)
{
    switch (size) {
    case 1: __builtin_memcpy(host, from, 1); return;
    case 2: __builtin_memcpy(host, from, 2); return;
    case 4: __builtin_memcpy(host, from, 4); return;
    case 8: __builtin_memcpy(host, from, 8); return;
    default: copy_bytes(host, from, size);
    }
}
inline void copy_in(void* to, u8 const* host, unsigned size)
{
    switch (size) {
    case 1: __builtin_memcpy(to, host, 1); return;
    case 2: __builtin_memcpy(to, host, 2); return;
    case 4: __builtin_memcpy(to, host, 4); return;
    case 8: __builtin_memcpy(to, host, 8); return;
    default: copy_bytes(to, host, size);
    }
}

} // namespace anyhyve::soft
