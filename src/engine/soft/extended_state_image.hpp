// Moves parts of x87/SSE/AVX images between guest memory and cpu.bounce.
#pragma once

#include "engine/soft/byte_copy.hpp"
#include "engine/soft/cpu.hpp"
#include "engine/soft/host_vector_unit.hpp"

namespace anyhyve::soft {

// Which vector registers an instruction reaches: only 64-bit mode has numbers 8 and up.
enum class RegisterFile : u8 { eight, all };

// The parts of an image that an instruction touches. The bounce buffer is always in the standard format.
class ImageParts {
public:
    struct Part {
        u32 guest, bounce, size; // offsets
    };

    // Does not merge with what does not follow directly.
    void add(u32 guest, u32 bounce, u32 size);
    void add_same(u32 offset, u32 size) { add(offset, offset, size); }
    // The data of `components`; in a compacted image that holds `compacted` (0: standard format).
    void add_components(u64 components, u64 compacted, RegisterFile);

    // All or nothing: every page is probed before the first byte is written.
    Outcome write(Cpu&, u64 linear) const;
    Outcome read(Cpu&, u64 linear) const;
    // From an image that lies in host memory as a whole.
    void read_host(Cpu&, u8 const* image) const;

private:
    std::array<Part, 12> m_parts {};
    unsigned m_count = 0;
};

// Bytes of component `n` that `file` reaches.
u32 component_size(unsigned n, RegisterFile);

// The same for short blocks of whole words, where a repeated instruction takes longer to start than to run.
inline void copy_words(u8* to, u8 const* from, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += 8)
        __builtin_memcpy(to + i, from + i, 8);
}
inline void zero_words(u8* to, unsigned bytes)
{
    u64 const zero = 0;
    for (unsigned i = 0; i < bytes; i += 8)
        __builtin_memcpy(to + i, &zero, 8);
}
template<typename T>
T get_field(u8 const* image, unsigned offset)
{
    T value;
    __builtin_memcpy(&value, image + offset, sizeof value);
    return value;
}
template<typename T>
void put_field(u8* image, unsigned offset, T value)
{
    __builtin_memcpy(image + offset, &value, sizeof value);
}

} // namespace anyhyve::soft
