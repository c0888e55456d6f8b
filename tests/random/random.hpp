// Random numbers, and values that instructions treat specially.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::random_test {

// SplitMix64: any seed is good, and a case's parts have seeds of their own.
class Random {
public:
    explicit Random(u64 seed) : m_state(seed) {}
    u64 operator()()
    {
        u64 z = m_state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    u64 below(u64 limit) { return (*this)() % limit; }
    bool one_in(unsigned n) { return below(n) == 0; }
    bool percent(unsigned n) { return below(100) < n; }

private:
    u64 m_state;
};

// Integers at which carries, signs and counts turn.
u64 corner_integer(Random&);
// Bits of floating-point numbers: zeros, denormals, infinities, NaNs, ordinary ones.
u32 corner_float(Random&);
u64 corner_double(Random&);

} // namespace anyhyve::random_test
