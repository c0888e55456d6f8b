// String operations on host memory by the host's own string instructions, which go element by element as the guest's do:
// overlapping operands come out as the manual says, and flags are exact. General registers only.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::soft::host_string {

enum class Direction : u8 { up, down };
enum class RepeatWhile : u8 { equal, not_equal };

// What a comparing instruction left: how many elements were not looked at, and the flags as LAHF (bits 8-15) and SETO (bit 0) give them.
struct Comparison {
    u64 left = 0;
    u64 flags = 0;
};

// Runs a repeated instruction, with DF set for Direction::down and clear again afterwards, as the ABI wants it.
#define HOST_STRING_REPEATED(instruction, direction, ...)                                                             \
    do {                                                                                                              \
        if ((direction) == Direction::up)                                                                             \
            asm volatile(instruction : __VA_ARGS__ : "memory", "cc");                                                 \
        else                                                                                                          \
            asm volatile("std\n\t" instruction "\n\tcld" : __VA_ARGS__ : "memory", "cc");                             \
    } while (false)

inline void move(unsigned width, u8* to, u8 const* from, u64 count, Direction direction)
{
    switch (width) {
    case 1: HOST_STRING_REPEATED("rep movsb", direction, "+D"(to), "+S"(from), "+c"(count) :); break;
    case 2: HOST_STRING_REPEATED("rep movsw", direction, "+D"(to), "+S"(from), "+c"(count) :); break;
    case 4: HOST_STRING_REPEATED("rep movsl", direction, "+D"(to), "+S"(from), "+c"(count) :); break;
    default: HOST_STRING_REPEATED("rep movsq", direction, "+D"(to), "+S"(from), "+c"(count) :); break;
    }
}

inline void store(unsigned width, u8* to, u64 value, u64 count, Direction direction)
{
    switch (width) {
    case 1: HOST_STRING_REPEATED("rep stosb", direction, "+D"(to), "+c"(count) : "a"(value)); break;
    case 2: HOST_STRING_REPEATED("rep stosw", direction, "+D"(to), "+c"(count) : "a"(value)); break;
    case 4: HOST_STRING_REPEATED("rep stosl", direction, "+D"(to), "+c"(count) : "a"(value)); break;
    default: HOST_STRING_REPEATED("rep stosq", direction, "+D"(to), "+c"(count) : "a"(value)); break;
    }
}

#define HOST_STRING_COMPARED(instruction)                                                                             \
    HOST_STRING_REPEATED(instruction "\n\tlahf\n\tseto %%al", direction, "+D"(second), "+S"(first), "+c"(result.left), "=a"(result.flags) :)
#define HOST_STRING_SCANNED(instruction)                                                                              \
    HOST_STRING_REPEATED(instruction "\n\tlahf\n\tseto %%al", direction, "+D"(at), "+c"(result.left), "+a"(result.flags) :)

// `count` is not 0 (else there would be no flags).
inline Comparison compare(unsigned width, u8 const* first, u8 const* second, u64 count, RepeatWhile condition, Direction direction)
{
    Comparison result { .left = count, .flags = 0 };
    bool const equal = condition == RepeatWhile::equal;
    switch (width) {
    case 1:
        if (equal)
            HOST_STRING_COMPARED("repe cmpsb");
        else
            HOST_STRING_COMPARED("repne cmpsb");
        break;
    case 2:
        if (equal)
            HOST_STRING_COMPARED("repe cmpsw");
        else
            HOST_STRING_COMPARED("repne cmpsw");
        break;
    case 4:
        if (equal)
            HOST_STRING_COMPARED("repe cmpsl");
        else
            HOST_STRING_COMPARED("repne cmpsl");
        break;
    default:
        if (equal)
            HOST_STRING_COMPARED("repe cmpsq");
        else
            HOST_STRING_COMPARED("repne cmpsq");
        break;
    }
    return result;
}

inline Comparison scan(unsigned width, u64 accumulator, u8 const* at, u64 count, RepeatWhile condition, Direction direction)
{
    Comparison result { .left = count, .flags = accumulator };
    bool const equal = condition == RepeatWhile::equal;
    switch (width) {
    case 1:
        if (equal)
            HOST_STRING_SCANNED("repe scasb");
        else
            HOST_STRING_SCANNED("repne scasb");
        break;
    case 2:
        if (equal)
            HOST_STRING_SCANNED("repe scasw");
        else
            HOST_STRING_SCANNED("repne scasw");
        break;
    case 4:
        if (equal)
            HOST_STRING_SCANNED("repe scasl");
        else
            HOST_STRING_SCANNED("repne scasl");
        break;
    default:
        if (equal)
            HOST_STRING_SCANNED("repe scasq");
        else
            HOST_STRING_SCANNED("repne scasq");
        break;
    }
    return result;
}

#undef HOST_STRING_SCANNED
#undef HOST_STRING_COMPARED
#undef HOST_STRING_REPEATED

// Short blocks, where starting a repeated instruction would cost more than the work.
constexpr u64 short_block = 64;

template<typename T>
T load(u8 const* from)
{
    T value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}
template<typename T>
void put(u8* to, T value)
{
    __builtin_memcpy(to, &value, sizeof value);
}

// 1 to short_block bytes that do not overlap.
inline void copy_short(u8* to, u8 const* from, u64 bytes)
{
    if (bytes >= 8) {
        u64 const last = bytes - 8;
        for (u64 at = 0; at < last; at += 8)
            put(to + at, load<u64>(from + at));
        put(to + last, load<u64>(from + last));
    } else if (bytes >= 4) {
        u32 const head = load<u32>(from), tail = load<u32>(from + bytes - 4);
        put(to, head);
        put(to + bytes - 4, tail);
    } else if (bytes >= 2) {
        u16 const head = load<u16>(from), tail = load<u16>(from + bytes - 2);
        put(to, head);
        put(to + bytes - 2, tail);
    } else
        *to = *from;
}

} // namespace anyhyve::soft::host_string
