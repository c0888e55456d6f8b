// Case memory: see memory_image.hpp.
#include "memory_image.hpp"

#include <cstring>

#include "random.hpp"

namespace anyhyve::random_test {

constexpr unsigned line_size = 64;

u64 corner_integer(Random& random)
{
    switch (random.below(8)) {
    case 0: return random.below(3) - 1;
    case 1: return random.below(256);
    case 2: return (u64 { 1 } << random.below(64)) - random.below(3) + 1;
    case 3: return ~((u64 { 1 } << random.below(64)) - random.below(3) + 1);
    case 4: return static_cast<u64>(static_cast<i64>(static_cast<i32>(random())));
    case 5: return random() & 0xffffffff;
    case 6: return random() >> random.below(64);
    default: return random();
    }
}

u32 corner_float(Random& random)
{
    constexpr u32 special[] = { 0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345, 1, 0x807fffff, 0x00800000,
        0x7f7fffff, 0x4b000000, 0x4effffff, 0x4f000000, 0xcf000000, 0x3f000000, 0x3fc00000 };
    if (random.one_in(3))
        return special[random.below(sizeof special / sizeof *special)];
    u32 const bits = static_cast<u32>(random());
    return random.one_in(4) ? bits : (bits & 0x807fffff) | (0x3f800000 + (static_cast<u32>(random.below(64)) - 32) * 0x800000);
}

u64 corner_double(Random& random)
{
    constexpr u64 special[] = { 0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000,
        0xfff8000000000000, 0x7ff0000000000001, 0xfff4000000000000, 1, 0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x41dfffffffc00000, 0x41e0000000000000,
        0x43e0000000000000, 0xc3e0000000000000, 0x36a0000000000000, 0x47efffffe0000000 };
    if (random.one_in(3))
        return special[random.below(sizeof special / sizeof *special)];
    u64 const bits = random();
    return random.one_in(4) ? bits : (bits & 0x800fffffffffffff) | (0x3ff0000000000000 + (random.below(128) - 64) * 0x10000000000000);
}

void MemoryImage::fill_data(u64 seed)
{
    Random random(seed);
    auto const put = [&](std::size_t at, u64 value) { std::memcpy(&m_bytes[at], &value, sizeof value); };
    std::size_t const first = layout::code_pages * layout::page;
    std::memset(&m_bytes[first], 0, m_bytes.size() - first);
    if (seed == 0)
        return;
    for (std::size_t at = first; at < m_bytes.size(); at += 8) {
        switch (random.below(8)) {
        case 0: put(at, corner_integer(random)); break;
        case 1: put(at, corner_double(random)); break;
        case 2: put(at, corner_float(random) | u64 { corner_float(random) } << 32); break;
        case 3: put(at, random.below(256)); break;
        case 4: put(at, layout::code + random.below(layout::code_size)); break;
        case 5: put(at, layout::data + random.below(layout::data_size)); break;
        default: put(at, random());
        }
    }
}

void MemoryImage::prepare(Case const& c)
{
    if (c.memory_seed != m_seed) {
        fill_data(c.memory_seed);
        m_seed = c.memory_seed;
    }
    std::memset(&m_bytes[m_code_offset], layout::filler, m_code_length);
    m_code_offset = c.code_offset;
    m_code_length = c.code_length;
    if (m_code_offset + m_code_length > layout::code_size)
        m_code_length = static_cast<unsigned>(layout::code_size) - m_code_offset;
    std::memcpy(&m_bytes[m_code_offset], c.code.data(), m_code_length);
}

u64 MemoryImage::value_at(u64 linear, unsigned size) const
{
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i) {
        for (unsigned n = 0; n < layout::page_count; ++n) {
            if (linear + i - layout::pages[n].linear < layout::page)
                value |= u64 { page(n)[linear + i - layout::pages[n].linear] } << (8 * i);
        }
    }
    return value;
}

void MemoryImage::Copy::load(MemoryImage const& image)
{
    for (unsigned n = 0; n < layout::page_count; ++n) {
        u8* const here = m_pages[n];
        u8 const* const wanted = image.page(n);
        if (std::memcmp(here, wanted, layout::page) == 0 || !is_writable(n))
            continue;
        for (unsigned at = 0; at < layout::page; at += line_size) {
            if (std::memcmp(here + at, wanted + at, line_size) == 0)
                continue;
            std::memcpy(here + at, wanted + at, line_size);
            line_changes(n, at);
        }
    }
}

u64 MemoryImage::Copy::hash(MemoryImage const& image) const
{
    u64 sum = 0;
    for (unsigned n = 0; n < layout::page_count; ++n) {
        u8 const* const here = m_pages[n];
        u8 const* const before = image.page(n);
        if (std::memcmp(here, before, layout::page) == 0)
            continue;
        for (unsigned at = 0; at < layout::page; at += line_size) {
            if (std::memcmp(here + at, before + at, line_size) == 0)
                continue;
            for (unsigned i = 0; i < line_size; i += 8) {
                u64 value = 0;
                std::memcpy(&value, here + at + i, sizeof value);
                sum = (sum ^ value ^ (u64 { n } << 56 | u64 { at } << 32)) * 0x9e3779b97f4a7c15;
                sum ^= sum >> 29;
            }
        }
    }
    return sum;
}

} // namespace anyhyve::random_test
