// Tests of the snapshot format: round trips, damage, strangers, and the checks on a vCPU's state.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "vmm/cpu_state_codec.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

namespace {
struct Part final : Persistent {
    explicit Part(std::string part_name) : name(std::move(part_name)) {}
    std::string_view state_name() const override { return name; }
    u32 state_version() const override { return 3; }
    void save(Encoder& encoder) const override { encoder.put_u32(value); }
    Result<void> restore(Decoder& decoder, u32) override
    {
        u32 const read = decoder.get_u32();
        if (read == 666)
            return Error("666 is no value");
        value = read;
        return {};
    }
    void reset() override { value = 0; }
    std::string name;
    u32 value = 0;
};
} // namespace

TEST(EncoderTest, ValuesComeBack)
{
    Encoder encoder;
    encoder.put_u8(1);
    encoder.put_u16(0x203);
    encoder.put_u32(0x4050607);
    encoder.put_u64(0x8090a0b0c0d0e0f);
    encoder.put_bool(true);
    encoder.put_bytes(std::vector<u8> { 1, 2, 3 });
    encoder.put_string("text");
    encoder.put_bytes(std::vector<u8> { 9 });
    EXPECT_EQ(encoder.bytes()[1], 3); // little-endian
    Decoder decoder(encoder.bytes());
    EXPECT_EQ(decoder.get_u8(), 1);
    EXPECT_EQ(decoder.get_u16(), 0x203);
    EXPECT_EQ(decoder.get_u32(), 0x4050607u);
    EXPECT_EQ(decoder.get_u64(), 0x8090a0b0c0d0e0fu);
    EXPECT_TRUE(decoder.get_bool());
    std::array<u8, 3> three {};
    decoder.get_bytes(three);
    EXPECT_EQ(three[2], 3);
    EXPECT_EQ(decoder.get_string(10), "text");
    EXPECT_EQ(decoder.get_vector(1), std::vector<u8> { 9 });
    EXPECT_TRUE(decoder.ok());
    EXPECT_TRUE(decoder.at_end());
}

TEST(DecoderTest, GivesZerosBeyondTheEnd)
{
    std::vector<u8> const bytes { 1, 2, 3 };
    Decoder decoder(bytes);
    EXPECT_EQ(decoder.get_u32(), 0u);
    EXPECT_FALSE(decoder.ok());
    EXPECT_EQ(decoder.get_u8(), 0); // stays failed
    EXPECT_EQ(decoder.get_string(100), "");

    Encoder long_text;
    long_text.put_string("0123456789");
    Decoder short_limit(long_text.bytes());
    EXPECT_EQ(short_limit.get_string(9), "");
    EXPECT_FALSE(short_limit.ok());

    Encoder lie;
    lie.put_u64(~u64 { 0 });
    Decoder liar(lie.bytes());
    EXPECT_TRUE(liar.get_vector(~u64 { 0 }).empty());
    EXPECT_FALSE(liar.ok());
    Decoder other(lie.bytes());
    std::array<u8, 2> out { 1, 1 };
    other.get_bytes(out);
    EXPECT_FALSE(other.ok());
    EXPECT_EQ(out[0], 0);
}

TEST(SnapshotTest, ChunksComeBack)
{
    std::vector<Chunk> const chunks { { "one", 1, { 1, 2, 3 } }, { "two", 7, {} }, { "three", 2, std::vector<u8>(5000, 0x5a) } };
    auto const decoded = decode_chunks(encode_chunks(chunks), "file");
    ASSERT_TRUE(decoded.ok()) << decoded.error().message();
    ASSERT_EQ(decoded.value().size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(decoded.value()[i].name, chunks[i].name);
        EXPECT_EQ(decoded.value()[i].version, chunks[i].version);
        EXPECT_EQ(decoded.value()[i].bytes, chunks[i].bytes);
    }
}

TEST(SnapshotTest, EveryFlippedBitAndEveryCutIsNoticed)
{
    auto const file = encode_chunks({ { "ioapic", 1, { 1, 2, 3, 4, 5 } }, { "uart", 1, { 6, 7 } } });
    for (std::size_t i = 0; i < file.size(); ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            auto damaged = file;
            damaged[i] ^= static_cast<u8>(1 << bit);
            EXPECT_FALSE(decode_chunks(damaged, "file").ok()) << "byte " << i << " bit " << bit;
        }
        EXPECT_FALSE(decode_chunks(std::span(file).first(i), "file").ok()) << "cut at " << i;
    }
    auto longer = file;
    longer.push_back(0);
    EXPECT_FALSE(decode_chunks(longer, "file").ok());
}

TEST(SnapshotTest, RefusesGarbageQuickly)
{
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        auto file = encode_chunks({});
        file.resize(8 + random() % 200);
        for (std::size_t i = 8; i < file.size(); ++i)
            file[i] = static_cast<u8>(round % 2 && i < 12 ? (i == 8) : random());
        EXPECT_FALSE(decode_chunks(file, "file").ok());
    }
}

TEST(SnapshotTest, NamesWhatIsDamagedUnknownOrMissing)
{
    Part a("ioapic"), b("uart");
    a.value = 5;
    b.value = 6;
    auto const file = save_all({ &a, &b });
    Part a2("ioapic"), b2("uart"), c2("hpet");
    EXPECT_TRUE(restore_all(file, { &b2, &a2 }, "state").ok());
    EXPECT_EQ(a2.value, 5u);
    EXPECT_EQ(b2.value, 6u);
    auto const unknown = restore_all(file, { &a2 }, "state");
    EXPECT_EQ(unknown.error().message(), "state: it holds the state of 'uart', which this machine does not have");
    auto const missing = restore_all(file, { &a2, &b2, &c2 }, "state");
    EXPECT_EQ(missing.error().message(), "state: it holds no state of 'hpet', which this machine has");
    auto damaged = file;
    damaged.back() ^= 1;
    EXPECT_EQ(restore_all(damaged, { &a2, &b2 }, "state").error().message(), "state: the state of 'uart' is damaged (its CRC does not match)");
    EXPECT_EQ(a2.value, 5u); // nothing changed
}

TEST(SnapshotTest, APartThatFailsResetsTheMachine)
{
    Part a("a"), b("b");
    a.value = 1;
    b.value = 666;
    auto const file = save_all({ &a, &b });
    b.value = 2;
    auto const failed = restore_all(file, { &a, &b }, "state");
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().message(), "state: the state of 'b' cannot be used: 666 is no value");
    EXPECT_EQ(a.value, 0u);
    EXPECT_EQ(b.value, 0u);

    EXPECT_FALSE(restore_all(encode_chunks({ { "a", 3, { 1, 2, 3 } } }), { &a }, "state").ok());          // too short
    EXPECT_FALSE(restore_all(encode_chunks({ { "a", 3, { 1, 2, 3, 4, 5 } } }), { &a }, "state").ok());    // too long
    EXPECT_FALSE(restore_all(encode_chunks({ { "a", 4, { 1, 2, 3, 4 } } }), { &a }, "state").ok());       // from the future
    EXPECT_TRUE(restore_all(encode_chunks({ { "a", 2, { 1, 2, 3, 4 } } }), { &a }, "state").ok());
    EXPECT_FALSE(decode_chunks(encode_chunks({ { "a", 1, {} }, { "a", 1, {} } }), "state").ok());         // twice
}

static CpuState example()
{
    CpuState state = CpuState::after_reset(true);
    for (u64 i = 0; i < 16; ++i)
        state.gpr[i] = 0x1111111111111111 * i;
    state.cr0 |= x86::cr0::pe | x86::cr0::pg;
    state.cr4 = x86::cr4::pae;
    state.efer = x86::efer::lme | x86::efer::lma | x86::efer::sce;
    state.rip = 0xffffffff81000000;
    state.lstar = 0xffffffff81000100;
    state.xcr0 = 0x207;
    state.pkru = 0x55555554;
    state.pkrs = 0xc;
    state.xsave[512] = 7;
    state.xsave[4095] = 0x77;
    state.segments[2] = { 0x18, 0xc093, 0xffffffff, 0x1234 };
    state.activity = Activity::halted;
    state.nmi_blocked = true;
    return state;
}

static bool same(CpuState const& a, CpuState const& b)
{
    Encoder first, second;
    encode_cpu_state(a, first);
    encode_cpu_state(b, second);
    return first.bytes() == second.bytes();
}

TEST(CpuStateCodecTest, ComesBackWhole)
{
    Encoder encoder;
    encode_cpu_state(example(), encoder);
    Decoder decoder(encoder.bytes());
    CpuState state;
    auto const decoded = decode_cpu_state(decoder, cpu_state_version, state);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message();
    EXPECT_TRUE(decoder.at_end());
    EXPECT_TRUE(same(state, example()));
    EXPECT_EQ(state.gpr[15], 0xffffffffffffffffu);
    EXPECT_EQ(state.segments[2].base, 0x1234u);
    EXPECT_EQ(state.activity, Activity::halted);
    EXPECT_EQ(state.pkru, 0x55555554u);
    EXPECT_EQ(state.pkrs, 0xcu);
    EXPECT_TRUE(check_cpu_state(CpuState::after_reset(true)).ok());
    EXPECT_TRUE(check_cpu_state(CpuState::after_reset(false)).ok());
}

TEST(CpuStateCodecTest, RefusesWhatNoCpuCanBeIn)
{
    auto const refused = [](auto change) {
        CpuState state = example();
        change(state);
        Encoder encoder;
        encode_cpu_state(state, encoder);
        Decoder decoder(encoder.bytes());
        CpuState out = example();
        bool const failed = !decode_cpu_state(decoder, cpu_state_version, out).ok();
        return failed && same(out, example());
    };
    EXPECT_TRUE(refused([](CpuState& s) { s.cr0 |= u64 { 1 } << 40; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.cr0 &= ~x86::cr0::pe; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.cr4 = 0; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.efer &= ~x86::efer::lma; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.efer |= u64 { 1 } << 33; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.cr8 = 16; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.rip = 0x1234567890abcdef; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.lstar = 0x8000000000000000; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.segments[1].base = 0x8000000000000000; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.segments[1].access = 0x80000000; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.rflags = 0; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.rflags |= 8; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.dr7 |= u64 { 1 } << 32; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.pat = 2; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.xcr0 = 0; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.xcr0 = 5; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.xcr0 = 0x27; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.xsave[512] = 0xff; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.xsave[513] = 2; })); // PKRU has its own place
    EXPECT_TRUE(refused([](CpuState& s) { s.xsave[527] = 0x80; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.xsave[27] = 1; }));
    EXPECT_TRUE(refused([](CpuState& s) { s.activity = static_cast<Activity>(9); }));
}

TEST(CpuStateCodecTest, RefusesShortAndNewerStates)
{
    Encoder encoder;
    encode_cpu_state(example(), encoder);
    CpuState state;
    Decoder newer(encoder.bytes());
    EXPECT_FALSE(decode_cpu_state(newer, cpu_state_version + 1, state).ok());
    Decoder cut(std::span(encoder.bytes()).first(encoder.bytes().size() - 1));
    EXPECT_FALSE(decode_cpu_state(cut, cpu_state_version, state).ok());
}

TEST(CpuStateCodecTest, ReadsTheVersionBeforeProtectionKeys)
{
    Encoder encoder;
    encode_cpu_state(example(), encoder);
    Decoder older(std::span(encoder.bytes()).first(encoder.bytes().size() - 8));
    CpuState state;
    EXPECT_TRUE(decode_cpu_state(older, 1, state).ok());
    EXPECT_TRUE(older.at_end());
    EXPECT_EQ(state.pkru, 0u);
    EXPECT_EQ(state.rip, example().rip);
}

} // namespace anyhyve
