// Extended state images against the host's own instructions, gathers and masked moves against the host, with live vector registers.
#include <cstring>
#include <random>

#include "engine/soft/vector_state.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

struct alignas(64) Image {
    std::array<u8, 4096> bytes {};

    template<typename T>
    T get(unsigned offset) const
    {
        T value;
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        return value;
    }
    template<typename T>
    void put(unsigned offset, T value) { std::memcpy(bytes.data() + offset, &value, sizeof value); }
};

} // namespace

class ExtendedState : public ExecuteMachine {
protected:
    std::mt19937_64 random { 99 };
    u64 const mask = host_vector_unit().mask;

    void SetUp() override
    {
        if (!host_vector_unit().xsave)
            GTEST_SKIP() << "the host has no XSAVE";
        cpu.xcr0 = mask; // what the host can be asked about: PKRU has tests of its own
    }

    // Random contents for the given components, in the standard format.
    Image random_state(u64 components)
    {
        Image image;
        for (unsigned i = 0; i < image.bytes.size(); ++i)
            image.bytes[i] = static_cast<u8>(random());
        std::memset(image.bytes.data(), 0, 32);
        image.put<u16>(0, 0x37f);
        image.put<u8>(4, 0xff);
        // With the SSE registers in their initial state a MXCSR other than 1F80H would make them count as used, or not, as the host
        // pleases (SDM vol. 1 13.6).
        image.put<u32>(24, components & xcr0::sse ? 0x1f80 | (random() & 0x6000) : 0x1f80);
        image.put<u32>(28, host_vector_unit().mxcsr_mask);
        std::memset(image.bytes.data() + 512, 0, 64);
        image.put<u64>(512, components & mask);
        for (unsigned i = 0; i < 8; ++i)
            std::memset(image.bytes.data() + 32 + i * 16 + 10, 0, 6);
        return image;
    }

    // Runs the instruction with `state` in the registers and stores them again. Between the two, code for general registers only runs.
    Outcome execute_with(std::vector<u8> bytes, Image& state)
    {
        auto const instruction = decoded(std::move(bytes));
        Execute const function = execute_function(instruction.info->operation);
        return run_live(function, instruction, state);
    }
    [[gnu::noinline]] Outcome run_live(Execute function, Instruction const& instruction, Image& state)
    {
        asm volatile("xrstor64 %0" : : "m"(state), "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        Outcome const outcome = function(cpu, instruction);
        asm volatile("xsave64 %0" : "+m"(state) : "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        reset_vector_unit();
        return outcome;
    }
    // Being scheduled may make components count as used that were not, or the other way round: then nothing can be compared.
    static bool state_changed_by_host(Image const& given, Image const& saved)
    {
        return (saved.get<u64>(512) & ~given.get<u64>(512)) != 0;
    }
    // The host's own save of `state`, in a given format; `fill` is what the memory held before.
    enum class How : u8 { xsave, xsaveopt, xsavec };
    [[gnu::noinline]] void save_by_host(Image& result, Image const& state, u64 requested, How how, u8 fill)
    {
        result.bytes.fill(fill);
        std::memset(result.bytes.data() + 512, 0, 64);
        asm volatile("xrstor64 %0" : : "m"(state), "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        switch (how) {
        case How::xsave: asm volatile("xsave64 %0" : "+m"(result) : "a"(static_cast<u32>(requested)), "d"(0) : "memory"); break;
        case How::xsaveopt: asm volatile("xsaveopt64 %0" : "+m"(result) : "a"(static_cast<u32>(requested)), "d"(0) : "memory"); break;
        case How::xsavec: asm volatile("xsavec64 %0" : "+m"(result) : "a"(static_cast<u32>(requested)), "d"(0) : "memory"); break;
        }
        reset_vector_unit();
    }
    // What the host makes of `state` by restoring `image`.
    [[gnu::noinline]] void restore_by_host(Image& state, Image const& image, u64 requested)
    {
        asm volatile("xrstor64 %0" : : "m"(state), "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        asm volatile("xrstor64 %0" : : "m"(image), "a"(static_cast<u32>(requested)), "d"(0) : "memory");
        asm volatile("xsave64 %0" : "+m"(state) : "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        reset_vector_unit();
    }
    void fill_guest(u64 address, u8 value)
    {
        std::memset(host(address), value, 4096);
        std::memset(host(address) + 512, 0, 64);
    }
    void request(u64 components, u64 address)
    {
        set_pair(components);
        cpu.gpr[rbx] = address;
    }
    static std::vector<u8> const xsave_rbx, xsaveopt_rbx, xsavec_rbx, xrstor_rbx, xsaves_rbx, xrstors_rbx, fxsave_rbx, fxrstor_rbx;
};

std::vector<u8> const ExtendedState::xsave_rbx { 0x48, 0x0f, 0xae, 0x23 };
std::vector<u8> const ExtendedState::xsaveopt_rbx { 0x48, 0x0f, 0xae, 0x33 };
std::vector<u8> const ExtendedState::xsavec_rbx { 0x48, 0x0f, 0xc7, 0x23 };
std::vector<u8> const ExtendedState::xrstor_rbx { 0x48, 0x0f, 0xae, 0x2b };
std::vector<u8> const ExtendedState::xsaves_rbx { 0x48, 0x0f, 0xc7, 0x2b };
std::vector<u8> const ExtendedState::xrstors_rbx { 0x48, 0x0f, 0xc7, 0x1b };
std::vector<u8> const ExtendedState::fxsave_rbx { 0x48, 0x0f, 0xae, 0x03 };
std::vector<u8> const ExtendedState::fxrstor_rbx { 0x48, 0x0f, 0xae, 0x0b };

TEST_F(ExtendedState, SavesAreTheHosts)
{
    for (unsigned round = 0; round < 2000; ++round) {
        Image state = random_state(random() & mask);
        u64 const requested = random() % 4 == 0 ? ~u64 { 0 } : random() & mask;
        auto const how = static_cast<How>(random() % 3);
        if (how == How::xsavec && !host_vector_unit().xsavec)
            continue;
        // Within a page, and across two.
        u64 const address = data + (random() % 2 ? 0 : 0x1000 - 64 * (random() % 20));
        fill_guest(address, 0xa5);
        Image expected;
        save_by_host(expected, state, requested & mask, how, 0xa5);
        request(requested, address);
        std::vector<u8> const bytes = how == How::xsave ? xsave_rbx : how == How::xsaveopt ? xsaveopt_rbx : xsavec_rbx;
        Image const before = state;
        ASSERT_EQ(execute_with(bytes, state), Outcome::next);
        if (state.get<u64>(512) != before.get<u64>(512) || state_changed_by_host(before, expected))
            continue;
        for (unsigned i = 0; i < 4096; ++i)
            ASSERT_EQ(unsigned { *host(address + i) }, unsigned { expected.bytes[i] }) << "round " << round << " byte " << i << " how " << static_cast<int>(how) << " requested " << requested;
    }
}

TEST_F(ExtendedState, RestoresAreTheHosts)
{
    unsigned compared = 0;
    for (unsigned round = 0; round < 2000; ++round) {
        u64 const address = data + (random() % 2 ? 0 : 0x1000 - 64 * (random() % 20));
        u64 const requested = random() % 4 == 0 ? ~u64 { 0 } : random() & mask;
        Image const contents = random_state(random());
        Image guest = contents;
        bool const compact = host_vector_unit().xsavec && random() % 2;
        if (compact)
            save_by_host(guest, contents, mask & (random() | 3), How::xsavec, 0);
        std::memcpy(host(address), guest.bytes.data(), guest.bytes.size());
        Image const start = random_state(random());
        Image state = start, expected = start;
        request(requested, address);
        ASSERT_EQ(execute_with(xrstor_rbx, state), Outcome::next) << round;
        restore_by_host(expected, guest, requested & mask);
        if (state.get<u64>(512) != expected.get<u64>(512))
            continue; // the host's scheduler came between
        ++compared;
        for (unsigned i = 0; i < 4096; ++i)
            ASSERT_EQ(unsigned { state.bytes[i] }, unsigned { expected.bytes[i] }) << "round " << round << " byte " << i << " compact " << compact;
    }
    EXPECT_GT(compared, 1900u);
}

TEST_F(ExtendedState, BadImagesAreRefused)
{
    Image const good = random_state(3);
    auto const attempt = [this](Image const& image, u64 address = data) {
        std::memcpy(host(address), image.bytes.data(), image.bytes.size());
        request(7, address);
        Image state = random_state(7);
        Image const before = state;
        Outcome const outcome = execute_with(xrstor_rbx, state);
        EXPECT_EQ(std::memcmp(&state, &before, 832), 0);
        return outcome;
    };
    for (auto const& [offset, value] : std::initializer_list<std::pair<unsigned, u64>> { { 512, u64 { 1 } << 9 }, { 520, 1 }, { 528, 1 } }) {
        Image image = good;
        image.put<u64>(offset, value);
        expect_gp(attempt(image));
    }
    Image image = good;
    image.put<u32>(24, 0x8000'1f80);
    expect_gp(attempt(image));
    image = good;
    image.put<u64>(520, u64 { 1 } << 63 | 1); // SSE present without room
    expect_gp(attempt(image));
    image.put<u64>(520, u64 { 1 } << 63 | 3 | 1 << 9);
    expect_gp(attempt(image));
    image = good;
    request(7, data + 32);
    expect_gp(execute(xrstor_rbx));
    expect_gp(execute(xsave_rbx));
    request(7, data + 8);
    expect_gp(execute(fxsave_rbx));
    cpu.xcr0 = 3; // AVX is not the guest's
    image.put<u64>(512, 7);
    expect_gp(attempt(image));
}

TEST_F(ExtendedState, FaultsLeaveMemoryAndRegisters)
{
    Image state = random_state(7);
    map_page(data + 0x1000, 0);
    fill_guest(data + 0xe00 - 0x1000, 0);
    std::memset(host(data), 0x11, 0x1000);
    request(7, data + 0xe00);
    expect_fault(execute_with(xsave_rbx, state), vector::page_fault);
    EXPECT_EQ(*host(data + 0xe00), 0x11);
    expect_fault(execute_with(xrstor_rbx, state), vector::page_fault);
    cpu.cr0 |= cr0::ts;
    for (auto const& bytes : { xsave_rbx, xrstor_rbx, fxsave_rbx, fxrstor_rbx, xsavec_rbx })
        expect_fault(execute(bytes), vector::device_not_available);
    cpu.cr0 &= ~cr0::ts;
    cpu.cr4 &= ~cr4::osxsave;
    expect_fault(execute(xsave_rbx), vector::invalid_opcode);
}

TEST_F(ExtendedState, SupervisorForms)
{
    if (!host_vector_unit().xsavec)
        GTEST_SKIP() << "the host has no XSAVEC";
    Image state = random_state(7);
    Image const before = state;
    fill_guest(data, 0);
    request(7, data);
    EXPECT_EQ(execute_with(xsaves_rbx, state), Outcome::next);
    EXPECT_EQ(get<u64>(data + 520), u64 { 1 } << 63 | (7 & mask));
    state = random_state(7);
    EXPECT_EQ(execute_with(xrstors_rbx, state), Outcome::next);
    EXPECT_EQ(std::memcmp(&state, &before, 416), 0);
    put<u64>(data + 520, 0);
    expect_gp(execute(xrstors_rbx)); // takes the compacted format only
    set_level(3);
    expect_gp(execute(xsaves_rbx));
    expect_gp(execute(xrstors_rbx));
}

TEST_F(ExtendedState, NoPointerOfTheHostsIsSeen)
{
    Image state = random_state(7);
    state.put<u64>(8, 0x7fff12345678);  // as if translated code had run an x87 instruction
    state.put<u64>(16, 0x7fff9abcdef0);
    for (auto const& bytes : { xsave_rbx, xsavec_rbx, xsaveopt_rbx, fxsave_rbx }) {
        Image copy = state;
        fill_guest(data, 0);
        request(7, data);
        ASSERT_EQ(execute_with(bytes, copy), Outcome::next);
        EXPECT_EQ(get<u64>(data + 8), 0u);
        EXPECT_EQ(get<u64>(data + 16), 0u);
        EXPECT_EQ(get<u64>(data + 32), state.get<u64>(32));
    }
}

TEST_F(ExtendedState, FxsaveAndFxrstor)
{
    Image state = random_state(3);
    Image const first = state;
    fill_guest(data, 0x5a);
    request(0, data + 0x10);
    ASSERT_EQ(execute_with(fxsave_rbx, state), Outcome::next);
    for (unsigned i = 160; i < 416; ++i)
        ASSERT_EQ(*host(data + 0x10 + i), first.bytes[i]);
    EXPECT_EQ(*host(data + 0x10 + 416), 0x5a);
    state = random_state(3);
    ASSERT_EQ(execute_with(fxrstor_rbx, state), Outcome::next);
    EXPECT_EQ(std::memcmp(&state, &first, 416), 0);
    put<u32>(data + 0x10 + 24, 0xffff0000);
    expect_gp(execute_with(fxrstor_rbx, state));
}

TEST_F(ExtendedState, OnlyEightRegistersOutside64BitMode)
{
    start_protected();
    Image const saved = random_state(7);
    Image const live = random_state(mask);
    Image state = saved;
    fill_guest(data, 0x77);
    request(7, data);
    ASSERT_EQ(execute_with({ 0x0f, 0xae, 0x23 }, state), Outcome::next); // XSAVE [EBX]
    EXPECT_EQ(std::memcmp(host(data + 160), saved.bytes.data() + 160, 128), 0);
    EXPECT_EQ(*host(data + 288), 0x77);
    EXPECT_EQ(std::memcmp(host(data + 576), saved.bytes.data() + 576, 128), 0);
    EXPECT_EQ(*host(data + 704), 0x77);
    state = live;
    ASSERT_EQ(execute_with({ 0x0f, 0xae, 0x2b }, state), Outcome::next); // XRSTOR [EBX]
    EXPECT_EQ(std::memcmp(state.bytes.data() + 160, saved.bytes.data() + 160, 128), 0);
    EXPECT_EQ(std::memcmp(state.bytes.data() + 288, live.bytes.data() + 288, 128), 0);
    EXPECT_EQ(std::memcmp(state.bytes.data() + 576 + 128, live.bytes.data() + 576 + 128, 128), 0);
    put<u64>(data + 512, 1); // SSE and AVX in their initial state: the high registers still stay
    state = live;
    ASSERT_EQ(execute_with({ 0x0f, 0xae, 0x2b }, state), Outcome::next);
    EXPECT_EQ(state.get<u64>(160), 0u);
    EXPECT_EQ(std::memcmp(state.bytes.data() + 288, live.bytes.data() + 288, 128), 0);
    state = live;
    ASSERT_EQ(execute_with({ 0x0f, 0xae, 0x0b }, state), Outcome::next); // FXRSTOR [EBX]
    EXPECT_EQ(std::memcmp(state.bytes.data() + 288, live.bytes.data() + 288, 128), 0);
}

TEST_F(ExtendedState, X87EnvironmentsInBothWidths)
{
    Image state = random_state(1);
    Image const before = state;
    request(0, data);
    fill_guest(data, 0x99);
    ASSERT_EQ(execute_with({ 0xdd, 0x33 }, state), Outcome::next); // FNSAVE [RBX]
    EXPECT_EQ(get<u32>(data), 0xffff037fu);
    for (unsigned i = 0; i < 8; ++i)
        EXPECT_EQ(std::memcmp(host(data + 28 + i * 10), before.bytes.data() + 32 + i * 16, 10), 0);
    EXPECT_EQ(get<u64>(data + 12), 0u);
    EXPECT_EQ(get<u8>(data + 108), 0x99);
    EXPECT_EQ(state.get<u8>(4), 0); // FNSAVE empties the registers
    ASSERT_EQ(execute_with({ 0xdd, 0x23 }, state), Outcome::next); // FRSTOR [RBX]
    EXPECT_EQ(std::memcmp(state.bytes.data() + 32, before.bytes.data() + 32, 128), 0);
    EXPECT_EQ(state.get<u8>(4), 0xff);

    fill_guest(data, 0x99);
    state = before;
    ASSERT_EQ(execute_with({ 0x66, 0xdd, 0x33 }, state), Outcome::next); // 16-bit format
    EXPECT_EQ(get<u16>(data), 0x37f);
    EXPECT_EQ(std::memcmp(host(data + 14), before.bytes.data() + 32, 10), 0);
    EXPECT_EQ(get<u8>(data + 94), 0x99);
    ASSERT_EQ(execute_with({ 0x66, 0xdd, 0x23 }, state), Outcome::next);
    EXPECT_EQ(std::memcmp(state.bytes.data() + 32, before.bytes.data() + 32, 128), 0);

    state = before;
    state.put<u16>(0, 0x340); // exceptions unmasked
    ASSERT_EQ(execute_with({ 0xd9, 0x33 }, state), Outcome::next); // FNSTENV masks them
    EXPECT_EQ(get<u32>(data), 0xffff0340u);
    EXPECT_EQ(state.get<u16>(0), 0x37f);
    ASSERT_EQ(execute_with({ 0xd9, 0x23 }, state), Outcome::next); // FLDENV
    EXPECT_EQ(state.get<u16>(0), 0x340);
    // An unmasked exception is pending: loading waits for its handler, storing does not.
    state = before;
    state.put<u16>(0, 0x37e);
    state.put<u16>(2, 0x8081);
    expect_fault(execute_with({ 0xd9, 0x23 }, state), vector::x87_error);
    EXPECT_EQ(execute_with({ 0xd9, 0x33 }, state), Outcome::next);
}

TEST_F(ExtendedState, GuardKeepsEverything)
{
    for (unsigned round = 0; round < 50; ++round) {
        Image state = random_state(mask & ~(random() & xcr0::avx512));
        Image before;
        save_by_host(before, state, mask, How::xsave, 0);
        cpu.gpr[rdx] = 0x80;
        ASSERT_EQ(execute_with({ 0xec }, state), Outcome::next); // a port access runs device code
        for (unsigned i = 0; i < host_vector_unit().standard_size(mask); i == 415 ? i = 576 : ++i) // what lies between is reserved, or the header
            ASSERT_EQ(unsigned { state.bytes[i] }, unsigned { before.bytes[i] }) << i;
    }
}

} // namespace anyhyve::soft
