// Ends of interrupt wires that remember what reached them, and helpers for saving and restoring a device.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class FakeSink final : public InterruptSink {
public:
    void set_level(unsigned pin, bool asserted) override
    {
        m_level[pin] += asserted ? 1 : -1;
        m_edges[pin] += asserted && m_level[pin] == 1;
    }
    bool level(unsigned pin) { return m_level[pin] > 0; }
    int edges(unsigned pin) { return m_edges[pin]; }
    int total_edges() const
    {
        int total = 0;
        for (auto const& [pin, count] : m_edges)
            total += count;
        return total;
    }

private:
    std::map<unsigned, int> m_level, m_edges;
};

class FakeMessages final : public MsiSink {
public:
    void send_msi(u64 address, u32 data) override { sent.emplace_back(address, data); }
    std::vector<std::pair<u64, u32>> sent;
};

inline std::vector<u8> saved(Persistent const& part)
{
    Encoder out;
    part.save(out);
    return out.bytes();
}

inline bool restore_into(Persistent& part, std::vector<u8> const& bytes)
{
    Decoder in(bytes);
    return part.restore(in, part.state_version()).ok() && in.at_end();
}

// Damaged states must be refused or tamed, never crash; a short one must be refused.
inline void expect_robust_restore(Persistent& part, std::vector<u8> const& good)
{
    for (std::size_t length = 0; length < good.size(); length += 1 + good.size() / 50) {
        Decoder in(std::span<u8 const>(good).first(length));
        EXPECT_FALSE(part.restore(in, part.state_version()).ok()) << "length " << length;
    }
    for (std::size_t i = 0; i < good.size(); ++i) {
        for (u8 const pattern : { u8 { 0xff }, u8 { 0x80 }, u8 { 0x01 } }) {
            auto bad = good;
            bad[i] ^= pattern;
            Decoder in(bad);
            (void)part.restore(in, part.state_version()).ok();
        }
    }
    Decoder in(good);
    EXPECT_FALSE(part.restore(in, part.state_version() + 1).ok());
    EXPECT_TRUE(restore_into(part, good));
    EXPECT_EQ(saved(part), good);
}

} // namespace anyhyve
