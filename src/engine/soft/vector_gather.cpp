// Gathers and scatters (AVX2, AVX-512): element by element, each one done for good before the next, so that a fault in the middle leaves
// an instruction that can be started again.
// Source: Intel SDM vol. 2 VPGATHERDD and its relatives, VPSCATTERDD and its relatives.
#include <algorithm>

#include "engine/soft/execute_functions.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/vector_image.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr u8 first_scatter_opcode = 0xa0; // gathers: 90-93

u64 get_element(VectorValue const& value, unsigned number, unsigned size)
{
    return size == 8 ? get_field<u64>(value.data(), number * 8) : get_field<u32>(value.data(), number * 4);
}
void put_element(VectorValue& value, unsigned number, unsigned size, u64 element)
{
    if (size == 8)
        put_field<u64>(value.data(), number * 8, element);
    else
        put_field<u32>(value.data(), number * 4, static_cast<u32>(element));
}
void clear_from(VectorValue& value, unsigned first_byte)
{
    zero_bytes(value.data() + first_byte, vector_bytes - first_byte);
}

// One instruction at work: its operands, taken out of the image.
class Transfer {
public:
    Transfer(Cpu& cpu, Instruction const& instruction)
        : m_cpu(cpu)
        , m_instruction(instruction)
        , m_image(cpu)
        , m_element_size(instruction.vex_w ? 8 : 4)
        , m_index_size(instruction.opcode & 1 ? 8 : 4)
        , m_count((16u << instruction.vector_length) / std::max(m_element_size, m_index_size))
    {
        m_image.read(instruction.reg, m_data);
        m_image.read(instruction.index, m_indices);
    }

    Outcome gather_masked_by_vector();
    Outcome gather_masked_by_opmask();
    Outcome scatter();

private:
    Outcome element_address(unsigned number, Access access, u64& linear)
    {
        u64 const raw = get_element(m_indices, number, m_index_size);
        u64 const index = m_index_size == 8 ? raw : static_cast<u64>(sign_extend(raw, 32));
        u64 address = static_cast<u64>(m_instruction.displacement) + index * m_instruction.scale;
        if (m_instruction.base != 0xff)
            address += m_cpu.gpr[m_instruction.base];
        address &= mask_of_bytes(m_instruction.address_size);
        return m_cpu.mmu->linear_address(m_instruction.segment, address, m_element_size, access, linear);
    }
    Outcome load(unsigned number)
    {
        u64 linear = 0, element = 0;
        STEP(element_address(number, Access::read, linear));
        STEP(m_cpu.mmu->read(linear, &element, m_element_size, Rights::current_unaligned));
        put_element(m_data, number, m_element_size, element);
        return Outcome::next;
    }
    Outcome store(unsigned number)
    {
        u64 linear = 0;
        STEP(element_address(number, Access::write, linear));
        u64 const element = get_element(m_data, number, m_element_size);
        return m_cpu.mmu->write(linear, &element, m_element_size, Rights::current_unaligned);
    }

    Cpu& m_cpu;
    Instruction const& m_instruction;
    VectorImage m_image;
    unsigned m_element_size, m_index_size, m_count;
    VectorValue m_data, m_indices;
};

// AVX2: the mask is a vector register, whose elements' top bits count; it ends as zero.
Outcome Transfer::gather_masked_by_vector()
{
    VectorValue mask;
    m_image.read(m_instruction.vvvv, mask);
    u64 const top = bit(m_element_size * 8 - 1);
    Outcome outcome = Outcome::next;
    for (unsigned i = 0; i < m_count && outcome == Outcome::next; ++i) {
        if (get_element(mask, i, m_element_size) & top)
            outcome = load(i);
        if (outcome == Outcome::next)
            put_element(mask, i, m_element_size, 0);
    }
    if (outcome == Outcome::next) {
        clear_from(mask, 0);
        clear_from(m_data, m_count * m_element_size);
    }
    m_image.write(m_instruction.vvvv, mask);
    m_image.write(m_instruction.reg, m_data);
    return outcome;
}

Outcome Transfer::gather_masked_by_opmask()
{
    u64 mask = m_image.read_mask(m_instruction.evex_aaa);
    bool any = false; // element loaded: what lies above the vector is cleared then, fault or not
    Outcome outcome = Outcome::next;
    for (unsigned i = 0; i < m_count && outcome == Outcome::next; ++i) {
        bool const wanted = mask & bit(i);
        if (wanted)
            outcome = load(i);
        if (outcome == Outcome::next)
            mask &= ~bit(i);
        any |= wanted && outcome == Outcome::next;
    }
    if (outcome == Outcome::next)
        mask = 0;
    if (outcome == Outcome::next)
        clear_from(m_data, m_count * m_element_size);
    else if (any)
        clear_from(m_data, 16u << m_instruction.vector_length);
    m_image.write_mask(m_instruction.evex_aaa, mask);
    m_image.write(m_instruction.reg, m_data);
    return outcome;
}

Outcome Transfer::scatter()
{
    u64 mask = m_image.read_mask(m_instruction.evex_aaa);
    Outcome outcome = Outcome::next;
    for (unsigned i = 0; i < m_count && outcome == Outcome::next; ++i) {
        if (mask & bit(i))
            outcome = store(i);
        if (outcome == Outcome::next)
            mask &= ~bit(i);
    }
    m_image.write_mask(m_instruction.evex_aaa, outcome == Outcome::next ? 0 : mask);
    return outcome;
}

} // namespace

Outcome execute_gather_scatter(Cpu& cpu, Instruction const& instruction)
{
    bool const scatter = instruction.opcode >= first_scatter_opcode;
    bool const by_vector = instruction.encoding == Encoding::vex;
    unsigned const data = instruction.reg, index = instruction.index, mask = instruction.vvvv;
    if (by_vector ? data == index || data == mask || index == mask : (!scatter && data == index) || instruction.evex_aaa == 0)
        return raise_ud(cpu);
    VectorStateGuard const guard(cpu);
    Transfer transfer(cpu, instruction);
    if (scatter)
        return transfer.scatter();
    return by_vector ? transfer.gather_masked_by_vector() : transfer.gather_masked_by_opmask();
}

} // namespace anyhyve::soft
