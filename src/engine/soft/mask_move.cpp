// MASKMOVQ, MASKMOVDQU, VMASKMOVDQU: single bytes of a register to DS:rDI, chosen by the top bits of another one.
// Source: Intel SDM vol. 2, the instructions; vol. 1 9.5 (what MMX instructions do to the x87 state).
#include "base/bits.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/vector_image.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr unsigned x87_register_size = 16;
constexpr u16 status_error_summary = 0x80;

bool is_mmx(Instruction const& instruction)
{
    return instruction.encoding == Encoding::legacy && !instruction.operand_size_prefix;
}

// The x87 side of an MMX instruction: pending exceptions first, then top of stack 0 and every register valid.
Outcome enter_mmx(Cpu& cpu)
{
    u16 status = 0;
    asm volatile("fnstsw %0" : "=a"(status));
    if (status & status_error_summary)
        return raise(cpu, vector::x87_error);
    u32 ignored = 0;
    asm volatile("movd %%mm0, %0" : "=r"(ignored)); // one that writes no register
    return Outcome::next;
}

// Calls `act` with [first, first+count) for every run of chosen bytes.
template<typename Act>
Outcome for_each_run(u32 chosen, Act act)
{
    unsigned at = 0;
    while (chosen >> at != 0) {
        if (!(chosen >> at & 1)) {
            ++at;
            continue;
        }
        unsigned const first = at;
        while (chosen >> at & 1)
            ++at;
        STEP(act(first, at - first));
    }
    return Outcome::next;
}

} // namespace

Outcome execute_mask_move(Cpu& cpu, Instruction const& instruction)
{
    bool const mmx = is_mmx(instruction);
    if ((cpu.cr0 & cr0::em) && instruction.encoding == Encoding::legacy)
        return raise_ud(cpu);
    if (cpu.cr0 & cr0::ts)
        return raise(cpu, vector::device_not_available);
    if (mmx)
        STEP(enter_mmx(cpu));
    // With the top of stack at 0 the image holds MMX registers in the order of their numbers.
    u8* const image = cpu.bounce.data();
    asm volatile("fxsave64 (%0)" : : "r"(image) : "memory");
    u8 const* const data = mmx ? image + xsave_image::x87_registers + (instruction.reg & 7u) * x87_register_size : image + xsave_image::xmm + instruction.reg * 16u;
    u8 const* const mask = mmx ? image + xsave_image::x87_registers + (instruction.rm & 7u) * x87_register_size : image + xsave_image::xmm + instruction.rm * 16u;
    u32 chosen = 0;
    for (unsigned i = 0; i < (mmx ? 8u : 16u); ++i)
        chosen |= u32 { mask[i] } >> 7 << i;

    Segment const segment = instruction.segment_override == Segment::none ? Segment::ds : instruction.segment_override;
    u64 const address_mask = mask_of_bytes(instruction.address_size);
    u64 const start = cpu.gpr[rdi];
    u64 linear = 0;
    auto const probe = [&](unsigned first, unsigned count) {
        STEP(cpu.mmu->linear_address(segment, (start + first) & address_mask, count, Access::write, linear));
        return cpu.mmu->probe(linear, count, Access::write);
    };
    STEP(for_each_run(chosen, probe));
    return for_each_run(chosen, [&](unsigned first, unsigned count) {
        return cpu.mmu->write_segment(segment, (start + first) & address_mask, data + first, count);
    });
}

} // namespace anyhyve::soft
