// IN, OUT, INS, OUTS, and the I/O permission bitmap.
// Source: Intel SDM vol. 1 chapter 18; vol. 2 IN, OUT, INS, OUTS; vol. 3A 20.3.3 (virtual-8086 mode).
#include <algorithm>

#include "engine/soft/execute_functions.hpp"
#include "engine/soft/io_permission.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/string_operand.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr unsigned tss_bitmap_base = 0x66; // 32- and 64-bit TSS alike
constexpr u8 first_opcode_with_dx = 0xec;  // E4-E7 have the port as an immediate

bool bitmap_asked(Cpu const& cpu)
{
    if (cpu.real_mode())
        return false;
    return cpu.virtual_8086() || cpu.cpl > ((cpu.rflags & rflags::iopl) >> 12);
}

struct PortOperand {
    u16 port;
    unsigned width;
};

PortOperand port_operand(Cpu const& cpu, Instruction const& instruction)
{
    u64 const port = instruction.opcode >= first_opcode_with_dx ? cpu.gpr[rdx] : instruction.immediate & 0xff;
    return { static_cast<u16>(port), std::min<unsigned>(instruction.operand_size, 4) };
}

} // namespace

Outcome check_io_permission(Cpu& cpu, u16 port, unsigned width)
{
    if (!bitmap_asked(cpu))
        return Outcome::next;
    u8 const type = access::type(cpu.tr.access);
    bool const wide_tss = type == descriptor_type::tss32_busy || type == descriptor_type::tss32_available;
    if (!wide_tss || cpu.tr.limit < tss_bitmap_base + 1)
        return raise_gp(cpu);
    u16 base = 0, bits = 0;
    STEP(cpu.mmu->read(wrap_linear(cpu, cpu.tr.base + tss_bitmap_base), &base, sizeof base, Rights::supervisor));
    // The CPU reads two bytes, so both must lie inside the TSS.
    u32 const at = base + port / 8u;
    if (at + 1 > cpu.tr.limit)
        return raise_gp(cpu);
    STEP(cpu.mmu->read(wrap_linear(cpu, cpu.tr.base + at), &bits, sizeof bits, Rights::supervisor));
    u32 const asked = ((1u << width) - 1) << (port & 7);
    return bits & asked ? raise_gp(cpu) : Outcome::next;
}

Outcome execute_in(Cpu& cpu, Instruction const& instruction)
{
    auto const [port, width] = port_operand(cpu, instruction);
    STEP(check_io_permission(cpu, port, width));
    cpu.set_reg(rax, width, cpu.mmu->port_in(port, width));
    return Outcome::next;
}

Outcome execute_out(Cpu& cpu, Instruction const& instruction)
{
    auto const [port, width] = port_operand(cpu, instruction);
    STEP(check_io_permission(cpu, port, width));
    cpu.mmu->port_out(port, width, cpu.reg(rax, width));
    return Outcome::next;
}

Outcome execute_string_in(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, std::min<unsigned>(instruction.operand_size, 4));
    unsigned const width = string.width();
    u16 const port = static_cast<u16>(cpu.gpr[rdx]);
    STEP(check_io_permission(cpu, port, width));
    while (string.left() != 0) {
        StringOperand destination;
        STEP(destination.locate_destination(string, Access::write, 1));
        STEP(cpu.mmu->probe(destination.linear, width, Access::write)); // reading the port may change the device, so nothing may fail afterwards
        u64 const value = cpu.mmu->port_in(port, width);
        STEP(cpu.mmu->write(destination.linear, &value, width));
        string.advance(1, false, true);
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

Outcome execute_string_out(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, std::min<unsigned>(instruction.operand_size, 4));
    unsigned const width = string.width();
    u16 const port = static_cast<u16>(cpu.gpr[rdx]);
    STEP(check_io_permission(cpu, port, width));
    while (string.left() != 0) {
        StringOperand source;
        STEP(source.locate_source(string, 1));
        u64 value = 0;
        STEP(cpu.mmu->read(source.linear, &value, width));
        string.advance(1, true, false);
        cpu.mmu->port_out(port, width, value);
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

} // namespace anyhyve::soft
