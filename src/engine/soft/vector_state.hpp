// Puts the guest's vector state away while C++ code runs that may use vector registers: devices, the clock, logging.
// The guest's x87, SSE and AVX registers stay in the host's while the engine's own code runs, which is compiled for general registers.
#pragma once

#include "engine/soft/cpu.hpp"
#include "engine/soft/host_vector_unit.hpp"

namespace anyhyve::soft {

// Host registers -> cpu.xsave, in the standard format (SDM vol. 1 13.7), header made consistent where the host has FXSAVE only.
// Components that are in their initial state, or unchanged since load_vector_state() read them from here, need not be written
// (XSAVEOPT, 13.9): whoever writes to cpu.xsave loads it before the guest runs again.
[[gnu::always_inline]] inline void save_vector_state(Cpu& cpu)
{
    auto const& unit = host_vector_unit();
    if (unit.xsaveopt) {
        asm volatile("xsaveopt64 %0" : "+m"(cpu.xsave) : "a"(static_cast<u32>(unit.mask)), "d"(0u) : "memory");
        return;
    }
    if (unit.xsave) {
        asm volatile("xsave64 %0" : "+m"(cpu.xsave) : "a"(static_cast<u32>(unit.mask)), "d"(0u) : "memory");
        return;
    }
    asm volatile("fxsave64 %0" : "+m"(cpu.xsave) : : "memory");
    cpu.xsave[xsave_image::xstate_bv] = xcr0::x87 | xcr0::sse;
}

// Upper halves of ZMM registers without the upper halves of YMM registers: AMD's XSAVEOPT later reports the latter as in use, and yet as
// unchanged since XRSTOR, so that what the image happens to hold would become their value (seen on family 25, model 17). Here it is made zeros.
[[gnu::always_inline]] inline void spell_out_ymm(Cpu& cpu)
{
    u8& present = cpu.xsave[xsave_image::xstate_bv];
    if ((present & (xcr0::avx | xcr0::zmm_high256)) != xcr0::zmm_high256) [[likely]]
        return;
    auto const& avx = host_vector_unit().components[2];
    void* to = &cpu.xsave[avx.offset];
    u64 count = avx.size / 8;
    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0) : "memory");
    present |= xcr0::avx;
}

// cpu.xsave -> host registers. The image must be one that XRSTOR takes: save_vector_state()'s, or checked.
[[gnu::always_inline]] inline void load_vector_state(Cpu& cpu)
{
    auto const& unit = host_vector_unit();
    spell_out_ymm(cpu);
    if (unit.xsave)
        asm volatile("xrstor64 %0" : : "m"(cpu.xsave), "a"(static_cast<u32>(unit.mask)), "d"(0u) : "memory");
    else
        asm volatile("fxrstor64 %0" : : "m"(cpu.xsave) : "memory");
}

// What C++ expects of the vector unit (System V ABI 3.2.1): MXCSR and x87 control word at their defaults, x87 stack empty, upper halves clear.
[[gnu::always_inline]] inline void reset_vector_unit()
{
    u32 const mxcsr = xsave_image::mxcsr_initial;
    asm volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr) : "memory");
    if (host_vector_unit().mask & xcr0::avx)
        asm volatile("vzeroupper" : : : "memory");
}

// While one exists, the guest's vector state is in cpu.xsave and vector registers are free. Nests.
class [[nodiscard]] VectorStateGuard {
public:
    [[gnu::always_inline]] explicit VectorStateGuard(Cpu& cpu) : m_cpu(cpu)
    {
        if (m_cpu.vector_state_guards++ == 0) {
            save_vector_state(m_cpu);
            reset_vector_unit();
        }
    }
    [[gnu::always_inline]] ~VectorStateGuard()
    {
        if (--m_cpu.vector_state_guards == 0)
            load_vector_state(m_cpu);
    }
    VectorStateGuard(VectorStateGuard const&) = delete;
    VectorStateGuard& operator=(VectorStateGuard const&) = delete;

private:
    Cpu& m_cpu;
};

#ifdef __SANITIZE_ADDRESS__
// AddressSanitizer's build clears and copies objects by calls of memset and memcpy, which use vector registers. For functions where that happens; in
// other builds nothing.
using AddressSanitizerGuard = VectorStateGuard;
#else
struct AddressSanitizerGuard {
    [[gnu::always_inline]] explicit AddressSanitizerGuard(Cpu&) {}
};
#endif

// Tells the user that the guest did something odd, at a limited rate: "text detail". For code compiled for general registers only.
void report_guest(Cpu&, char const* text, u64 detail);
// The part of it that may use any register (guest_message.cpp, compiled like the rest of the program).
void write_guest_message(unsigned vcpu, u64 rip, char const* text, u64 detail);

} // namespace anyhyve::soft
