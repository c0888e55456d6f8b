// Layout of extended state images, and the way of their parts to guest memory and back.
#include "engine/soft/extended_state_image.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

namespace {

constexpr u64 page_size = 0x1000;
constexpr unsigned slow_piece = 64;

// Between guest memory at `linear` and `bytes`, page by page.
Outcome transfer(Cpu& cpu, u64 linear, u8* bytes, u32 size, Access access)
{
    Mmu& mmu = *cpu.mmu;
    while (size != 0) {
        linear = wrap_linear(cpu, linear);
        u32 piece = static_cast<u32>(std::min<u64>(size, page_size - (linear & (page_size - 1))));
        u8* host = nullptr;
        STEP(mmu.host_pointer(linear, piece, access, host));
        if (host != nullptr) {
            if (access == Access::write)
                copy_bytes(host, bytes, piece);
            else
                copy_bytes(bytes, host, piece);
        } else {
            piece = std::min<u32>(piece, slow_piece);
            STEP(access == Access::write ? mmu.write(linear, bytes, piece) : mmu.read(linear, bytes, piece));
        }
        linear += piece;
        bytes += piece;
        size -= piece;
    }
    return Outcome::next;
}

} // namespace

u32 HostVectorUnit::standard_size(u64 components_present) const
{
    u32 size = xsave_image::extended;
    for (unsigned n = 2; n < xcr0::component_count; ++n) {
        if ((components_present & bit(n)) && components[n].offset + components[n].size > size)
            size = components[n].offset + components[n].size;
    }
    return size;
}

u32 HostVectorUnit::compacted_offset(u64 components_present, unsigned wanted) const
{
    u32 offset = xsave_image::extended;
    for (unsigned n = 2; n < wanted; ++n) {
        if (!(components_present & bit(n)))
            continue;
        if (components[n].aligned)
            offset = static_cast<u32>(align_up(offset, 64));
        offset += components[n].size;
    }
    if (wanted < xcr0::component_count && components[wanted].aligned)
        offset = static_cast<u32>(align_up(offset, 64));
    return offset;
}

u32 HostVectorUnit::compacted_size(u64 components_present) const
{
    return compacted_offset(components_present, xcr0::component_count);
}

u32 component_size(unsigned n, RegisterFile file)
{
    u32 const size = host_vector_unit().components[n].size;
    if (file == RegisterFile::all)
        return size;
    switch (bit(n)) {
    case xcr0::sse:
    case xcr0::avx:
    case xcr0::zmm_high256: return size / 2;
    case xcr0::high16_zmm: return 0;
    default: return size;
    }
}

void ImageParts::add(u32 guest, u32 bounce, u32 size)
{
    if (size == 0)
        return;
    if (m_count != 0) {
        auto& last = m_parts[m_count - 1];
        if (last.guest + last.size == guest && last.bounce + last.size == bounce) {
            last.size += size;
            return;
        }
    }
    ASSERT(m_count < m_parts.size(), "an extended state image has more parts than expected");
    m_parts[m_count++] = { guest, bounce, size };
}

void ImageParts::add_components(u64 components, u64 compacted, RegisterFile file)
{
    using namespace xsave_image;
    auto const& unit = host_vector_unit();
    if (components & xcr0::x87) {
        add_same(control_word, mxcsr);
        if (components & xcr0::sse)
            add_same(mxcsr, x87_registers - mxcsr);
        add_same(x87_registers, xmm - x87_registers);
    } else if (components & xcr0::sse)
        add_same(mxcsr, x87_registers - mxcsr);
    if (components & xcr0::sse)
        add_same(xmm, component_size(1, file));
    for (unsigned n = 2; n < xcr0::component_count; ++n) {
        if (components & bit(n))
            add(compacted != 0 ? unit.compacted_offset(compacted, n) : unit.components[n].offset, unit.components[n].offset, component_size(n, file));
    }
}

Outcome ImageParts::write(Cpu& cpu, u64 linear) const
{
    for (unsigned i = 0; i < m_count; ++i)
        STEP(cpu.mmu->probe(wrap_linear(cpu, linear + m_parts[i].guest), m_parts[i].size, Access::write));
    for (unsigned i = 0; i < m_count; ++i)
        STEP(transfer(cpu, linear + m_parts[i].guest, cpu.bounce.data() + m_parts[i].bounce, m_parts[i].size, Access::write));
    return Outcome::next;
}

void ImageParts::read_host(Cpu& cpu, u8 const* image) const
{
    constexpr u32 few_words = 64;
    for (unsigned i = 0; i < m_count; ++i) {
        auto const& part = m_parts[i];
        if (part.size <= few_words && part.size % 8 == 0)
            copy_words(cpu.bounce.data() + part.bounce, image + part.guest, part.size);
        else
            copy_bytes(cpu.bounce.data() + part.bounce, image + part.guest, part.size);
    }
}

Outcome ImageParts::read(Cpu& cpu, u64 linear) const
{
    for (unsigned i = 0; i < m_count; ++i)
        STEP(transfer(cpu, linear + m_parts[i].guest, cpu.bounce.data() + m_parts[i].bounce, m_parts[i].size, Access::read));
    return Outcome::next;
}

} // namespace anyhyve::soft
