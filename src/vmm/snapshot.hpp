// The one format of stopped machines and snapshots: magic, version, then a chunk {name, version, length, CRC-32} per part.
// Numbers are little-endian. A chunk that nobody knows is refused by name; a damaged one too.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve {

// Appends values to a chunk.
class Encoder {
public:
    void put(u64 value, unsigned width);
    void put_u8(u8 value) { put(value, 1); }
    void put_u16(u16 value) { put(value, 2); }
    void put_u32(u32 value) { put(value, 4); }
    void put_u64(u64 value) { put(value, 8); }
    void put_bool(bool value) { put(value, 1); }
    void put_bytes(std::span<u8 const>);   // length, then bytes
    void put_string(std::string_view);
    std::vector<u8> const& bytes() const { return m_bytes; }

private:
    std::vector<u8> m_bytes;
};

// Reads them back. After the first read beyond the end, ok() is false and all values are 0.
class Decoder {
public:
    explicit Decoder(std::span<u8 const> bytes) : m_bytes(bytes) {}
    u64 get(unsigned width);
    u8 get_u8() { return static_cast<u8>(get(1)); }
    u16 get_u16() { return static_cast<u16>(get(2)); }
    u32 get_u32() { return static_cast<u32>(get(4)); }
    u64 get_u64() { return get(8); }
    bool get_bool() { return get(1) != 0; }
    // Fills exactly `out`; a stored length that differs makes ok() false.
    void get_bytes(std::span<u8> out);
    std::vector<u8> get_vector(u64 most); // ok() false when longer than `most`
    std::string get_string(u64 most);
    bool ok() const { return m_ok; }
    bool at_end() const { return m_position == m_bytes.size(); }

private:
    std::span<u8 const> m_bytes;
    std::size_t m_position = 0;
    bool m_ok = true;
};

// A part of the machine whose state is kept. save() and restore() are called with the machine paused.
class Persistent {
public:
    virtual ~Persistent() = default;
    virtual std::string_view state_name() const = 0; // unique in the machine: "ioapic", "virtio-blk@0:4:0", "vcpu0"
    virtual u32 state_version() const = 0;
    virtual void save(Encoder&) const = 0;
    // Validates every value: the file may be damaged or hostile. On error the part is as after reset.
    virtual Result<void> restore(Decoder&, u32 version) = 0;
    // To the state after power-on.
    virtual void reset() = 0;
};

struct Chunk {
    std::string name;
    u32 version;
    std::vector<u8> bytes;
};

std::vector<u8> encode_chunks(std::vector<Chunk> const&);
// `object` names the file in messages.
Result<std::vector<Chunk>> decode_chunks(std::span<u8 const>, std::string const& object);

std::vector<u8> save_all(std::vector<Persistent*> const&);
// Every chunk must belong to a part and every part must have its chunk.
Result<void> restore_all(std::span<u8 const>, std::vector<Persistent*> const&, std::string const& object);

} // namespace anyhyve
