// Writing and reading the chunks of stopped machines and snapshots.
//
// File: magic (8 bytes), format version (4), number of chunks (4), then the chunks.
// Chunk: name (4 bytes of length, then the bytes), version (4), length (8), CRC-32 (4) of all before it in the chunk and of the
// bytes, then the bytes.
#include "vmm/snapshot.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.hpp"
#include "base/crc32.hpp"

namespace anyhyve {

static constexpr std::array<u8, 8> s_magic { 'a', 'n', 'y', 'h', 'y', 'v', 'e', 0x1a };
static constexpr u32 s_format_version = 1;
static constexpr u64 s_longest_name = 255;
static constexpr u32 s_most_chunks = 65536;

void Encoder::put(u64 value, unsigned width)
{
    ASSERT(width <= 8, "a number in a snapshot has at most 8 bytes");
    for (unsigned i = 0; i < width; ++i)
        m_bytes.push_back(static_cast<u8>(value >> (8 * i)));
}

void Encoder::put_bytes(std::span<u8 const> bytes)
{
    put_u64(bytes.size());
    m_bytes.insert(m_bytes.end(), bytes.begin(), bytes.end());
}

void Encoder::put_string(std::string_view text)
{
    put_u32(static_cast<u32>(text.size()));
    m_bytes.insert(m_bytes.end(), text.begin(), text.end());
}

u64 Decoder::get(unsigned width)
{
    if (!m_ok || width > 8 || m_bytes.size() - m_position < width) {
        m_ok = false;
        return 0;
    }
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i)
        value |= u64 { m_bytes[m_position++] } << (8 * i);
    return value;
}

void Decoder::get_bytes(std::span<u8> out)
{
    u64 const length = get_u64();
    if (!m_ok || length != out.size() || length > m_bytes.size() - m_position) {
        m_ok = false;
        std::fill(out.begin(), out.end(), u8 { 0 });
        return;
    }
    std::copy_n(m_bytes.data() + m_position, length, out.data());
    m_position += length;
}

std::vector<u8> Decoder::get_vector(u64 most)
{
    u64 const length = get_u64();
    if (!m_ok || length > most || length > m_bytes.size() - m_position) {
        m_ok = false;
        return {};
    }
    auto const* start = m_bytes.data() + m_position;
    m_position += length;
    return { start, start + length };
}

std::string Decoder::get_string(u64 most)
{
    u64 const length = get_u32();
    if (!m_ok || length > most || length > m_bytes.size() - m_position) {
        m_ok = false;
        return {};
    }
    std::string text(length, '\0');
    std::copy_n(m_bytes.data() + m_position, length, text.data());
    m_position += length;
    return text;
}

namespace {

void append(std::vector<u8>& to, std::vector<u8> const& bytes)
{
    to.insert(to.end(), bytes.begin(), bytes.end());
}

Encoder chunk_head(std::string_view name, u32 version, u64 length)
{
    Encoder head;
    head.put_string(name);
    head.put_u32(version);
    head.put_u64(length);
    return head;
}

// Reads the next `length` bytes of a Decoder without a stored length of their own: it only knows typed values, so the whole file is
// kept beside it.
class ChunkReader {
public:
    explicit ChunkReader(std::span<u8 const> bytes) : m_bytes(bytes) {}

    bool skip_magic()
    {
        if (m_bytes.size() < s_magic.size() || !std::equal(s_magic.begin(), s_magic.end(), m_bytes.begin()))
            return false;
        m_bytes = m_bytes.subspan(s_magic.size());
        return true;
    }
    // All ones when the file ends before.
    u64 number(unsigned width)
    {
        if (m_bytes.size() < width) {
            m_bytes = {};
            return ~u64 { 0 };
        }
        u64 const value = Decoder(m_bytes.first(width)).get(width);
        m_bytes = m_bytes.subspan(width);
        return value;
    }
    bool has(u64 length) const { return length <= m_bytes.size(); }
    std::span<u8 const> take(u64 length)
    {
        auto const taken = m_bytes.first(length);
        m_bytes = m_bytes.subspan(length);
        return taken;
    }
    bool at_end() const { return m_bytes.empty(); }

private:
    std::span<u8 const> m_bytes;
};

Result<Chunk> decode_chunk(ChunkReader& reader, u32 index, std::string const& object)
{
    auto const cut = [&] { return make_error(EBADMSG, "{}: damaged: it ends inside chunk {}", object, index); };
    u64 const name_length = reader.number(4);
    if (name_length > s_longest_name || !reader.has(name_length))
        return cut();
    auto const name_bytes = reader.take(name_length);
    Chunk chunk { std::string(name_bytes.begin(), name_bytes.end()), 0, {} };
    u64 const version = reader.number(4);
    u64 const length = reader.number(8);
    u64 const crc = reader.number(4);
    if (version > 0xffffffff || crc > 0xffffffff || !reader.has(length))
        return cut();
    chunk.version = static_cast<u32>(version);
    auto const bytes = reader.take(length);
    if (crc32(bytes, crc32(chunk_head(chunk.name, chunk.version, length).bytes())) != crc)
        return make_error(EBADMSG, "{}: the state of '{}' is damaged (its CRC does not match)", object, chunk.name);
    chunk.bytes.assign(bytes.begin(), bytes.end());
    return chunk;
}

} // namespace

std::vector<u8> encode_chunks(std::vector<Chunk> const& chunks)
{
    Encoder head;
    head.put_u32(s_format_version);
    head.put_u32(static_cast<u32>(chunks.size()));
    std::vector<u8> file(s_magic.begin(), s_magic.end());
    append(file, head.bytes());
    for (auto const& chunk : chunks) {
        ASSERT(chunk.name.size() <= s_longest_name, "the name of a chunk is too long");
        Encoder prefix = chunk_head(chunk.name, chunk.version, chunk.bytes.size());
        prefix.put_u32(crc32(chunk.bytes, crc32(prefix.bytes())));
        append(file, prefix.bytes());
        append(file, chunk.bytes);
    }
    return file;
}

Result<std::vector<Chunk>> decode_chunks(std::span<u8 const> bytes, std::string const& object)
{
    ChunkReader reader(bytes);
    if (!reader.skip_magic())
        return make_error(EBADMSG, "{}: not the state of a virtual machine (its first bytes are not 'anyhyve')", object);
    u64 const format = reader.number(4);
    if (format != s_format_version)
        return make_error(EBADMSG, "{}: written in format {}, but this program reads format {}", object, format, s_format_version);
    u64 const count = reader.number(4);
    if (count > s_most_chunks)
        return make_error(EBADMSG, "{}: damaged: {} chunks are more than any machine has", object, count);
    std::vector<Chunk> chunks;
    for (u32 i = 0; i < count; ++i) {
        Chunk chunk = TRY(decode_chunk(reader, i, object));
        for (auto const& other : chunks)
            if (other.name == chunk.name)
                return make_error(EBADMSG, "{}: damaged: it has two states of '{}'", object, chunk.name);
        chunks.push_back(std::move(chunk));
    }
    if (!reader.at_end())
        return make_error(EBADMSG, "{}: damaged: something follows its last chunk", object);
    return chunks;
}

std::vector<u8> save_all(std::vector<Persistent*> const& parts)
{
    std::vector<Chunk> chunks;
    for (auto const* part : parts) {
        Encoder encoder;
        part->save(encoder);
        chunks.push_back({ std::string(part->state_name()), part->state_version(), encoder.bytes() });
    }
    return encode_chunks(chunks);
}

static Result<void> restore_part(Persistent& part, Chunk const& chunk, std::string const& object)
{
    if (chunk.version > part.state_version())
        return make_error(EBADMSG, "{}: the state of '{}' has version {}, but this program knows only those up to {}", object, chunk.name,
            chunk.version, part.state_version());
    Decoder decoder(chunk.bytes);
    auto const restored = part.restore(decoder, chunk.version);
    if (!restored.ok())
        return make_error(EBADMSG, "{}: the state of '{}' cannot be used: {}", object, chunk.name, restored.error().message());
    if (!decoder.ok() || !decoder.at_end())
        return make_error(EBADMSG, "{}: the state of '{}' is {} than it should be", object, chunk.name, decoder.ok() ? "longer" : "shorter");
    return {};
}

Result<void> restore_all(std::span<u8 const> bytes, std::vector<Persistent*> const& parts, std::string const& object)
{
    std::vector<Chunk> const chunks = TRY(decode_chunks(bytes, object));
    auto const chunk_of = [&](Persistent const* part) {
        return std::find_if(chunks.begin(), chunks.end(), [&](Chunk const& chunk) { return chunk.name == part->state_name(); });
    };
    // Both directions are checked before any part changes.
    for (auto const& chunk : chunks)
        if (std::none_of(parts.begin(), parts.end(), [&](Persistent const* part) { return part->state_name() == chunk.name; }))
            return make_error(ENODEV, "{}: it holds the state of '{}', which this machine does not have", object, chunk.name);
    for (auto const* part : parts)
        if (chunk_of(part) == chunks.end())
            return make_error(ENODEV, "{}: it holds no state of '{}', which this machine has", object, part->state_name());
    for (auto* part : parts) {
        auto const restored = restore_part(*part, *chunk_of(part), object);
        if (!restored.ok()) {
            for (auto* every : parts)
                every->reset(); // half of an old machine is worse than a new one
            return restored.error();
        }
    }
    return {};
}

} // namespace anyhyve
