// CRC-32, eight bytes a step.
#include "base/crc32.hpp"

#include <array>
#include <cstring>

namespace anyhyve {

// Table 0 is the CRC of each byte; table k the same byte followed by k zero bytes.
static constexpr std::array<std::array<u32, 256>, 8> make_tables()
{
    std::array<std::array<u32, 256>, 8> tables {};
    for (u32 byte = 0; byte < 256; ++byte) {
        u32 crc = byte;
        for (int i = 0; i < 8; ++i)
            crc = (crc >> 1) ^ ((crc & 1) ? 0xedb88320u : 0u);
        tables[0][byte] = crc;
    }
    for (std::size_t k = 1; k < 8; ++k)
        for (u32 byte = 0; byte < 256; ++byte)
            tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 0xff];
    return tables;
}

static constexpr auto s_tables = make_tables();

u32 crc32(std::span<u8 const> bytes, u32 previous)
{
    u32 crc = ~previous;
    std::size_t i = 0;
    for (; bytes.size() - i >= 8; i += 8) {
        u64 eight;
        std::memcpy(&eight, bytes.data() + i, 8);
        eight ^= crc;
        crc = 0;
        for (unsigned k = 0; k < 8; ++k)
            crc ^= s_tables[7 - k][(eight >> (8 * k)) & 0xff];
    }
    for (; i < bytes.size(); ++i)
        crc = (crc >> 8) ^ s_tables[0][(crc ^ bytes[i]) & 0xff];
    return ~crc;
}

} // namespace anyhyve
