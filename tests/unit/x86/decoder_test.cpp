// The decoder on instructions that are easy to get wrong, one case each.
#include "x86/instruction.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <initializer_list>
#include <sys/mman.h>
#include <vector>

namespace anyhyve::x86 {
namespace {

using Bytes = std::initializer_list<int>;

Instruction decode_in(CodeSize size, Bytes bytes)
{
    std::vector<u8> code(bytes.begin(), bytes.end());
    auto const length = code.size();
    code.resize(32, 0xcc);
    Instruction out;
    EXPECT_EQ(decode(code.data(), 15, size, out), DecodeStatus::ok);
    if (out.info->operation != Operation::undefined) {
        EXPECT_EQ(out.length, length) << out.info->name;
    }
    return out;
}

Instruction decode64(Bytes bytes) { return decode_in(CodeSize::bits64, bytes); }
Instruction decode32(Bytes bytes) { return decode_in(CodeSize::bits32, bytes); }
Instruction decode16(Bytes bytes) { return decode_in(CodeSize::bits16, bytes); }

Operation operation64(Bytes bytes) { return decode64(bytes).info->operation; }
Operation operation32(Bytes bytes) { return decode32(bytes).info->operation; }

TEST(Decoder, RexCountsOnlyBeforeTheOpcode)
{
    EXPECT_EQ(decode64({ 0x48, 0x89, 0xc8 }).operand_size, 8);
    EXPECT_EQ(decode64({ 0x48, 0x66, 0x89, 0xc8 }).operand_size, 2);
    EXPECT_EQ(decode64({ 0x66, 0x48, 0x89, 0xc8 }).operand_size, 8);
    EXPECT_EQ(decode64({ 0x4f, 0x41, 0x89, 0xc8 }).rex, 0x41);
}

TEST(Decoder, PartialWritesReadTheRegister)
{
    EXPECT_EQ(decode64({ 0x8b, 0xc8 }).info->reg_use, use_write);
    EXPECT_EQ(decode64({ 0x66, 0x8b, 0xc8 }).info->reg_use, use_read_write);
    EXPECT_EQ(decode64({ 0x66, 0x48, 0x8b, 0xc8 }).info->reg_use, use_write);
    EXPECT_EQ(decode16({ 0x8b, 0xc8 }).info->reg_use, use_read_write);
    EXPECT_EQ(decode64({ 0x8a, 0xc8 }).info->reg_use, use_read_write);
    EXPECT_EQ(decode64({ 0x0f, 0x94, 0xc0 }).info->rm_use, use_read_write);
    EXPECT_EQ(decode64({ 0x0f, 0x44, 0xc1 }).info->reg_use, use_read_write);
}

TEST(Decoder, NopPauseAndXchgShare90)
{
    EXPECT_EQ(operation64({ 0x90 }), Operation::nop);
    EXPECT_EQ(operation64({ 0xf3, 0x90 }), Operation::pause);
    EXPECT_EQ(operation64({ 0x48, 0x90 }), Operation::nop);
    EXPECT_EQ(operation64({ 0x66, 0x90 }), Operation::nop);
    auto const exchange = decode64({ 0x49, 0x90 });
    EXPECT_EQ(exchange.info->operation, Operation::exchange_accumulator);
    EXPECT_EQ(exchange.rm, 8);
    EXPECT_EQ(decode64({ 0x93 }).rm, 3);
}

TEST(Decoder, ShiftsByZeroKeepFlags)
{
    auto const by_zero = decode64({ 0xc1, 0xe0, 0x20 });
    EXPECT_EQ(by_zero.info->flags_written, 0);
    EXPECT_EQ(by_zero.info->flags_maybe, arithmetic_flags);
    EXPECT_EQ(decode64({ 0x48, 0xc1, 0xe0, 0x20 }).info->flags_written, arithmetic_flags);
    EXPECT_EQ(decode64({ 0xd3, 0xe0 }).info->flags_maybe, arithmetic_flags);
    EXPECT_EQ(decode64({ 0xd3, 0xe0 }).info->implicit_read, 2);
    EXPECT_EQ(decode64({ 0xd1, 0xe0 }).info->flags_written, arithmetic_flags);
    EXPECT_EQ(decode64({ 0xd1, 0xd0 }).info->flags_read, flag_cf);
}

TEST(Decoder, FarAndVexShareOpcodesOutsideOf64BitCode)
{
    EXPECT_EQ(operation32({ 0xc5, 0x08 }), Operation::load_far_pointer);
    EXPECT_EQ(decode32({ 0xc4, 0x08 }).memory_size, 6);
    EXPECT_EQ(decode16({ 0xc4, 0x08 }).memory_size, 4);
    EXPECT_EQ(operation32({ 0x62, 0x08 }), Operation::bound);
    EXPECT_EQ(decode32({ 0x62, 0x08 }).memory_size, 8);
    EXPECT_EQ(decode32({ 0xc5, 0xf8, 0x58, 0xc1 }).encoding, Encoding::vex);
    EXPECT_EQ(decode64({ 0xc5, 0x78, 0x58, 0xc1 }).reg, 8);
}

TEST(Decoder, VexRefusesPrefixesAndUnusedVvvv)
{
    for (int prefix : { 0x66, 0xf2, 0xf3, 0xf0, 0x48 })
        EXPECT_EQ(operation64({ prefix, 0xc5, 0xf8, 0x58, 0xc1 }), Operation::undefined) << prefix;
    EXPECT_EQ(operation64({ 0xc5, 0xf8, 0x28, 0xc1 }), Operation::copy);
    EXPECT_EQ(operation64({ 0xc5, 0xf0, 0x28, 0xc1 }), Operation::undefined);
    EXPECT_EQ(operation64({ 0x8f, 0xe9, 0x78, 0xe1, 0xc8 }), Operation::undefined); // XOP
    EXPECT_EQ(operation64({ 0xc5, 0xfd, 0x6e, 0xc1 }), Operation::undefined); // VMOVD with L = 1
    EXPECT_EQ(operation64({ 0xc5, 0xf9, 0x6e, 0xc1 }), Operation::copy);
}

TEST(Decoder, EvexDisplacementIsScaledByTheOperand)
{
    EXPECT_EQ(decode64({ 0x62, 0xf1, 0x7c, 0x48, 0x58, 0x41, 0x01 }).displacement, 64);
    EXPECT_EQ(decode64({ 0x62, 0xf1, 0x7c, 0x58, 0x58, 0x41, 0x01 }).displacement, 4);
    EXPECT_EQ(decode64({ 0x62, 0xf1, 0x7c, 0x28, 0x5a, 0x41, 0x01 }).displacement, 16); // VCVTPS2PD ymm, m128
    auto const compress = decode64({ 0x62, 0xf2, 0x7d, 0x48, 0x8a, 0x41, 0x01 });
    EXPECT_EQ(compress.displacement, 4);
    EXPECT_EQ(compress.memory_size, 64);
    EXPECT_EQ(decode64({ 0x62, 0xf1, 0x7c, 0x48, 0x58, 0x81, 1, 0, 0, 0 }).displacement, 1);
}

TEST(Decoder, EvexRules)
{
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x88, 0x58, 0xc1 }), Operation::undefined); // z without a mask
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x89, 0x58, 0xc1 }), Operation::copy);
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x89, 0x29, 0x01 }), Operation::undefined); // z on a store
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x68, 0x58, 0xc1 }), Operation::undefined); // L'L = 3
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x78, 0x58, 0xc1 }), Operation::copy);      // L'L is the rounding mode
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x18, 0x28, 0xc1 }), Operation::undefined); // no rounding in VMOVAPS
    EXPECT_EQ(operation64({ 0x62, 0xf1, 0x7c, 0x18, 0x28, 0x01 }), Operation::undefined); // nor broadcast
    auto const high = decode64({ 0x62, 0x01, 0x04, 0x00, 0x58, 0xff });
    EXPECT_EQ(high.reg, 31);
    EXPECT_EQ(high.rm, 31);
    EXPECT_EQ(high.vvvv, 31);
}

TEST(Decoder, MasksOfMemoryOperands)
{
    EXPECT_FALSE(is_masked(decode64({ 0x62, 0xe1, 0xfe, 0x48, 0x6f, 0x0e }))); // VMOVDQU64 ZMM17, [RSI]
    EXPECT_TRUE(is_masked(decode64({ 0x62, 0xe1, 0xfe, 0x49, 0x6f, 0x0e })));  // the same by K1
    EXPECT_TRUE(is_masked(decode64({ 0xc4, 0xe2, 0x75, 0x2c, 0x06 })));        // VMASKMOVPS
    EXPECT_FALSE(is_masked(decode64({ 0xc5, 0xfe, 0x6f, 0x06 })));             // VMOVDQU
}

TEST(Decoder, MemoryWidths)
{
    EXPECT_EQ(decode64({ 0x0f, 0x12, 0x00 }).memory_size, 8);                     // MOVLPS
    EXPECT_EQ(decode64({ 0x66, 0x0f, 0x3a, 0x20, 0x00, 0x01 }).memory_size, 1);   // PINSRB
    EXPECT_EQ(decode64({ 0xc4, 0xe2, 0x7d, 0x18, 0x00 }).memory_size, 4);         // VBROADCASTSS ymm
    EXPECT_EQ(decode64({ 0xdb, 0x28 }).memory_size, 10);                          // FLD m80
    EXPECT_EQ(decode64({ 0xdf, 0x30 }).memory_size, 10);                          // FBSTP
    EXPECT_EQ(decode64({ 0xd9, 0x38 }).memory_size, 2);                           // FNSTCW
    EXPECT_EQ(decode64({ 0x48, 0x0f, 0xc7, 0x08 }).memory_size, 16);              // CMPXCHG16B
    EXPECT_EQ(decode64({ 0xf2, 0x0f, 0x12, 0x00 }).memory_size, 8);               // MOVDDUP
    EXPECT_EQ(decode64({ 0xc5, 0xff, 0x12, 0x00 }).memory_size, 32);              // VMOVDDUP ymm
    EXPECT_EQ(decode64({ 0xc5, 0xfd, 0xd1, 0x00 }).memory_size, 16);              // VPSRLW ymm, ymm, m128
    EXPECT_EQ(decode64({ 0xc4, 0xe3, 0x7d, 0x39, 0x00, 0x01 }).memory_size, 16);  // VEXTRACTI128
    EXPECT_EQ(decode64({ 0x0f, 0xae, 0x18 }).memory_size, 4);                     // STMXCSR
    EXPECT_EQ(decode64({ 0x62, 0xf2, 0x7e, 0x48, 0x31, 0x00 }).memory_size, 16);  // VPMOVDB m128, zmm
    EXPECT_EQ(decode64({ 0x0f, 0x01, 0x10 }).memory_size, 10);                    // LGDT
    EXPECT_EQ(memory_operand_size(decode64({ 0x0f, 0xae, 0x00 })), 512u);         // FXSAVE
    EXPECT_EQ(decode64({ 0x0f, 0xb6, 0x00 }).memory_size, 1);
    EXPECT_EQ(decode64({ 0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x00 }).memory_size, 8);   // CRC32
    EXPECT_EQ(decode64({ 0x66, 0xf2, 0x0f, 0x38, 0xf1, 0x00 }).memory_size, 2);
}

TEST(Decoder, MemoryAccessKinds)
{
    EXPECT_EQ(decode64({ 0x0f, 0xb1, 0x08 }).info->memory, MemoryAccess::read_write); // CMPXCHG
    EXPECT_EQ(decode64({ 0x0f, 0xc1, 0x08 }).info->memory, MemoryAccess::read_write); // XADD
    EXPECT_EQ(decode64({ 0x0f, 0x94, 0x00 }).info->memory, MemoryAccess::write);      // SETE
    EXPECT_EQ(decode64({ 0x0f, 0xba, 0x20, 0x01 }).info->memory, MemoryAccess::read); // BT m, imm
    EXPECT_EQ(decode64({ 0x0f, 0xba, 0x28, 0x01 }).info->memory, MemoryAccess::read_write);
    EXPECT_EQ(decode64({ 0x0f, 0x01, 0x38 }).info->memory, MemoryAccess::address_only); // INVLPG
    EXPECT_EQ(decode64({ 0x0f, 0xae, 0x38 }).info->memory, MemoryAccess::read);         // CLFLUSH
    EXPECT_EQ(operation64({ 0x0f, 0xa3, 0x08 }), Operation::bit_test_memory);
    EXPECT_EQ(operation64({ 0x0f, 0xa3, 0xc8 }), Operation::copy);
}

TEST(Decoder, Alignment)
{
    EXPECT_EQ(decode64({ 0x0f, 0x58, 0x00 }).info->alignment, 16);
    EXPECT_EQ(decode64({ 0x0f, 0x10, 0x00 }).info->alignment, 0);
    EXPECT_EQ(decode64({ 0xf3, 0x0f, 0x58, 0x00 }).info->alignment, 0);
    EXPECT_EQ(decode64({ 0x66, 0x0f, 0x3a, 0x63, 0x00, 0x01 }).info->alignment, 0); // PCMPISTRI
    EXPECT_EQ(decode64({ 0xc5, 0xfc, 0x58, 0x00 }).info->alignment, 0);
    EXPECT_EQ(decode64({ 0xc5, 0xfc, 0x28, 0x00 }).info->alignment, 32);
    EXPECT_EQ(decode64({ 0x62, 0xf1, 0x7c, 0x48, 0x28, 0x00 }).info->alignment, 64);
    EXPECT_EQ(decode64({ 0x48, 0x0f, 0xc7, 0x08 }).info->alignment, 16);
    EXPECT_EQ(decode64({ 0x0f, 0xc7, 0x08 }).info->alignment, 0);
}

TEST(Decoder, Lock)
{
    EXPECT_EQ(operation64({ 0xf0, 0x01, 0x08 }), Operation::copy);
    EXPECT_EQ(operation64({ 0xf0, 0x01, 0xc8 }), Operation::undefined);
    EXPECT_EQ(operation64({ 0xf0, 0x03, 0x08 }), Operation::undefined);
    EXPECT_EQ(operation64({ 0xf0, 0x39, 0x08 }), Operation::undefined); // CMP
    EXPECT_EQ(operation64({ 0xf0, 0x0f, 0x20, 0xc0 }), Operation::undefined); // AMD's CR8
    EXPECT_EQ(operation64({ 0xf0, 0x0f, 0xc7, 0x08 }), Operation::copy);
    EXPECT_EQ(operation64({ 0xf0, 0x0f, 0xab, 0x08 }), Operation::bit_test_memory);
}

TEST(Decoder, OperandSizesOf64BitCode)
{
    EXPECT_EQ(decode64({ 0x50 }).operand_size, 8);
    EXPECT_EQ(decode64({ 0x66, 0x50 }).operand_size, 2);
    auto const jump = decode64({ 0x66, 0xe9, 1, 0, 0, 0 }); // 66 is ignored, as on Intel's CPUs
    EXPECT_EQ(jump.operand_size, 8);
    EXPECT_EQ(jump.immediate, 1u);
    EXPECT_EQ(decode32({ 0x66, 0xe9, 1, 0 }).operand_size, 2);
    EXPECT_EQ(decode64({ 0x66, 0x0f, 0x20, 0xc0 }).operand_size, 8);
    EXPECT_EQ(decode64({ 0x66, 0x0f, 0x6e, 0xc0 }).operand_size, 4);
    EXPECT_EQ(decode64({ 0xc8, 0x10, 0x00, 0x02 }).immediate2, 2);
    EXPECT_EQ(decode64({ 0x68, 0xff, 0xff, 0xff, 0xff }).immediate, ~u64 {});
}

TEST(Decoder, MovesToAndFromControlRegistersIgnoreMod)
{
    auto const move = decode64({ 0x0f, 0x22, 0x44 });
    EXPECT_EQ(move.info->operation, Operation::move_to_control);
    EXPECT_EQ(move.reg, 0);
    EXPECT_EQ(move.rm, 4);
    EXPECT_EQ(decode64({ 0x0f, 0x22, 0x1c }).reg, 3);
    EXPECT_FALSE(decode64({ 0x0f, 0x22, 0x1c }).has_memory);
    EXPECT_EQ(decode64({ 0x44, 0x0f, 0x20, 0xc0 }).reg, 8);
    EXPECT_EQ(operation64({ 0x0f, 0x20, 0xc8 }), Operation::undefined); // CR1
}

TEST(Decoder, SegmentRegisters)
{
    EXPECT_EQ(operation64({ 0x8e, 0xd8 }), Operation::move_to_segment);
    EXPECT_EQ(operation64({ 0x8e, 0xc8 }), Operation::undefined); // CS
    EXPECT_EQ(operation64({ 0x8c, 0xc8 }), Operation::move_from_segment);
    EXPECT_EQ(operation64({ 0x8c, 0xf0 }), Operation::undefined);
    EXPECT_EQ(decode64({ 0x48, 0x8c, 0x00 }).memory_size, 2);
}

TEST(Decoder, Addressing)
{
    auto const sib = decode64({ 0x42, 0x8b, 0x44, 0x65, 0x10 });
    EXPECT_EQ(sib.base, 5);
    EXPECT_EQ(sib.index, 12);
    EXPECT_EQ(sib.scale, 2);
    EXPECT_EQ(sib.segment, Segment::ss);
    EXPECT_EQ(decode64({ 0x41, 0x8b, 0x45, 0x00 }).segment, Segment::ds); // R13
    EXPECT_TRUE(decode64({ 0x8b, 0x05, 1, 0, 0, 0 }).rip_relative);
    EXPECT_FALSE(decode64({ 0x8b, 0x04, 0x25, 1, 0, 0, 0 }).rip_relative);
    EXPECT_EQ(decode64({ 0x41, 0x8b, 0x04, 0x25, 1, 0, 0, 0 }).base, 0xff); // REX.B does not make base 5 of mod 0 R13
    EXPECT_EQ(decode64({ 0x26, 0x8b, 0x00 }).segment, Segment::ds);         // ES does not count in 64-bit code
    EXPECT_EQ(decode64({ 0x65, 0x2e, 0x8b, 0x00 }).segment, Segment::gs);
    auto const real = decode16({ 0x8b, 0x42, 0xfe });
    EXPECT_EQ(real.base, 5);
    EXPECT_EQ(real.index, 6);
    EXPECT_EQ(real.displacement, -2);
    EXPECT_EQ(real.segment, Segment::ss);
    EXPECT_EQ(decode16({ 0x8b, 0x06, 0x34, 0x12 }).displacement, 0x1234);
    EXPECT_EQ(decode16({ 0x67, 0x8b, 0x04, 0x24 }).base, 4);
}

TEST(Decoder, MoveOffset)
{
    auto const move = decode64({ 0x65, 0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8 });
    EXPECT_EQ(move.info->operation, Operation::move_offset);
    EXPECT_TRUE(move.has_memory);
    EXPECT_EQ(move.displacement, 0x0807060504030201);
    EXPECT_EQ(move.segment, Segment::gs);
    EXPECT_EQ(move.memory_size, 8);
    EXPECT_EQ(decode64({ 0x67, 0xa1, 0, 0, 0, 0x80 }).displacement, 0x80000000);
    EXPECT_EQ(decode16({ 0xa2, 0xff, 0xff }).displacement, 0xffff);
}

TEST(Decoder, FarPointers)
{
    auto const jump = decode32({ 0xea, 1, 2, 3, 4, 5, 6 });
    EXPECT_EQ(jump.immediate, 0x04030201u);
    EXPECT_EQ(jump.immediate2, 0x0605);
    EXPECT_EQ(operation64({ 0xea, 1, 2, 3, 4, 5, 6 }), Operation::undefined);
    EXPECT_EQ(decode64({ 0x48, 0xff, 0x28 }).memory_size, 10);
    EXPECT_EQ(operation64({ 0xff, 0xe8 }), Operation::undefined);
}

TEST(Decoder, UndefinedByPolicy)
{
    for (auto bytes : std::initializer_list<Bytes> { { 0xc6, 0xf8, 0x00 }, { 0x0f, 0x01, 0xc1 }, { 0x0f, 0x01, 0xd9 }, { 0x0f, 0x01, 0xcf }, { 0x0f, 0xaa }, { 0x0f, 0x0b }, { 0x0f, 0xff, 0xc0 },
             { 0x0f, 0x0f, 0xc1, 0x9e }, { 0xf3, 0x0f, 0xae, 0xe0 }, { 0x66, 0x0f, 0x38, 0xf8, 0x00 }, { 0xc4, 0xe2, 0x7b, 0x49, 0xc0 }, { 0xf3, 0x0f, 0x01, 0x28 } })
        EXPECT_EQ(operation64(bytes), Operation::undefined);
    for (auto bytes : std::initializer_list<Bytes> { { 0xf3, 0x0f, 0x1e, 0xfa }, { 0xf3, 0x48, 0x0f, 0x1e, 0xc8 }, { 0x0f, 0x18, 0x08 }, { 0x0f, 0x1f, 0x44, 0x00, 0x00 }, { 0x0f, 0x0d, 0x08 } })
        EXPECT_EQ(operation64(bytes), Operation::nop);
}

TEST(Decoder, LengthLimit)
{
    u8 prefixes[32];
    std::memset(prefixes, 0x66, sizeof prefixes);
    Instruction out;
    EXPECT_EQ(decode(prefixes, 32, CodeSize::bits64, out), DecodeStatus::too_long);
    EXPECT_EQ(decode(prefixes, 15, CodeSize::bits64, out), DecodeStatus::too_long);
    EXPECT_EQ(decode(prefixes, 14, CodeSize::bits64, out), DecodeStatus::need_more);
    prefixes[14] = 0x90;
    EXPECT_EQ(decode(prefixes, 15, CodeSize::bits64, out), DecodeStatus::ok);
    EXPECT_EQ(out.length, 15);
    prefixes[13] = 0x89;
    prefixes[14] = 0x44; // needs SIB and displacement
    EXPECT_EQ(decode(prefixes, 32, CodeSize::bits64, out), DecodeStatus::too_long);
}

// The bytes end where the next page is not mapped.
TEST(Decoder, NeverReadsBeyondWhatIsAvailable)
{
    constexpr std::size_t page = 4096;
    // SAFETY: two fresh pages, the second without access; unmapped below.
    auto* const memory = static_cast<u8*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory, MAP_FAILED);
    ASSERT_EQ(mprotect(memory + page, page, PROT_NONE), 0);
    u8 const whole[] = { 0x67, 0x48, 0xc7, 0x84, 0xcb, 1, 2, 3, 4, 5, 6, 7, 8 };
    for (unsigned length = 0; length <= sizeof whole; ++length) {
        auto* const code = memory + page - length;
        std::memcpy(code, whole, length);
        Instruction out;
        EXPECT_EQ(decode(code, length, CodeSize::bits64, out), length < sizeof whole ? DecodeStatus::need_more : DecodeStatus::ok) << length;
    }
    munmap(memory, 2 * page);
}

} // namespace
} // namespace anyhyve::x86
