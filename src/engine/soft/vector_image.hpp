// Vector and mask registers in the image that a VectorStateGuard has made of them.
#pragma once

#include "base/bits.hpp"
#include "engine/soft/extended_state_image.hpp"

namespace anyhyve::soft {

constexpr unsigned vector_bytes = 64; // of a whole ZMM register
using VectorValue = std::array<u8, vector_bytes>;

// Where a register's pieces of 16, 16 and 32 bytes lie, or its 64 for numbers 16 and up (SDM vol. 1 13.4, 13.5.6).
class VectorImage {
public:
    explicit VectorImage(Cpu& cpu) : m_image(cpu.xsave.data()) {}

    // Parts the host lacks read as 0.
    void read(unsigned number, VectorValue& value) const
    {
        if (number >= 16) {
            read_part(7, (number - 16) * 64, value.data(), 64);
            return;
        }
        read_part(1, number * 16, value.data(), 16);
        read_part(2, number * 16, value.data() + 16, 16);
        read_part(6, number * 32, value.data() + 32, 32);
    }
    void write(unsigned number, VectorValue const& value)
    {
        if (number >= 16) {
            write_part(7, (number - 16) * 64, value.data(), 64);
            return;
        }
        write_part(1, number * 16, value.data(), 16);
        write_part(2, number * 16, value.data() + 16, 16);
        write_part(6, number * 32, value.data() + 32, 32);
    }
    u64 read_mask(unsigned number) const
    {
        u64 value = 0;
        read_part(5, number * 8, reinterpret_cast<u8*>(&value), 8); // SAFETY: bytes of an integer
        return value;
    }
    void write_mask(unsigned number, u64 value)
    {
        write_part(5, number * 8, reinterpret_cast<u8 const*>(&value), 8); // SAFETY: bytes of an integer
    }

private:
    u64 present() const { return get_field<u64>(m_image, xsave_image::xstate_bv); }

    // A component that is in its initial state is all zeros, whatever the image holds.
    void read_part(unsigned component, u32 offset, u8* to, u32 size) const
    {
        if (present() & bit(component))
            copy_bytes(to, m_image + host_vector_unit().components[component].offset + offset, size);
        else
            zero_bytes(to, size);
    }
    void write_part(unsigned component, u32 offset, u8 const* from, u32 size)
    {
        auto const& unit = host_vector_unit();
        if (!(unit.mask & bit(component)))
            return;
        u8* const data = m_image + unit.components[component].offset;
        if (!(present() & bit(component))) {
            zero_bytes(data, unit.components[component].size);
            put_field<u64>(m_image, xsave_image::xstate_bv, present() | bit(component));
        }
        copy_bytes(data + offset, from, size);
    }

    u8* m_image;
};

} // namespace anyhyve::soft
