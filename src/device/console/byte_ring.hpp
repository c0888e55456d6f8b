// A bounded queue of bytes.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/integer.hpp"

namespace anyhyve {

class ByteRing {
public:
    explicit ByteRing(std::size_t capacity) : m_bytes(capacity) {}

    std::size_t size() const { return m_size; }
    std::size_t room() const { return m_bytes.size() - m_size; }
    std::size_t capacity() const { return m_bytes.size(); }

    // Appends as many as fit; returns how many.
    std::size_t push(std::span<u8 const> bytes)
    {
        std::size_t const count = std::min(bytes.size(), room());
        for (std::size_t i = 0; i < count; ++i)
            m_bytes[(m_first + m_size + i) % m_bytes.size()] = bytes[i];
        m_size += count;
        return count;
    }
    void drop(std::size_t count)
    {
        count = std::min(count, m_size);
        m_first = (m_first + count) % m_bytes.size();
        m_size -= count;
    }
    // The oldest bytes as far as they lie in one piece.
    std::span<u8 const> front() const { return { &m_bytes[m_first], std::min(m_size, m_bytes.size() - m_first) }; }

private:
    std::vector<u8> m_bytes;
    std::size_t m_first = 0;
    std::size_t m_size = 0;
};

} // namespace anyhyve
