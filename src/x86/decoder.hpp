// The byte-level instruction decoder: what it knows on its way from the first prefix to the last immediate.
// Source: Intel SDM vol. 2A chapter 2 (instruction format; 2.3 VEX, 2.7 EVEX), vol. 2D appendix A.
//
// It never tests for the end of its input on the way: it reads from the caller's bytes when there are plenty of them, else from a copy
// padded with zeros, and compares lengths at the end. What it decoded out of the padding is thrown away.
//
// Its parts are headers that only decoder.cpp includes, in an unnamed namespace: the compiler makes one function of them all, whose place in
// the code is in a register. As functions of their own they take an eighth longer.
#pragma once

#include "x86/instruction.hpp"
#include "x86/memory_operand.hpp"
#include "x86/opcode_table.hpp"

#include <cstring>

namespace anyhyve::x86 {

namespace {

constexpr unsigned longest_instruction = 15;

template<typename Integer>
Integer load(u8 const* from)
{
    Integer value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

class Decoder {
public:
    Decoder(u8 const* code, CodeSize size, Instruction& out) : m_code(code), m_at(code), m_out(out), m_long(size == CodeSize::bits64) { out.code_size = size; }

    // How many bytes the instruction has, if there are so many; more than 15 if it is too long.
    unsigned run();

private:
    // decoder_prefixes.hpp
    bool read_prefixes();
    OpcodeTable const* read_opcode();

    // decoder_vex.hpp
    OpcodeTable const* read_vex();
    OpcodeTable const* read_vex3();
    OpcodeTable const* read_evex();
    void take_vex(u8 map, u8 inverted_vvvv, u8 pp);

    // decoder_modrm.hpp
    void read_modrm();
    void read_address();
    void read_address16();
    bool fix_vsib();
    void scale_displacement(OpcodeInfo const& info);
    void set_segment();
    void trim_register_numbers(OpcodeInfo const& info);

    // decoder_immediate.hpp
    void set_operand_size(OpcodeInfo const& info);
    void read_immediate(Immediate kind);
    void read_rare_immediate(Immediate kind);

    // decoder_validity.hpp
    bool is_valid(OpcodeInfo const& info) const;
    bool is_valid_vex(OpcodeInfo const& info) const;
    bool is_valid_evex(OpcodeInfo const& info) const;

    // decoder.cpp
    u32 selection() const;
    void measure_memory(OpcodeInfo const& info);
    unsigned length() const { return static_cast<unsigned>(m_at - m_code); }

    u8 const* const m_code;
    u8 const* m_at;
    Instruction& m_out;
    bool const m_long;
    bool m_malformed = false;
    bool m_disp8 = false;
    u8 m_normal_size = 4; // operand size by mode, 66 and REX.W
};

} // namespace

} // namespace anyhyve::x86
