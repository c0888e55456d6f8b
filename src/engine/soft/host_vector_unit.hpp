// What the host's x87/SSE/AVX unit can do and how its XSAVE images are laid out. The guest's images have the same layout.
// Source: Intel SDM vol. 1 chapter 13; CPUID leaf 0DH.
#pragma once

#include <array>

#include "base/integer.hpp"

namespace anyhyve::soft {

// State components, as bits of XCR0 (SDM vol. 1 13.1).
namespace xcr0 {
constexpr u64 x87 = 1 << 0, sse = 1 << 1, avx = 1 << 2, opmask = 1 << 5, zmm_high256 = 1 << 6, high16_zmm = 1 << 7, pkru = 1 << 9;
constexpr u64 avx512 = opmask | zmm_high256 | high16_zmm;
constexpr u64 offered = x87 | sse | avx | avx512;
constexpr unsigned component_count = 10, pkru_component = 9;
} // namespace xcr0

// Offsets in the 512-byte legacy region (SDM vol. 1 table 10-2) and the header (13.4.2).
namespace xsave_image {
constexpr unsigned control_word = 0, status_word = 2, tag_byte = 4, opcode = 6, instruction_pointer = 8, data_pointer = 16, mxcsr = 24, mxcsr_mask = 28,
                   x87_registers = 32, xmm = 160, legacy_size = 512;
constexpr unsigned xstate_bv = 512, xcomp_bv = 520, header_size = 64, extended = legacy_size + header_size;
constexpr u64 compacted = u64 { 1 } << 63;
constexpr u32 mxcsr_initial = 0x1f80;
constexpr u16 control_word_initial = 0x37f;
} // namespace xsave_image

struct HostVectorUnit {
    struct Component {
        u32 offset = 0; // in the standard format
        u32 size = 0;
        bool aligned = false; // in the compacted format: on 64 bytes
    };

    bool xsave = false, xsaveopt = false, xsavec = false, xgetbv1 = false;
    u64 mask = xcr0::x87 | xcr0::sse; // components of the host's XCR0 that a guest may have, and that are its own in the host's registers: not PKRU
    u32 mxcsr_mask = 0xffff;
    std::array<Component, xcr0::component_count> components {}; // PKRU's place is ours to choose: behind the others, where processors have it

    // Bytes of an image with these components, header included. (These three are in extended_state_image.cpp: they run while the guest's
    // vector registers are live.)
    u32 standard_size(u64 components_present) const;
    u32 compacted_size(u64 components_present) const;
    // Where component `n` (2 and up) starts in a compacted image that holds `components_present`.
    u32 compacted_offset(u64 components_present, unsigned n) const;
};

// Fixed before main().
HostVectorUnit const& host_vector_unit();

} // namespace anyhyve::soft
