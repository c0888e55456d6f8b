// The state of a vCPU after power-up.
#include "vmm/cpu_state.hpp"

#include <cstring>

#include "x86/instruction.hpp"

namespace anyhyve {

CpuState CpuState::after_reset(bool bsp)
{
    using namespace x86;
    CpuState state;
    for (auto& segment : state.segments)
        segment = { 0, access::present | access::non_system | access::writable | access::accessed, 0xffff, 0 };
    state.segments[static_cast<u8>(Segment::cs)] = { 0xf000, access::present | access::non_system | access::code | access::readable | access::accessed, 0xffff, 0xffff0000 };
    state.ldtr = { 0, access::present | 2, 0xffff, 0 };
    state.tr = { 0, access::present | 11, 0xffff, 0 };
    state.gdtr = state.idtr = { 0, 0xffff };
    state.gpr[rdx] = 0x600; // family 6
    state.activity = bsp ? Activity::running : Activity::wait_for_sipi;
    // x87 after FINIT would be 0x37f; after power-up the control word is 0x40 (table 9-1). Guests run FNINIT before they use it.
    u16 const control_word = 0x40;
    u32 const mxcsr = 0x1f80;
    std::memcpy(state.xsave.data(), &control_word, sizeof control_word);
    std::memcpy(state.xsave.data() + 24, &mxcsr, sizeof mxcsr);
    state.xsave[512] = 3; // XSTATE_BV: x87 and SSE are present
    return state;
}

} // namespace anyhyve
