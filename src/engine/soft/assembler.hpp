// Writes the host instructions that surround guest code: the few forms the translator and the thunks need.
// Spec: Intel SDM vol. 2 chapter 2. Every CPU-structure access is gs:[disp32], optionally indexed.
#pragma once

#include <cstring>

#include "base/assert.hpp"
#include "base/integer.hpp"
#include "x86/registers.hpp"

namespace anyhyve::soft {

using HostRegister = u8; // 0..15, as x86::GeneralRegister numbers them

enum class Condition : u8 { overflow, not_overflow, below, above_or_equal, equal, not_equal, below_or_equal, above, sign, not_sign, parity, not_parity, less, greater_or_equal, less_or_equal, greater };
constexpr Condition inverse(Condition condition) { return static_cast<Condition>(static_cast<u8>(condition) ^ 1); }
// The /n of opcode groups 80-83 and the xx000xxx opcodes.
enum class Arithmetic : u8 { add, or_, adc, sbb, and_, sub, xor_, cmp };

// [base + index + displacement] on the host.
struct HostMemory {
    static constexpr u8 no_register = 0xff;
    HostRegister base;
    u8 index = no_register;
    i32 displacement = 0;
    HostMemory(HostRegister from) : base(from) {} // NOLINT: a pointer in a register is the common case
    HostMemory(HostRegister from, u8 offset, i32 and_displacement) : base(from), index(offset), displacement(and_displacement) {}
};

// A place that a forward jump waits for.
struct JumpSite {
    u8* displacement = nullptr; // of 4 bytes
};

class Assembler {
public:
    Assembler() = default;
    Assembler(u8* start, u8* end) : m_position(start), m_end(end) {}

    u8* position() const { return m_position; }
    bool overflowed() const { return m_overflowed; }
    void set_position(u8* position) { m_position = position; }

    void byte(u8 value)
    {
        if (m_position < m_end)
            *m_position++ = value;
        else
            m_overflowed = true;
    }
    void bytes(u8 const* from, unsigned count)
    {
        for (unsigned i = 0; i < count; ++i)
            byte(from[i]);
    }
    void imm32(u32 value) { number(value, 4); }
    void number(u64 value, unsigned width)
    {
        if (m_position + width > m_end) {
            m_overflowed = true;
            return;
        }
        std::memcpy(m_position, &value, width);
        m_position += width;
    }

    // --- register to register ---
    void mov(HostRegister to, HostRegister from) { rex_op(true, 0x89, from, to); }
    void mov32(HostRegister to, HostRegister from) { rex_op(false, 0x89, from, to); }
    void movzx16(HostRegister to, HostRegister from) { rex(false, to, 0, from); byte(0x0f); byte(0xb7); modrm(3, to, from); }
    void mov16(HostRegister to, HostRegister from) { byte(0x66); rex_op(false, 0x89, from, to); }
    void xchg(HostRegister a, HostRegister b) { rex_op(true, 0x87, a, b); }
    void arithmetic(Arithmetic op, bool wide, HostRegister to, HostRegister from) { rex_op(wide, static_cast<u8>(static_cast<u8>(op) << 3 | 1), from, to); }
    void arithmetic_imm(Arithmetic op, bool wide, HostRegister to, i32 value)
    {
        rex(wide, 0, 0, to);
        bool const small = value >= -128 && value < 128;
        byte(small ? 0x83 : 0x81);
        modrm(3, static_cast<u8>(op), to);
        number(static_cast<u32>(value), small ? 1 : 4);
    }
    void move_if(Condition condition, HostRegister to, HostRegister from)
    {
        rex(true, to, 0, from);
        byte(0x0f);
        byte(static_cast<u8>(0x40 | static_cast<u8>(condition)));
        modrm(3, to, from);
    }
    void shr(bool wide, HostRegister reg, u8 count) { rex(wide, 0, 0, reg); byte(0xc1); modrm(3, 5, reg); byte(count); }
    void shl(bool wide, HostRegister reg, u8 count) { rex(wide, 0, 0, reg); byte(0xc1); modrm(3, 4, reg); byte(count); }
    void sar(bool wide, HostRegister reg, u8 count) { rex(wide, 0, 0, reg); byte(0xc1); modrm(3, 7, reg); byte(count); }
    // The shortest move of a constant; flags stay.
    void mov_imm(HostRegister to, u64 value)
    {
        if (value <= 0xffffffff) {
            rex(false, 0, 0, to);
            byte(0xb8 + (to & 7));
            imm32(static_cast<u32>(value));
        } else if (static_cast<u64>(static_cast<i64>(static_cast<i32>(value))) == value) {
            rex(true, 0, 0, to);
            byte(0xc7);
            modrm(3, 0, to);
            imm32(static_cast<u32>(value));
        } else {
            rex(true, 0, 0, to);
            byte(0xb8 + (to & 7));
            number(value, 8);
        }
    }
    // lea to, [base + index*scale + displacement]; no_register for an absent part. Result 32 or 64 bits wide.
    static constexpr u8 no_register = 0xff;
    void lea(bool wide, HostRegister to, u8 base, u8 index, u8 scale, i32 displacement)
    {
        rex(wide, to, index == no_register ? 0 : index, base == no_register ? 0 : base);
        byte(0x8d);
        u8 const ss = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
        u8 const index_field = index == no_register ? 4 : index & 7;
        if (base == no_register) {
            modrm(0, to, 4);
            byte(static_cast<u8>(ss << 6 | index_field << 3 | 5));
            imm32(static_cast<u32>(displacement));
            return;
        }
        bool const need_sib = index != no_register || (base & 7) == 4;
        bool const none = displacement == 0 && (base & 7) != 5;
        bool const small = displacement >= -128 && displacement < 128;
        modrm(none ? 0 : small ? 1 : 2, to, need_sib ? 4 : base);
        if (need_sib)
            byte(static_cast<u8>(ss << 6 | index_field << 3 | (base & 7)));
        if (!none)
            number(static_cast<u32>(displacement), small ? 1 : 4);
    }

    // --- plain memory ---
    void load(unsigned width, HostRegister to, HostMemory where) { plain(width, to, where, 0x8b); }
    void store(unsigned width, HostMemory where, HostRegister from) { plain(width, from, where, 0x89); }
    void load_sign_extended32(HostRegister to, HostMemory where)
    {
        memory_rex(true, to, where);
        byte(0x63);
        memory_operand(to, where);
    }
    void load_zero_extended(unsigned width, HostRegister to, HostMemory where)
    {
        if (width >= 4)
            return load(width, to, where);
        memory_rex(false, to, where);
        byte(0x0f);
        byte(width == 1 ? 0xb6 : 0xb7);
        memory_operand(to, where);
    }
    void store_imm(unsigned width, HostMemory where, i32 value)
    {
        if (width == 2)
            byte(0x66);
        memory_rex(width == 8, 0, where);
        byte(0xc7);
        memory_operand(0, where);
        number(static_cast<u32>(value), width == 2 ? 2 : 4);
    }
    void lea(HostRegister to, HostMemory where) { lea(true, to, where.base, where.index, 1, where.displacement); }
    // ModRM, SIB and displacement. `scaled`: EVEX would multiply a displacement of one byte.
    void memory_operand(u8 reg, HostMemory where, bool scaled = false)
    {
        bool const sib = where.index != no_register || (where.base & 7) == 4;
        bool const none = where.displacement == 0 && (where.base & 7) != 5;
        bool const small = !none && (where.displacement == 0 || (!scaled && where.displacement >= -128 && where.displacement < 128));
        modrm(none ? 0 : small ? 1 : 2, reg, sib ? 4 : where.base);
        if (sib)
            byte(static_cast<u8>((where.index == no_register ? 4 : where.index & 7) << 3 | (where.base & 7)));
        if (!none)
            number(static_cast<u32>(where.displacement), small ? 1 : 4);
    }

    // --- the CPU structure, gs:[offset] or gs:[offset + index] ---
    void gs_load(bool wide, HostRegister to, u32 offset, u8 index = no_register) { gs(wide, 0x8b, to, offset, index); }
    void gs_store(bool wide, u32 offset, HostRegister from) { gs(wide, 0x89, from, offset, no_register); }
    void gs_store16(u32 offset, HostRegister from)
    {
        byte(0x65);
        byte(0x66);
        gs_tail(false, 0x89, from, offset, no_register);
    }
    void gs_load_zero16(HostRegister to, u32 offset)
    {
        byte(0x65);
        rex(false, to, 0, 0);
        byte(0x0f);
        byte(0xb7);
        gs_operand(to, offset, no_register);
    }
    void gs_store_imm(u32 offset, i32 value)
    {
        byte(0x65);
        gs_tail(true, 0xc7, 0, offset, no_register);
        imm32(static_cast<u32>(value));
    }
    void gs_arithmetic(Arithmetic op, bool wide, HostRegister to, u32 offset, u8 index = no_register)
    {
        gs(wide, static_cast<u8>(static_cast<u8>(op) << 3 | 3), to, offset, index);
    }
    void gs_arithmetic_imm32(Arithmetic op, u32 offset, u32 value)
    {
        byte(0x65);
        gs_tail(false, 0x81, static_cast<u8>(op), offset, no_register);
        imm32(value);
    }
    void gs_store_imm8(u32 offset, u8 value)
    {
        byte(0x65);
        gs_tail(false, 0xc6, 0, offset, no_register);
        byte(value);
    }
    void gs_test_imm8(u32 offset, u8 bits)
    {
        byte(0x65);
        gs_tail(false, 0xf6, 0, offset, no_register);
        byte(bits);
    }
    // Compares 64 bits with a sign-extended number.
    void gs_compare_signed(u32 offset, i32 value)
    {
        byte(0x65);
        gs_tail(true, 0x81, 7, offset, no_register);
        imm32(static_cast<u32>(value));
    }
    void gs_decrement(u32 offset)
    {
        byte(0x65);
        gs_tail(false, 0x83, 5, offset, no_register);
        byte(1);
    }
    void gs_store_imm32(u32 offset, u32 value)
    {
        byte(0x65);
        gs_tail(false, 0xc7, 0, offset, no_register);
        imm32(value);
    }
    void gs_compare_imm8(bool wide, u32 offset, u8 value, u8 index = no_register)
    {
        byte(0x65);
        gs_tail(wide, 0x83, 7, offset, index);
        byte(value);
    }
    void gs_compare_imm32(u32 offset, u32 value, u8 index = no_register)
    {
        byte(0x65);
        gs_tail(false, 0x81, 7, offset, index);
        imm32(value);
    }
    // Elements of 8 bytes: gs:[offset + index * 8].
    void gs_compare_element(HostRegister with, u32 offset, u8 index) { gs_element(true, 0x3b, with, offset, index); }
    void gs_jump_element(u32 offset, u8 index) { gs_element(false, 0xff, 4, offset, index); }

    // --- control flow ---
    void jump_register(HostRegister reg) { rex(false, 0, 0, reg); byte(0xff); modrm(3, 4, reg); }
    void call_register(HostRegister reg) { rex(false, 0, 0, reg); byte(0xff); modrm(3, 2, reg); }
    void jump_if_rcx_zero(i8 distance) { byte(0xe3); byte(static_cast<u8>(distance)); }
    void jump(u8 const* target)
    {
        byte(0xe9);
        imm32(static_cast<u32>(target - (m_position + 4)));
    }
    JumpSite jump_forward()
    {
        byte(0xe9);
        return displacement_site();
    }
    JumpSite jump_forward(Condition condition)
    {
        byte(0x0f);
        byte(static_cast<u8>(0x80 | static_cast<u8>(condition)));
        return displacement_site();
    }
    void bind(JumpSite site) { patch(site, m_position); }
    static void patch(JumpSite site, u8 const* target)
    {
        if (site.displacement)
            write_displacement(site.displacement, static_cast<i32>(target - (site.displacement + 4)));
    }
    static void write_displacement(u8* where, i32 value) { std::memcpy(where, &value, 4); }
    void nop(unsigned count)
    {
        static constexpr u8 forms[8][8] = { { 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0x00 }, { 0x0f, 0x1f, 0x40, 0 }, { 0x0f, 0x1f, 0x44, 0, 0 }, { 0x66, 0x0f, 0x1f, 0x44, 0, 0 },
            { 0x0f, 0x1f, 0x80, 0, 0, 0, 0 }, { 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 } };
        while (count) {
            unsigned const n = count < 8 ? count : 8;
            bytes(forms[n - 1], n);
            count -= n;
        }
    }
    // So that the 4 bytes that start `lead` bytes from here do not cross a cache line and can be replaced by one atomic store.
    void align_displacement(unsigned lead)
    {
        // SAFETY: only the low bits of the address are looked at.
        unsigned const at = static_cast<unsigned>((reinterpret_cast<std::uintptr_t>(m_position) + lead) & 63);
        if (at > 60)
            nop(64 - at);
    }

    // Jumps that can be pointed elsewhere while others run them.
    JumpSite aligned_jump()
    {
        align_displacement(1);
        return jump_forward();
    }
    JumpSite aligned_jump(Condition condition)
    {
        align_displacement(2);
        return jump_forward(condition);
    }

    void push(HostRegister reg) { rex(false, 0, 0, reg); byte(0x50 + (reg & 7)); }
    void pop(HostRegister reg) { rex(false, 0, 0, reg); byte(0x58 + (reg & 7)); }
    void ret() { byte(0xc3); }
    void lahf() { byte(0x9f); }
    void lfence() { byte(0x0f); byte(0xae); byte(0xe8); }
    void pause() { byte(0xf3); byte(0x90); }
    void sahf() { byte(0x9e); }
    void seto_al() { byte(0x0f); byte(0x90); byte(0xc0); }
    void add_al(u8 value) { byte(0x04); byte(value); }

    void rex(bool wide, u8 reg, u8 index, u8 base)
    {
        u8 const value = static_cast<u8>(0x40 | (wide ? 8 : 0) | (reg >= 8 ? 4 : 0) | (index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0));
        if (value != 0x40)
            byte(value);
    }
    void modrm(u8 mod, u8 reg, u8 rm) { byte(static_cast<u8>(mod << 6 | (reg & 7) << 3 | (rm & 7))); }

private:
    void rex_op(bool wide, u8 opcode, u8 reg, u8 rm)
    {
        rex(wide, reg, 0, rm);
        byte(opcode);
        modrm(3, reg, rm);
    }
    void memory_rex(bool wide, u8 reg, HostMemory where) { rex(wide, reg, where.index == no_register ? 0 : where.index, where.base); }
    void plain(unsigned width, u8 reg, HostMemory where, u8 opcode)
    {
        if (width == 2)
            byte(0x66);
        if (width == 1 && reg >= 4 && reg < 8 && where.base < 8 && (where.index == no_register || where.index < 8))
            byte(0x40);
        else
            memory_rex(width == 8, reg, where);
        byte(width == 1 ? static_cast<u8>(opcode - 1) : opcode);
        memory_operand(reg, where);
    }
    void gs(bool wide, u8 opcode, u8 reg, u32 offset, u8 index)
    {
        byte(0x65);
        gs_tail(wide, opcode, reg, offset, index);
    }
    void gs_tail(bool wide, u8 opcode, u8 reg, u32 offset, u8 index)
    {
        rex(wide, reg, 0, index == no_register ? 0 : index);
        byte(opcode);
        gs_operand(reg, offset, index);
    }
    void gs_element(bool wide, u8 opcode, u8 reg, u32 offset, u8 index)
    {
        byte(0x65);
        rex(wide, reg, index, 0);
        byte(opcode);
        modrm(0, reg, 4);
        byte(static_cast<u8>(3 << 6 | (index & 7) << 3 | 5));
        imm32(offset);
    }
    void gs_operand(u8 reg, u32 offset, u8 index)
    {
        if (index == no_register) {
            modrm(0, reg, 4);
            byte(0x25);
        } else {
            modrm(2, reg, index);
            if ((index & 7) == 4)
                byte(0x24);
        }
        imm32(offset);
    }
    JumpSite displacement_site()
    {
        JumpSite site { m_overflowed ? nullptr : m_position };
        imm32(0);
        if (m_overflowed)
            site.displacement = nullptr;
        return site;
    }

    u8* m_position = nullptr;
    u8* m_end = nullptr;
    bool m_overflowed = false;
};

} // namespace anyhyve::soft
