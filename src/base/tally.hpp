// A number for statistics: one thread at a time counts, any thread may read.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

class Tally {
public:
    Tally() = default;
    Tally(Tally const& other) : m_value(other) {}
    Tally& operator=(Tally const& other) { return *this = static_cast<u64>(other); }
    Tally& operator=(u64 value)
    {
        __atomic_store_n(&m_value, value, __ATOMIC_RELAXED);
        return *this;
    }
    Tally& operator+=(u64 more) { return *this = m_value + more; }
    Tally& operator++() { return *this += 1; }
    operator u64() const { return __atomic_load_n(&m_value, __ATOMIC_RELAXED); }

private:
    u64 m_value = 0;
};

} // namespace anyhyve
