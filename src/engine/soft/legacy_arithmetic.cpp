// Instructions that 64-bit mode lacks, so that the host cannot run them: BCD adjustment, BOUND, SALC, short INC and DEC; and XLAT and
// XCHG with the accumulator, which have no operand to rewrite.
// Source: Intel SDM vol. 2, the instructions. Flags that it leaves undefined are those of processors of today, as measured: of the
// addition or subtraction that does the adjustment, for AAA and AAS a 16-bit one.
#include <bit>

#include "base/bits.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr u64 parity_flag(u64 value) { return std::popcount(static_cast<u8>(value)) % 2 == 0 ? rflags::pf : 0; }

constexpr u64 sign_bit(unsigned width) { return bit(width * 8 - 1); }

// SF, ZF and PF of a result of `width` bytes.
constexpr u64 result_flags(u64 result, unsigned width)
{
    result &= mask_of_bytes(width);
    return (result & sign_bit(width) ? rflags::sf : 0) | (result == 0 ? rflags::zf : 0) | parity_flag(result);
}

// a + b or a - b, and OF of it.
struct Sum {
    u64 value, overflow;
};
constexpr Sum add(u64 a, u64 b, unsigned width)
{
    u64 const sum = (a + b) & mask_of_bytes(width);
    return { sum, ~(a ^ b) & (a ^ sum) & sign_bit(width) ? rflags::of : 0 };
}
constexpr Sum subtract(u64 a, u64 b, unsigned width)
{
    u64 const difference = (a - b) & mask_of_bytes(width);
    return { difference, (a ^ b) & (a ^ difference) & sign_bit(width) ? rflags::of : 0 };
}

void set_arithmetic(Cpu& cpu, u64 flags)
{
    cpu.rflags = (cpu.rflags & ~rflags::arithmetic) | flags;
}

enum class Sign : u8 { plus, minus };

// AAA and AAS.
Outcome adjust_unpacked(Cpu& cpu, Sign sign)
{
    u64 const ax = cpu.reg(rax, 2);
    bool const adjust = (ax & 15) > 9 || (cpu.rflags & rflags::af);
    u64 const amount = adjust ? 0x106 : 0;
    Sum const sum = sign == Sign::plus ? add(ax, amount, 2) : subtract(ax, amount, 2);
    cpu.set_reg(rax, 2, sum.value & 0xff0f);
    set_arithmetic(cpu, result_flags(sum.value, 2) | sum.overflow | (adjust ? rflags::af | rflags::cf : 0));
    return Outcome::next;
}

// DAA and DAS.
Outcome adjust_packed(Cpu& cpu, Sign sign)
{
    u64 const al = cpu.reg(rax, 1);
    u64 amount = 0, flags = 0;
    if ((al & 15) > 9 || (cpu.rflags & rflags::af)) {
        amount = 6;
        flags = rflags::af;
        if (sign == Sign::minus && al < 6)
            flags |= rflags::cf;
    }
    if (al > 0x99 || (cpu.rflags & rflags::cf)) {
        amount += 0x60;
        flags |= rflags::cf;
    }
    Sum const sum = sign == Sign::plus ? add(al, amount, 1) : subtract(al, amount, 1);
    cpu.set_reg(rax, 1, sum.value);
    set_arithmetic(cpu, result_flags(sum.value, 1) | sum.overflow | flags);
    return Outcome::next;
}

} // namespace

Outcome execute_aaa(Cpu& cpu, Instruction const&) { return adjust_unpacked(cpu, Sign::plus); }
Outcome execute_aas(Cpu& cpu, Instruction const&) { return adjust_unpacked(cpu, Sign::minus); }
Outcome execute_daa(Cpu& cpu, Instruction const&) { return adjust_packed(cpu, Sign::plus); }
Outcome execute_das(Cpu& cpu, Instruction const&) { return adjust_packed(cpu, Sign::minus); }

Outcome execute_aam(Cpu& cpu, Instruction const& instruction)
{
    u64 const base = instruction.immediate & 0xff;
    if (base == 0)
        return raise(cpu, vector::divide_error);
    u64 const al = cpu.reg(rax, 1);
    cpu.set_reg(rax, 2, al / base << 8 | al % base);
    set_arithmetic(cpu, result_flags(al % base, 1));
    return Outcome::next;
}

Outcome execute_aad(Cpu& cpu, Instruction const& instruction)
{
    u64 const al = cpu.reg(rax, 1);
    u64 const tens = (cpu.reg(rax, 2) >> 8) * (instruction.immediate & 0xff) & 0xff;
    Sum const sum = add(al, tens, 1);
    u64 const carry = al + tens > 0xff ? rflags::cf : 0;
    u64 const half_carry = (al ^ tens ^ sum.value) & 0x10 ? rflags::af : 0;
    cpu.set_reg(rax, 2, sum.value);
    set_arithmetic(cpu, result_flags(sum.value, 1) | sum.overflow | carry | half_carry);
    return Outcome::next;
}

Outcome execute_bound(Cpu& cpu, Instruction const& instruction)
{
    unsigned const width = instruction.operand_size;
    u64 linear = 0, lower_bits = 0, upper_bits = 0;
    STEP(cpu.mmu->operand_address(instruction, 2 * width, Access::read, linear));
    STEP(cpu.mmu->read(linear, &lower_bits, width)); // two accesses, each of which must be aligned by itself
    STEP(cpu.mmu->read((linear + width) & 0xffffffff, &upper_bits, width));
    i64 const index = sign_extend(cpu.gpr[instruction.reg], width * 8);
    i64 const lower = sign_extend(lower_bits, width * 8);
    i64 const upper = sign_extend(upper_bits, width * 8);
    return index < lower || index > upper ? raise(cpu, vector::bound) : Outcome::next;
}

Outcome execute_salc(Cpu& cpu, Instruction const&)
{
    cpu.set_reg(rax, 1, cpu.rflags & rflags::cf ? 0xff : 0);
    return Outcome::next;
}

Outcome execute_xlat(Cpu& cpu, Instruction const& instruction)
{
    u64 const offset = (cpu.gpr[rbx] + cpu.reg(rax, 1)) & mask_of_bytes(instruction.address_size);
    Segment const segment = instruction.segment_override == Segment::none ? Segment::ds : instruction.segment_override;
    u8 value = 0;
    STEP(cpu.mmu->read_segment(segment, offset, &value, 1));
    cpu.set_reg(rax, 1, value);
    return Outcome::next;
}

Outcome execute_exchange_accumulator(Cpu& cpu, Instruction const& instruction)
{
    unsigned const width = instruction.operand_size, other = instruction.rm;
    u64 const value = cpu.reg(other, width);
    cpu.set_reg(other, width, cpu.reg(rax, width));
    cpu.set_reg(rax, width, value);
    return Outcome::next;
}

} // namespace anyhyve::soft
