// MD5 and UUIDs.
#include "boot/uuid.hpp"

#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/core.h>
#include <unistd.h>

namespace anyhyve::boot {

namespace {

constexpr std::size_t block_size = 64;
using State = std::array<u32, 4>;

// RFC 1321 3.4: the integer part of 2^32 times abs(sin(i + 1)).
std::array<u32, 64> const& sine_table()
{
    static std::array<u32, 64> const table = [] {
        std::array<u32, 64> values {};
        for (unsigned i = 0; i < values.size(); ++i)
            values[i] = static_cast<u32>(std::floor(std::fabs(std::sin(i + 1.0)) * 4294967296.0));
        return values;
    }();
    return table;
}

void add_block(State& state, u8 const* block)
{
    static constexpr u8 rotations[4][4] = { { 7, 12, 17, 22 }, { 5, 9, 14, 20 }, { 4, 11, 16, 23 }, { 6, 10, 15, 21 } };
    std::array<u32, 16> words;
    std::memcpy(words.data(), block, block_size);
    auto [a, b, c, d] = state;
    for (unsigned i = 0; i < 64; ++i) {
        u32 mixed = 0;
        unsigned word = 0;
        switch (i / 16) {
        case 0: mixed = (b & c) | (~b & d); word = i; break;
        case 1: mixed = (d & b) | (~d & c); word = (5 * i + 1) % 16; break;
        case 2: mixed = b ^ c ^ d; word = (3 * i + 5) % 16; break;
        default: mixed = c ^ (b | ~d); word = (7 * i) % 16; break;
        }
        u32 const next = b + std::rotl(a + mixed + sine_table()[i] + words[word], rotations[i / 16][i % 4]);
        a = d;
        d = c;
        c = b;
        b = next;
    }
    state = { state[0] + a, state[1] + b, state[2] + c, state[3] + d };
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char const lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

constexpr std::string_view uuid_form = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

} // namespace

Md5Digest md5(std::string_view text)
{
    std::string padded(text);
    padded.push_back('\x80');
    while (padded.size() % block_size != block_size - sizeof(u64))
        padded.push_back('\0');
    u64 const bits = u64 { text.size() } * 8;
    for (unsigned i = 0; i < sizeof bits; ++i)
        padded.push_back(static_cast<char>(bits >> (8 * i)));

    State state { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 };
    std::array<u8, block_size> block;
    for (std::size_t i = 0; i < padded.size(); i += block_size) {
        std::memcpy(block.data(), padded.data() + i, block_size);
        add_block(state, block.data());
    }
    Md5Digest digest;
    std::memcpy(digest.data(), state.data(), digest.size());
    return digest;
}

Result<Uuid> Uuid::parse(std::string_view text)
{
    Uuid uuid;
    bool good = text.size() == uuid_form.size();
    unsigned nibble = 0;
    for (std::size_t i = 0; good && i < text.size(); ++i) {
        if (uuid_form[i] == '-') {
            good = text[i] == '-';
            continue;
        }
        int const digit = hex_digit(text[i]);
        good = digit >= 0;
        if (!good)
            break;
        uuid.bytes[nibble / 2] = static_cast<u8>(uuid.bytes[nibble / 2] << 4 | digit);
        ++nibble;
    }
    if (!good)
        return make_error(EINVAL, "\"{}\" is no UUID: it should look like {}", text, uuid_form);
    return uuid;
}

Uuid Uuid::from_names(std::string_view machine_name, std::string_view host_name)
{
    Uuid uuid { md5(std::string(machine_name) + std::string(host_name)) };
    // RFC 4122 4.3: version 3 (MD5 of a name), and the variant of that RFC.
    uuid.bytes[6] = static_cast<u8>((uuid.bytes[6] & 0x0f) | 0x30);
    uuid.bytes[8] = static_cast<u8>((uuid.bytes[8] & 0x3f) | 0x80);
    return uuid;
}

std::string Uuid::text() const
{
    std::string result;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            result.push_back('-');
        result += fmt::format("{:02x}", bytes[i]);
    }
    return result;
}

Uuid uuid_from_name(std::string_view machine_name)
{
    std::array<char, 256> host {};
    if (::gethostname(host.data(), host.size() - 1) != 0)
        host[0] = '\0';
    return Uuid::from_names(machine_name, host.data());
}

} // namespace anyhyve::boot
