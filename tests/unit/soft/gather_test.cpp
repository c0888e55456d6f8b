// Gathers, scatters and masked byte stores: the same bytes on the host's CPU give the same registers and memory.
#include "vector_live_machine.hpp"

namespace anyhyve::soft {

using namespace x86;

class Gather : public VectorLiveMachine {
protected:
    void SetUp() override
    {
        if (!cpuid->has(Feature::avx2))
            GTEST_SKIP() << "the host has no AVX2";
        for (unsigned i = 0; i < 0x4000; ++i)
            *host(data + i) = static_cast<u8>(random());
    }
    // Small indices in register 1, for elements of either size; random top bits in register 3.
    VectorStateImage state_with_indices(unsigned index_size)
    {
        VectorStateImage state = random_state();
        for (unsigned i = 0; i < 64 / index_size; ++i) {
            i64 const index = static_cast<i64>(random() % 0x200) - 0x80;
            unsigned const byte = i * index_size;
            u8* const to = byte < 16 ? vector_register(state, 1) + byte : byte < 32 ? vector_register_high(state, 1) + byte - 16 : vector_register_top(state, 1) + byte - 32;
            if (byte < 32 || (mask & xcr0::avx512))
                std::memcpy(to, &index, index_size);
        }
        return state;
    }
    // op DST=2, [RBX + index 1 * 4 + 0x10], mask 3.
    static std::vector<u8> vex(u8 opcode, bool w, bool l) { return { 0xc4, 0xe2, static_cast<u8>((w ? 0x80 : 0) | (~3u & 15) << 3 | (l ? 4 : 0) | 1), opcode, 0x54, 0x8b, 0x10 }; }
    static std::vector<u8> evex(u8 opcode, bool w, unsigned length) { return { 0x62, 0xf2, static_cast<u8>((w ? 0x80 : 0) | 0x7d), static_cast<u8>(length << 5 | 0x08 | 3), opcode, 0x54, 0x8b, 0x04 }; }

    void compare(std::vector<u8> const& bytes, unsigned index_size, unsigned round)
    {
        VectorStateImage guest = state_with_indices(index_size), native = guest;
        std::vector<u8> const before(host(data), host(data) + 0x4000);
        execute_native(bytes, native, host(data + 0x1000));
        std::vector<u8> const after(host(data), host(data) + 0x4000);
        std::memcpy(host(data), before.data(), before.size());
        cpu.gpr[rbx] = data + 0x1000;
        ASSERT_EQ(execute_live(bytes, guest), Outcome::next);
        expect_same(guest, native, round);
        ASSERT_TRUE(std::equal(after.begin(), after.end(), host(data))) << round;
    }
};

TEST_F(Gather, MaskedByVector)
{
    for (unsigned round = 0; round < 400; ++round) {
        u8 const opcode = static_cast<u8>(0x90 + round % 4);
        compare(vex(opcode, round & 4, round & 8), opcode & 1 ? 8 : 4, round);
    }
}

TEST_F(Gather, MaskedByOpmask)
{
    if (!cpuid->has(Feature::avx512vl))
        GTEST_SKIP() << "the host has no AVX-512";
    for (unsigned round = 0; round < 600; ++round) {
        u8 const opcode = static_cast<u8>((round & 8 ? 0xa0 : 0x90) + round % 4);
        compare(evex(opcode, round & 4, round / 16 % 3), opcode & 1 ? 8 : 4, round);
    }
}

TEST_F(Gather, FaultKeepsWhatIsDone)
{
    VectorStateImage state = random_state();
    u32 const indices[4] = { 0, 1, 0x400, 2 }; // the third one lies in a missing page
    std::memcpy(vector_register(state, 1), indices, sizeof indices);
    std::memset(vector_register(state, 3), 0xff, 16);
    VectorStateImage const before = state;
    put<u32>(data + 0x10, 0x11111111);
    put<u32>(data + 0x14, 0x22222222);
    map_page(data + 0x1000, 0);
    cpu.gpr[rbx] = data;
    expect_fault(execute_live(vex(0x90, false, false), state), vector::page_fault);
    EXPECT_EQ(cpu.fault.address, data + 0x1010);
    u32 result[4], left[4];
    std::memcpy(result, vector_register(state, 2), sizeof result);
    std::memcpy(left, vector_register(state, 3), sizeof left);
    EXPECT_EQ(result[0], 0x11111111u);
    EXPECT_EQ(result[1], 0x22222222u);
    EXPECT_EQ(std::memcmp(result + 2, before.bytes.data() + 160 + 2 * 16 + 8, 8), 0);
    EXPECT_THAT(left, testing::ElementsAre(0u, 0u, 0xffffffffu, 0xffffffffu));
    map_page(data + 0x1000, (data + 0x1000) | 7);
    EXPECT_EQ(execute_live(vex(0x90, false, false), state), Outcome::next);
    std::memcpy(left, vector_register(state, 3), sizeof left);
    EXPECT_THAT(left, testing::ElementsAre(0u, 0u, 0u, 0u));
}

TEST_F(Gather, MaskedBytes)
{
    std::vector<u8> const sse { 0x66, 0x0f, 0xf7, 0xd1 }, vex_form { 0xc5, 0xf9, 0xf7, 0xd1 }, mmx { 0x0f, 0xf7, 0xd1 };
    for (unsigned round = 0; round < 300; ++round) {
        auto const& bytes = round % 3 == 0 ? sse : round % 3 == 1 ? vex_form : mmx;
        VectorStateImage guest = random_state(), native = guest;
        u64 const address = data + 0xff0 + random() % 32;
        std::vector<u8> const before(host(data), host(data) + 0x2000);
        execute_native(bytes, native, host(address));
        std::vector<u8> const after(host(data), host(data) + 0x2000);
        std::memcpy(host(data), before.data(), before.size());
        cpu.gpr[rdi] = address;
        ASSERT_EQ(execute_live(bytes, guest), Outcome::next);
        expect_same(guest, native, round);
        ASSERT_EQ(guest.bytes[4], native.bytes[4]) << "x87 tags";
        ASSERT_TRUE(std::equal(after.begin(), after.end(), host(data))) << round;
    }
    // Bytes that are not chosen may lie in a missing page.
    map_page(data + 0x1000, 0);
    VectorStateImage state = random_state();
    std::memset(vector_register(state, 1), 0, 16);
    vector_register(state, 1)[3] = 0x80;
    cpu.gpr[rdi] = data + 0xffc;
    EXPECT_EQ(execute_live(sse, state), Outcome::next);
    vector_register(state, 1)[4] = 0x80;
    expect_fault(execute_live(sse, state), vector::page_fault);
}

} // namespace anyhyve::soft
