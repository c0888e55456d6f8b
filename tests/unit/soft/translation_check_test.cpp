// Every instruction in the tables, between two accesses of one group: the host code of none may take the register that leads to the group's page,
// nor registers of the guest's that it does not name. The translator checks that itself (translation_check.cpp), and ends the test where it is not so.
#include <span>

#include "engine/soft/block.hpp"
#include "engine/soft/host_vector_unit.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/thunks.hpp"
#include "engine/soft/translator.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {
namespace {

class TranslationCheck : public ExecuteMachine {
protected:
    // The instruction's operand beside memory, and the one in VEX.vvvv.
    struct Registers {
        u8 reg, vvvv;
    };
    static constexpr Registers register_choices[] = { { 0, 3 }, { 13, 14 }, { 14, 14 }, { 15, 13 }, { 5, 15 } };
    // What ModRM and its SIB say: [rsi+rcx*8], [rsi+r14*8], [r13+16], r15.
    struct Operand {
        u8 modrm, sib, displacement;
        bool index_extended, base_extended;
    };
    static constexpr Operand operand_choices[] = { { 0x04, 0xce, 0, false, false }, { 0x04, 0xf6, 0, true, false }, { 0x45, 0, 16, false, true }, { 0xc7, 0, 0, false, true } };

    TranslationCheck()
    {
        cpu.cr0 |= x86::cr0::mp;
        mmu->update_mode();
        std::lock_guard lock(cache->lock());
        cache->set_heat(CodeCache::Heat::always);
        cache->set_checks_translations(true);
    }

    // Its bytes behind the opcode.
    static void append_operand(std::vector<u8>& bytes, u8 reg, Operand const& operand)
    {
        bytes.push_back(static_cast<u8>(operand.modrm | (reg & 7) << 3));
        if ((operand.modrm & 0xc7) == 0x04)
            bytes.push_back(operand.sib);
        if ((operand.modrm & 0xc0) == 0x40)
            bytes.push_back(operand.displacement);
        bytes.resize(bytes.size() + 8); // immediates
    }

    // mov rdx,[rsi+rcx*8]; mov rdx,[rsi+16]; the instruction; mov rdx,[rsi+rcx*8+8]; mov rdx,[rsi+8]; hlt
    void translate_between(std::vector<u8> const& bytes)
    {
        x86::Instruction instruction;
        if (x86::decode(bytes.data(), static_cast<unsigned>(std::min<std::size_t>(bytes.size(), 15)), x86::CodeSize::bits64, instruction) != x86::DecodeStatus::ok || instruction.info->operation == x86::Operation::undefined)
            return;
        u64 at = code;
        auto const append = [&](std::span<u8 const> some) {
            for (u8 const byte : some)
                *host(at++) = byte;
        };
        append(std::array<u8, 8> { 0x48, 0x8b, 0x14, 0xce, 0x48, 0x8b, 0x56, 16 });
        append(std::span(bytes).first(instruction.length));
        append(std::array<u8, 10> { 0x48, 0x8b, 0x54, 0xce, 8, 0x48, 0x8b, 0x56, 8, 0xf4 });
        std::lock_guard lock(cache->lock());
        cache->invalidate(code, at - code);
        if (!cache->has_room()) {
            ASSERT_TRUE(cache->try_drop_everything(cpu));
        }
        cpu.rip = code;
        Block* block = nullptr;
        ASSERT_EQ(translator.translate(code, cpu.mode, block), Outcome::next);
        ++m_translated;
    }

    Thunks thunks = Thunks::generate(*cache);
    Translator translator { cpu, *cache, thunks };
    unsigned m_translated = 0;
};

TEST_F(TranslationCheck, LegacyInstructions)
{
    std::vector<u8> const maps[] = { {}, { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
    std::vector<u8> const prefixes[] = { {}, { 0x66 }, { 0xf2 }, { 0xf3 } };
    for (auto const& map : maps) {
        for (auto const& prefix : prefixes) {
            for (unsigned choice = 0; choice < 2 * 256 * std::size(operand_choices) * std::size(register_choices); ++choice) {
                unsigned rest = choice;
                auto const next = [&rest](unsigned count) { return std::exchange(rest, rest / count) % count; };
                bool const wide = next(2) != 0;
                Operand const& operand = operand_choices[next(std::size(operand_choices))];
                u8 const reg = register_choices[next(std::size(register_choices))].reg;
                std::vector<u8> bytes = prefix;
                bytes.push_back(static_cast<u8>(0x40 | wide << 3 | (reg >> 3) << 2 | operand.index_extended << 1 | operand.base_extended));
                bytes.insert(bytes.end(), map.begin(), map.end());
                bytes.push_back(static_cast<u8>(rest));
                append_operand(bytes, reg, operand);
                translate_between(bytes);
            }
        }
    }
    EXPECT_GT(m_translated, 30'000u);
}

TEST_F(TranslationCheck, VexInstructions)
{
    for (unsigned choice = 0; choice < 3 * 2 * 4 * 2 * std::size(operand_choices) * std::size(register_choices) * 256; ++choice) {
        unsigned rest = choice;
        auto const next = [&rest](unsigned count) { return std::exchange(rest, rest / count) % count; };
        unsigned const map = 1 + next(3), wide = next(2), prefix = next(4), length = next(2);
        Operand const& operand = operand_choices[next(std::size(operand_choices))];
        auto const [reg, vvvv] = register_choices[next(std::size(register_choices))];
        u8 const first = static_cast<u8>((reg < 8) << 7 | !operand.index_extended << 6 | !operand.base_extended << 5 | map);
        // Where VEX.vvvv names nothing it must be 1111b.
        for (u8 const second : { static_cast<u8>((vvvv ^ 15) << 3), u8 { 15 << 3 } }) {
            std::vector<u8> bytes { 0xc4, first, static_cast<u8>(wide << 7 | second | length << 2 | prefix), static_cast<u8>(rest) };
            append_operand(bytes, reg, operand);
            translate_between(bytes);
        }
    }
    EXPECT_GT(m_translated, 30'000u);
}

TEST_F(TranslationCheck, EvexInstructions)
{
    if (!(cpu.xcr0 & xcr0::zmm_high256))
        GTEST_SKIP() << "the host has no AVX-512";
    for (unsigned choice = 0; choice < 6 * 2 * 4 * 4 * std::size(operand_choices) * std::size(register_choices) * 256; ++choice) {
        unsigned rest = choice;
        auto const next = [&rest](unsigned count) { return std::exchange(rest, rest / count) % count; };
        unsigned const map = 1 + next(6), wide = next(2), prefix = next(4);
        bool const broadcast = next(2) != 0, masked = next(2) != 0;
        Operand const& operand = operand_choices[next(std::size(operand_choices))];
        auto const [reg, vvvv] = register_choices[next(std::size(register_choices))];
        u8 const first = static_cast<u8>((reg < 8) << 7 | !operand.index_extended << 6 | !operand.base_extended << 5 | 1 << 4 | map);
        for (u8 const second : { static_cast<u8>((vvvv ^ 15) << 3), u8 { 15 << 3 } }) {
            std::vector<u8> bytes { 0x62, first, static_cast<u8>(wide << 7 | second | 4 | prefix), static_cast<u8>(2 << 5 | broadcast << 4 | 1 << 3 | masked), static_cast<u8>(rest) };
            append_operand(bytes, reg, operand);
            translate_between(bytes);
        }
    }
    EXPECT_GT(m_translated, 30'000u);
}

} // namespace
} // namespace anyhyve::soft
