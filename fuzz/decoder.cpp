// Fuzzes the instruction decoder: any bytes in each code size, with any number of them available.
#include <array>
#include <cstring>
#include <memory>

#include "base/assert.hpp"
#include "base/integer.hpp"
#include "x86/instruction.hpp"

using namespace anyhyve;

namespace {

void check(x86::Instruction const& instruction, u8 const* code, unsigned available)
{
    ASSERT(instruction.info != nullptr, "a decoded instruction has a row");
    ASSERT(instruction.length >= 1 && instruction.length <= 15 && instruction.length <= available, "an instruction has 1 to 15 bytes");
    ASSERT(std::memcmp(instruction.bytes, code, instruction.length) == 0, "an instruction keeps its bytes");
    ASSERT(instruction.immediate_offset + instruction.immediate_size <= instruction.length, "an immediate lies inside");
    ASSERT(instruction.opcode_offset < instruction.length && instruction.modrm_offset < instruction.length, "opcode and ModRM lie inside");
    (void)x86::memory_operand_size(instruction);
    (void)x86::general_registers(instruction);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    for (std::size_t at = 0; at < size; ++at) {
        unsigned const most = static_cast<unsigned>(std::min<std::size_t>(size - at, 16));
        // Of its own size on the heap: reading beyond it is seen by the address sanitizer.
        auto const code = std::make_unique<u8[]>(most);
        std::memcpy(code.get(), data + at, most);
        for (auto const code_size : { x86::CodeSize::bits16, x86::CodeSize::bits32, x86::CodeSize::bits64 }) {
            x86::Instruction whole {};
            auto const status = x86::decode(code.get(), most, code_size, whole);
            if (status != x86::DecodeStatus::ok)
                continue;
            check(whole, code.get(), most);
            // With fewer bytes it is unknown, with exactly its own it is the same.
            x86::Instruction part {};
            ASSERT(x86::decode(code.get(), whole.length, code_size, part) == x86::DecodeStatus::ok && part.info == whole.info
                    && part.length == whole.length,
                "an instruction does not depend on what follows it");
            ASSERT(x86::decode(code.get(), whole.length - 1U, code_size, part) != x86::DecodeStatus::ok, "a cut instruction is none");
        }
    }
    return 0;
}
