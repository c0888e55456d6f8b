// The bytes of one function's configuration space, and which bits of them the guest may change. Every access is taken apart into
// bytes, so one that spans several registers behaves as separate accesses to each.
// Threads: none of its own; PciFunction locks.
#pragma once

#include <vector>

#include "base/integer.hpp"

namespace anyhyve {

class ConfigSpace {
public:
    explicit ConfigSpace(u16 size);

    u16 size() const { return static_cast<u16>(m_bytes.size()); }

    // What the guest reads; bytes beyond the end are ones.
    u32 read(u16 offset, unsigned width) const;
    // What the guest writes: only writable bits change, clearable bits are cleared by ones.
    void write(u16 offset, unsigned width, u32 value);

    // The device's own view: no masks. Offsets are the device's, so they lie inside.
    u32 get(u16 offset, unsigned width) const;
    void set(u16 offset, unsigned width, u32 value);
    void set_writable(u16 offset, unsigned width, u32 mask);
    void set_clearable(u16 offset, unsigned width, u32 mask);

    std::vector<u8> const& bytes() const { return m_bytes; }
    // Takes saved bytes. False, and nothing changes, when the size, or a bit that the guest cannot change, is not as in `power_on`:
    // then they belong to another device.
    bool restore(std::vector<u8> const& bytes, ConfigSpace const& power_on);

private:
    std::vector<u8> m_bytes;
    std::vector<u8> m_writable;
    std::vector<u8> m_clearable;
};

} // namespace anyhyve
