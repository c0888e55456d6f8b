// 256 flags, one per interrupt vector: IRR, ISR and TMR of a local APIC.
#pragma once

#include <array>
#include <bit>

#include "base/bits.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class VectorSet {
public:
    void set(u8 vector) { m_words[vector / 32] |= u32 { 1 } << (vector % 32); }
    void clear(u8 vector) { m_words[vector / 32] &= ~(u32 { 1 } << (vector % 32)); }
    bool test(u8 vector) const { return m_words[vector / 32] >> (vector % 32) & 1; }
    // The vector of highest priority, or -1.
    int highest() const
    {
        for (int word = 7; word >= 0; --word) {
            u32 const value = m_words[static_cast<unsigned>(word)];
            if (value != 0)
                return word * 32 + 31 - std::countl_zero(value);
        }
        return -1;
    }
    // The 32-bit register `index`, 0..7, as the guest reads it.
    u32 word(unsigned index) const { return m_words[index]; }

    void save(Encoder& out) const
    {
        for (u32 const word : m_words)
            out.put_u32(word);
    }
    void restore(Decoder& in)
    {
        for (u32& word : m_words)
            word = in.get_u32();
        m_words[0] &= 0xffff0000; // vectors 0..15 are never accepted (SDM vol. 3A 10.5.2)
    }

private:
    std::array<u32, 8> m_words {};
};

} // namespace anyhyve
