// Host memory with pages around it that nobody may touch, for operands of masked vector instructions of which a part is not there in the guest.
// What is there is copied to the readable page, the rest lies on a page that faults, and the instruction runs: whether its mask leaves the
// missing part out (SDM vol. 2A 2.7.8, fault suppression) only the host needs to know. A fault of the host's is then the guest's.
#pragma once

#include <cstddef>

#include "base/integer.hpp"

namespace anyhyve::soft {

class GuardArea {
public:
    GuardArea() = default;
    ~GuardArea();
    GuardArea(GuardArea const&) = delete;
    GuardArea& operator=(GuardArea const&) = delete;

    // Where an operand goes that starts at `offset` of its page. `first`, `second`: are the parts in its two pages there? nullptr: no memory.
    u8* place(u64 offset, bool first, bool second);
    bool contains(u64 address) const { return m_base && address - number() < size; }

private:
    static constexpr std::size_t page = 0x1000, size = 4 * page; // forbidden, readable and writable, forbidden twice

    u64 number() const;
    bool map();

    u8* m_base = nullptr;
};

} // namespace anyhyve::soft
