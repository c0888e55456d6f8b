// The opcode table against the CPU this runs on: every instruction that may be copied is executed, with its memory operand at the edges of
// mapped pages, misaligned and read-only, and with registers and flags that the table says it does not use changed between two runs.
// ANYHYVE_DECODER_ROUNDS overrides how many random instructions are run.
#include "x86/opcode_iterator.hpp"

#include <array>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace anyhyve::x86 {
namespace {

constexpr std::size_t page = 4096;
constexpr unsigned rsp = 4, address_register = 14, state_register = 15;

// What the trampoline loads and stores; register 15 points here.
struct alignas(64) State {
    u8 fx_image[512];
    u64 in[16];
    u64 in_flags;
    u64 out[16];
    u64 out_flags;
    u64 host_stack;
};

sigjmp_buf escape;

void leave(int signal) { siglongjmp(escape, signal); }

class Code {
public:
    explicit Code(u8* at) : m_at(at) {}
    void put(std::initializer_list<unsigned> bytes)
    {
        for (auto const byte : bytes)
            *m_at++ = static_cast<u8>(byte);
    }
    void put(u8 const* bytes, unsigned count)
    {
        std::memcpy(m_at, bytes, count);
        m_at += count;
    }
    // opcode 8B (load) or 89 (store) of a 64-bit register and [r15 + offset]; 8D takes the address.
    void state_access(unsigned opcode, unsigned reg, std::size_t offset)
    {
        put({ 0x49u | (reg & 8) >> 1, opcode, 0x87u | (reg & 7) << 3 });
        auto const displacement = static_cast<u32>(offset);
        put({ displacement & 255, displacement >> 8 & 255, 0, 0 });
    }

private:
    u8* m_at;
};

// Runs single instructions in a frame that sets and records all general registers but RSP and R15.
class Host {
public:
    Host()
    {
        // SAFETY: fresh anonymous pages for the life of the process; code and stack of the signal handler are ours alone.
        m_code = static_cast<u8*>(map(1, PROT_READ | PROT_WRITE | PROT_EXEC));
        m_data = static_cast<u8*>(map(4, PROT_NONE)) + page;
        mprotect(m_data, 2 * page, PROT_READ | PROT_WRITE);
        m_read_only = static_cast<u8*>(map(1, PROT_READ));
        stack_t const stack { map(16, PROT_READ | PROT_WRITE), 0, 16 * page };
        sigaltstack(&stack, &m_old_stack);
        struct sigaction action {};
        action.sa_handler = leave;
        action.sa_flags = SA_ONSTACK | SA_NODEFER;
        for (auto const signal : signals)
            sigaction(signal, &action, &m_old_actions[signal]);
        prepare_fx_image();
    }

    ~Host()
    {
        for (auto const signal : signals)
            sigaction(signal, &m_old_actions[signal], nullptr);
        sigaltstack(&m_old_stack, nullptr);
    }

    // 0, or the signal that the instruction raised.
    int run(u8 const* instruction, unsigned length)
    {
        write_code(instruction, length);
        int const signal = sigsetjmp(escape, 1);
        if (signal == 0) {
            clear_upper_state();
            // SAFETY: the code just written keeps the callee-saved registers and the stack.
            reinterpret_cast<void (*)()>(m_code)();
        }
        u32 const mxcsr = 0x1f80;
        asm volatile("fninit; ldmxcsr %0; cld" : : "m"(mxcsr));
        return signal;
    }

    State& state() { return m_state; }
    u8* data() { return m_data; }         // two pages, none before and behind
    u8* read_only() { return m_read_only; }

private:
    static constexpr int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };

    static void* map(std::size_t pages, int protection) { return mmap(nullptr, pages * page, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

    // What FXRSTOR leaves as it was: upper halves of vector registers, registers 16 to 31, masks.
    static void clear_upper_state()
    {
        constexpr u32 components = 0xe4; // AVX, mask registers, upper halves of ZMM0-15, ZMM16-31 (SDM vol. 1 13.1)
        alignas(64) u8 image[576] = {};  // all of them in their initial state
        if (!__builtin_cpu_supports("avx"))
            return;
        u32 const mxcsr = 0x1f80;
        std::memcpy(image + 24, &mxcsr, 4);
        u32 low = 0, high = 0;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        asm volatile("xrstor %0" : : "m"(image), "a"(low & components), "d"(0));
    }

    // x87 registers all 1.0, XMM registers with numbers that compare in every way.
    void prepare_fx_image()
    {
        std::memset(&m_state, 0, sizeof m_state);
        u16 const control = 0x037f;
        u32 const mxcsr = 0x1f80;
        std::memcpy(m_state.fx_image, &control, 2);
        m_state.fx_image[4] = 0xff; // no register is empty
        std::memcpy(m_state.fx_image + 24, &mxcsr, 4);
        for (unsigned n = 0; n < 8; ++n) {
            m_state.fx_image[32 + 16 * n + 7] = 0x80;
            m_state.fx_image[32 + 16 * n + 8] = 0xff;
            m_state.fx_image[32 + 16 * n + 9] = 0x3f;
        }
        for (unsigned n = 0; n < 256; ++n)
            m_state.fx_image[160 + n] = static_cast<u8>(n * 37 + (n >> 4) * 11);
    }

    void write_code(u8 const* instruction, unsigned length)
    {
        Code code(m_code);
        code.put({ 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x9c }); // push rbx rbp r12-r15, flags
        code.put({ 0x49, 0xbf });
        auto const address = reinterpret_cast<u64>(&m_state);
        code.put(reinterpret_cast<u8 const*>(&address), 8);
        code.state_access(0x89, rsp, offsetof(State, host_stack));
        if (__builtin_cpu_supports("avx512f")) {
            for (unsigned n = 0; n < 8; ++n)
                code.put({ 0xc5, 0x84u | (~n & 15) << 3, 0x47, 0xc0u | n << 3 | n }); // kxorw n, n, n
        }
        if (__builtin_cpu_supports("avx"))
            code.put({ 0xc5, 0xf8, 0x77 });
        code.put({ 0x49, 0x0f, 0xae, 0x0f }); // fxrstor64 [r15]
        code.state_access(0x8d, rsp, offsetof(State, in_flags));
        code.put({ 0x9d });
        code.state_access(0x8b, rsp, offsetof(State, host_stack));
        for (unsigned n = 0; n < 15; ++n)
            if (n != rsp)
                code.state_access(0x8b, n, offsetof(State, in) + 8 * n);
        code.put(instruction, length);
        for (unsigned n = 0; n < 15; ++n)
            if (n != rsp)
                code.state_access(0x89, n, offsetof(State, out) + 8 * n);
        code.state_access(0x8d, rsp, offsetof(State, out_flags) + 8);
        code.put({ 0x9c });
        code.state_access(0x8b, rsp, offsetof(State, host_stack));
        code.put({ 0x9d, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3 });
    }

    u8* m_code;
    u8* m_data;
    u8* m_read_only;
    State m_state;
    stack_t m_old_stack {};
    std::map<int, struct sigaction> m_old_actions;
};

// The ways to encode a form with a memory operand [r14] that matter here.
struct Variant {
    bool prefix66;
    bool w;
    u8 length;
    bool broadcast;
};

std::vector<u8> encode_memory_form(OpcodeForm const& form, Variant variant)
{
    std::vector<u8> code;
    auto const put = [&](unsigned byte) { code.push_back(static_cast<u8>(byte)); };
    unsigned const reg = form.modrm_reg() >= 0 ? static_cast<unsigned>(form.modrm_reg()) : 3;
    unsigned const vvvv = form.info().vvvv_kind == FieldKind::none ? 15 : 15 - 3;
    unsigned const w = form.w() >= 0 ? static_cast<unsigned>(form.w()) : variant.w;
    unsigned const length = form.vector_length() >= 0 ? static_cast<unsigned>(form.vector_length()) : variant.length;
    unsigned const pp = form.prefix() >= 0 ? static_cast<unsigned>(form.prefix()) : 0;
    constexpr u8 map_numbers[] = { 0, 1, 2, 3, 5, 6 };
    unsigned const map = map_numbers[static_cast<unsigned>(form.map())];
    if (form.encoding() == Encoding::vex) {
        put(0xc4), put(0xc0 | map), put(w << 7 | vvvv << 3 | length << 2 | pp);
    } else if (form.encoding() == Encoding::evex) {
        put(0x62), put(0xd0 | map), put(w << 7 | vvvv << 3 | 4 | pp), put(length << 5 | unsigned { variant.broadcast } << 4 | 8);
    } else {
        if (pp == selector::prefix_66 || (variant.prefix66 && form.prefix() != 0))
            put(0x66);
        if (pp >= 2)
            put(pp == selector::prefix_f3 ? 0xf3 : 0xf2);
        put(0x41 | w << 3);
        if (map != 0)
            put(0x0f);
        if (map > 1)
            put(map == 2 ? 0x38 : 0x3a);
    }
    put(form.opcode);
    put(reg << 3 | 6); // [r14]
    for (int n = 0; n < 5; ++n)
        put(1); // immediates
    code.resize(32, 0x90);
    return code;
}

std::string bytes_of(Instruction const& instruction)
{
    std::string text = fmt::format("{}:", instruction.info->name);
    for (unsigned n = 0; n < instruction.length; ++n)
        text += fmt::format(" {:02x}", instruction.bytes[n]);
    return text;
}

class DecoderAgainstHost : public testing::Test {
protected:
    int run_at(Instruction const& instruction, u8* address)
    {
        auto& state = m_host.state();
        for (unsigned n = 0; n < 16; ++n)
            state.in[n] = n + 1;
        state.in[2] = 0; // RDX, so that divisions fit
        state.in[address_register] = reinterpret_cast<u64>(address);
        state.in_flags = 0x202;
        std::memset(m_host.data(), 0, 2 * page); // valid for LDMXCSR at any offset
        auto const signal = m_host.run(instruction.bytes, instruction.length);
        return signal == SIGFPE ? 0 : signal; // raised after the access
    }

    bool faults(Instruction const& instruction, u8* address)
    {
        auto const signal = run_at(instruction, address);
        return signal == SIGSEGV || signal == SIGBUS;
    }

    void check_memory(Instruction const& instruction);

    Host m_host;
};

void DecoderAgainstHost::check_memory(Instruction const& instruction)
{
    auto const& info = *instruction.info;
    auto const text = bytes_of(instruction);
    auto const size = memory_operand_size(instruction);
    auto* const begin = m_host.data();
    auto* const end = begin + 2 * page;
    unsigned const step = info.alignment ? info.alignment : 1;
    EXPECT_EQ(run_at(instruction, begin + page), 0) << text;
    EXPECT_EQ(run_at(instruction, begin), 0) << "reaches below its address: " << text;
    if (size % step == 0) {
        EXPECT_EQ(run_at(instruction, end - size), 0) << "takes more than " << size << " bytes: " << text;
    }
    if (info.feature != Feature::sha) { // AMD's CPUs do not ask for the alignment that Intel's do
        EXPECT_EQ(faults(instruction, begin + page + 1), info.alignment > 1) << "alignment " << int { info.alignment } << ": " << text;
    }
    bool const elements_masked = info.masked && instruction.encoding == Encoding::vex; // by a vector of whatever value
    bool const narrower_at_intel = instruction.map == OpcodeMap::primary && instruction.opcode == 0x63; // MOVSXD r16, r/m16
    if (!elements_masked && !narrower_at_intel) {
        EXPECT_TRUE(faults(instruction, end - size + step)) << "takes less than " << size << " bytes: " << text;
    }
    bool const writes = info.memory == MemoryAccess::write || info.memory == MemoryAccess::read_write;
    if (!elements_masked) {
        EXPECT_EQ(faults(instruction, m_host.read_only()), writes) << "writes: " << text;
    }
}

TEST_F(DecoderAgainstHost, MemoryOperands)
{
    std::set<std::vector<u8>> seen;
    std::set<Feature> missing;
    unsigned checked = 0;
    for_each_opcode_form([&](OpcodeForm const& form) {
        for (unsigned bits = 0; bits < 32; ++bits) {
            Variant const variant { (bits & 1) != 0, (bits & 2) != 0, static_cast<u8>((bits >> 2 & 3) % 3), (bits & 16) != 0 };
            if ((form.encoding() != Encoding::evex && (variant.broadcast || variant.length == 2)) || (form.encoding() == Encoding::legacy && variant.length))
                continue;
            auto const code = encode_memory_form(form, variant);
            Instruction instruction;
            if (decode(code.data(), 15, CodeSize::bits64, instruction) != DecodeStatus::ok || instruction.info->operation != Operation::copy || memory_operand_size(instruction) == 0)
                continue;
            if (!seen.emplace(instruction.bytes, instruction.bytes + instruction.length).second)
                continue;
            if (run_at(instruction, m_host.data() + page) == SIGILL) {
                missing.insert(instruction.info->feature);
                continue;
            }
            ++checked;
            check_memory(instruction);
        }
    });
    fmt::print("{} encodings checked, {} features that this CPU lacks\n", checked, missing.size());
    EXPECT_FALSE(missing.contains(Feature::base));
    EXPECT_FALSE(missing.contains(Feature::sse2));
}

struct Random {
    u64 state;
    u64 operator()()
    {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
};

class DecoderRegistersAgainstHost : public DecoderAgainstHost {
protected:
    // Numbers of all sizes.
    u64 number() { return m_random() >> (m_random() & 63); }

    void check(Instruction const& instruction);

    Random m_random { static_cast<u64>(std::chrono::steady_clock::now().time_since_epoch().count()) | 1 };
    unsigned m_checked = 0;
};

void DecoderRegistersAgainstHost::check(Instruction const& instruction)
{
    auto const usage = general_registers(instruction);
    if ((usage.read | usage.written) & (1u << rsp | 1u << state_register))
        return;
    ++m_checked;
    auto& state = m_host.state();
    auto const& info = *instruction.info;
    auto const text = bytes_of(instruction);
    u64 const base_flags = 0x202;
    for (auto& value : state.in)
        value = number();
    if (usage.read & 1u << 2 && m_random() % 2)
        state.in[2] = 0;
    state.in_flags = base_flags | (m_random() & arithmetic_flags);
    if (m_host.run(instruction.bytes, instruction.length) != 0)
        return;
    State const first = state;
    unsigned const changeable = info.flags_written | info.flags_maybe;
    for (unsigned n = 0; n < state_register; ++n) {
        if (n != rsp && !(usage.written & 1u << n)) {
            EXPECT_EQ(first.in[n], first.out[n]) << "register " << n << " is written: " << text;
        }
    }
    EXPECT_EQ((first.in_flags ^ first.out_flags) & arithmetic_flags & ~changeable, 0u) << "flags are written: " << text;

    for (unsigned n = 0; n < state_register; ++n)
        if (!(usage.read & 1u << n))
            state.in[n] = number();
    state.in_flags = base_flags | (first.in_flags & info.flags_read) | (~first.in_flags & arithmetic_flags & ~info.flags_read);
    if (m_host.run(instruction.bytes, instruction.length) != 0)
        return;
    for (unsigned n = 0; n < state_register; ++n) {
        if (usage.written & 1u << n) {
            EXPECT_EQ(first.out[n], state.out[n]) << "register " << n << " depends on what is not read: " << text;
        }
    }
    EXPECT_EQ((first.out_flags ^ state.out_flags) & info.flags_written, 0u) << "flags depend on what is not read: " << text;
    // What may be written either was, alike both times, or was kept.
    u64 const kept = ~(state.in_flags ^ state.out_flags) & ~(first.in_flags ^ first.out_flags), alike = ~(first.out_flags ^ state.out_flags);
    EXPECT_EQ(~(kept | alike) & info.flags_maybe, 0u) << "flags depend on what is not read: " << text;
}

TEST_F(DecoderRegistersAgainstHost, RegistersAndFlags)
{
    std::vector<OpcodeForm> forms;
    for_each_opcode_form([&](OpcodeForm const& form) {
        auto const feature = form.info().feature;
        if (form.info().operation == Operation::copy && !form.needs_memory() && feature != Feature::rdrand && feature != Feature::rdseed)
            forms.push_back(form);
    });
    fmt::print("seed {}\n", m_random.state);
    EncodingSampler sampler(m_random);
    auto const* const wanted = std::getenv("ANYHYVE_DECODER_ROUNDS");
    unsigned long const rounds = wanted ? std::strtoul(wanted, nullptr, 0) : 200'000;
    for (unsigned long round = 0; round < rounds && !HasFailure(); ++round) {
        u8 bytes[16];
        sampler.sample(forms[m_random() % forms.size()], CodeSize::bits64, bytes);
        Instruction instruction;
        if (decode(bytes, 15, CodeSize::bits64, instruction) != DecodeStatus::ok || instruction.info->operation != Operation::copy || instruction.has_memory)
            continue;
        check(instruction);
    }
    fmt::print("{} instructions checked\n", m_checked);
    EXPECT_GT(m_checked, 10'000u);
}

} // namespace
} // namespace anyhyve::x86
