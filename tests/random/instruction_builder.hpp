// Random instructions whose operands make sense: encodings of table rows, memory operands that lead where the test wants them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/soft/cpuid.hpp"
#include "memory_image.hpp"
#include "random.hpp"
#include "x86/instruction.hpp"
#include "x86/opcode_iterator.hpp"

namespace anyhyve::random_test {

struct Encoded {
    std::array<u8, 16> bytes {};
    x86::Instruction insn {};
    unsigned length() const { return insn.length; }
};

// What an instruction does to the code around it.
enum class Kind : u8 { ordinary, privileged, branch, stack, divide, undefined };

class InstructionBuilder {
public:
    // `filter`: only forms whose name contains it.
    InstructionBuilder(Random&, soft::Cpuid const&, std::string const& filter);

    bool has_forms(x86::CodeSize size) const { return !forms(size).empty(); }
    // A form, any; or one that compilers use.
    Encoded sample(x86::CodeSize);
    Encoded sample_common(x86::CodeSize);
    static Kind kind(x86::Instruction const&);

    // Linear addresses for operands of so many bytes. `daring`: with all kinds of faults; else nearly always fine.
    u64 wild_target(unsigned size, x86::CodeSize);
    u64 tame_target(unsigned size);

    // Patches the encoding's displacement.
    static void set_displacement(Encoded&, i64 displacement);
    static void decode(Encoded&, x86::CodeSize);
    static u64 address(x86::Instruction const&, std::array<u64, 16> const& gpr, u64 next_rip);

private:
    std::vector<x86::OpcodeForm> const& forms(x86::CodeSize size) const { return size == x86::CodeSize::bits64 ? m_forms64 : m_forms32; }
    Encoded sample_from(std::vector<x86::OpcodeForm> const&, x86::CodeSize);
    bool fit_to_run(x86::Instruction const&) const;

    Random& m_random;
    soft::Cpuid const& m_cpuid;
    std::vector<x86::OpcodeForm> m_forms64, m_forms32, m_common64, m_common32;
};

// What the host needs to be told, or answers differently each time, or what would harm the process.
bool unfit_for_host(x86::Instruction const&);

} // namespace anyhyve::random_test
