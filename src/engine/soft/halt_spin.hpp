// How long a halted virtual CPU looks around before it sleeps: longer while that would have saved it a wake-up through the host's
// scheduler, which takes 50 us and more; shorter when nothing comes for long.
#pragma once

#include <algorithm>

#include "base/integer.hpp"

namespace anyhyve::soft {

class HaltSpin {
public:
    static constexpr u64 least = 25'000, most = 200'000; // nanoseconds

    u64 nanoseconds() const { return m_nanoseconds; }

    // It was woken `waited` nanoseconds after its HLT.
    void waited(u64 waited)
    {
        if (waited <= m_nanoseconds)
            return;
        if (waited <= most)
            m_nanoseconds = std::clamp(m_nanoseconds * 2, least, most);
        else
            m_nanoseconds = m_nanoseconds / 2 < least ? 0 : m_nanoseconds / 2;
    }

private:
    u64 m_nanoseconds = 50'000;
};

} // namespace anyhyve::soft
