// Cases of one instruction, and of blocks of them.
#pragma once

#include "instruction_builder.hpp"

namespace anyhyve::random_test {

class Generator {
public:
    Generator(Random& random, soft::Cpuid const& cpuid, std::string const& filter) : m_random(random), m_builder(random, cpuid, filter) {}

    bool has_forms(x86::CodeSize size) const { return m_builder.has_forms(size); }
    // Cases of one batch share their memory's contents and a few vector states.
    void begin_batch();
    Case single(x86::CodeSize);
    Case block(x86::CodeSize);

private:
    struct Item {
        Encoded code;
        int branch_to = -1;        // item
        u64 rip_target = 0;        // linear address of a RIP-relative operand
        int modifies = -1;         // item whose last byte this one stores to
    };

    // generator.cpp
    void start_state(Case&);
    void shape_registers(Case&, x86::Instruction const&);
    void shape_memory(Case&, Encoded&);
    void shape_branch(Case&, Encoded&);
    void shape_compare(Case&, x86::Instruction const&, u64 target);
    void place(Case&, unsigned length);
    u64 branch_target(Case const&);

    // block_generator.cpp
    void choose_pointers(Case&);
    bool add_random(Case const&);
    bool point_operand(Case const&, Item&);
    void add_counted_loop(Case const&);
    void add_pointer_step();
    void add_function();
    void add_store_to_code();
    void add_bytes(std::initializer_list<u8>, int branch_to = -1);
    void aim_branches();
    void lay_out(Case&);
    bool writes_pointer(x86::Instruction const&) const;

    Random& m_random;
    InstructionBuilder m_builder;
    MemoryImage m_image;
    u64 m_memory_seed = 1;
    std::array<u64, 16> m_vector_seeds {};
    x86::CodeSize m_size = x86::CodeSize::bits64;
    std::vector<Item> m_items;
    u16 m_pointers = 0; // registers that hold addresses of data throughout a block
    u8 m_index = x86::rsp;   // one of the first eight that holds a small number throughout a block; rsp: none
};

} // namespace anyhyve::random_test
