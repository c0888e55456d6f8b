// The most host code that a block of guest code can become: a guest chooses its instructions, and must not find one that does not fit.
#include "engine/soft/block.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/thunks.hpp"
#include "engine/soft/translator.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {
namespace {

class BlockSize : public ExecuteMachine {
protected:
    static constexpr u64 room = 64 * KiB, count = 64;
    enum class Slots : u8 { pages, runs, none };

    struct Sample {
        std::vector<u8> bytes;
        unsigned displacement_at = 0; // of 4 bytes; 0: none. Each is in a page of its own, so that checks are not shared.
    };

    void put_instructions(Sample const& sample)
    {
        u64 at = code;
        for (u32 i = 0; i < count; ++i) {
            for (u8 const byte : sample.bytes)
                put<u8>(at++, byte);
            if (sample.displacement_at != 0)
                put<u32>(at - sample.bytes.size() + sample.displacement_at, i << 12);
        }
    }
    // Host bytes of a hot block of so many times this instruction, whose accesses have slots of that kind.
    u64 translate(Sample const& sample, Slots slots)
    {
        put_instructions(sample);
        std::lock_guard lock(cache->lock());
        cache->set_heat(CodeCache::Heat::always);
        cache->set_checks_translations(true);
        Block nobody;
        nobody.valid = false;
        for (u64 at = code; at < code + count * sample.bytes.size(); at += sample.bytes.size()) {
            if (slots == Slots::runs)
                cache->note_straying(nobody, at);
            if (slots == Slots::none)
                cache->note_wandering(nobody, at);
        }
        cpu.rip = code;
        Block* block = nullptr;
        EXPECT_EQ(translator.translate(code, cpu.mode, block), Outcome::next);
        EXPECT_TRUE(block->hot);
        return static_cast<u64>(block->code_end - block->code_begin);
    }

    Thunks thunks = Thunks::generate(*cache);
    Translator translator { cpu, *cache, thunks };
};

TEST_F(BlockSize, HasRoomForTheLargestInstructions)
{
    Sample const samples[] = {
        { { 0xff, 0xb4, 0xc8, 0, 0, 0, 0 }, 3 },                   // push qword [rax+rcx*8+d]
        { { 0x42, 0xff, 0xb4, 0xe8, 0, 0, 0, 0 }, 4 },             // push qword [rax+r13*8+d]
        { { 0x8f, 0x84, 0xc8, 0, 0, 0, 0 }, 3 },                   // pop qword [rax+rcx*8+d]
        { { 0x43, 0x8f, 0x84, 0xec, 0, 0, 0, 0 }, 4 },             // pop qword [r12+r13*8+d]
        { { 0xf0, 0x48, 0x11, 0x94, 0xc8, 0, 0, 0, 0 }, 5 },       // lock adc [rax+rcx*8+d],rdx
        { { 0xf0, 0x4f, 0x11, 0xac, 0xf5, 0, 0, 0, 0 }, 5 },       // lock adc [r13+r14*8+d],r13
        { { 0xf0, 0x4f, 0x0f, 0xb1, 0xac, 0xf5, 0, 0, 0, 0 }, 6 }, // lock cmpxchg [r13+r14*8+d],r13
        { { 0x65, 0x4f, 0x11, 0xac, 0xf5, 0, 0, 0, 0 }, 5 },       // adc gs:[r13+r14*8+d],r13
        { { 0x4f, 0x0f, 0xab, 0xac, 0xf5, 0, 0, 0, 0 }, 5 },       // bts [r13+r14*8+d],r13
        { { 0x62, 0xe1, 0xfe, 0x48, 0x7f, 0x84, 0xc8, 0, 0, 0, 0 }, 7 }, // vmovdqu64 [rax+rcx*8+d],zmm16
        { { 0xc4, 0x02, 0x93, 0xf6, 0xb4, 0xf5, 0, 0, 0, 0 }, 6 }, // mulx r14,r13,[r13+r14*8+d]
        { { 0x43, 0xf6, 0xa4, 0xf5, 0, 0, 0, 0 }, 4 },             // mul byte [r13+r14*8+d]
        { { 0xd9, 0xb6, 0, 0, 0, 0 }, 2 },                         // fnstenv [rsi+d]
        { { 0xc9 } },                                              // leave
        { { 0x41, 0x55 } },                                        // push r13
        { { 0xa4 } },                                              // movsb
        { { 0x0f, 0x01, 0xf8 } },                                  // swapgs
        { { 0x9c } },                                              // pushf
    };
    for (auto const& sample : samples) {
        for (auto const slots : { Slots::pages, Slots::runs, Slots::none }) {
            EXPECT_LT(translate(sample, slots), room) << int { sample.bytes[0] } << ' ' << int { sample.bytes[1] };
        }
    }
}

} // namespace
} // namespace anyhyve::soft
