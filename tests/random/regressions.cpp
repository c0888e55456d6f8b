// Cases on which the engine once differed from the host, made as small as they go. They always run.
#include <cstdio>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "comparison.hpp"

namespace anyhyve::random_test {

using namespace x86;

namespace {

struct State {
    u16 code_offset = 0x200;
    u64 flags = 0x202, gs_base = 0, vector_seed = 0, memory_seed = 0;
    u32 mxcsr = 0x1f80;
    u16 control_word = 0x37f;
    Stepping stepping = Stepping::whole_blocks;
};

struct Regression {
    char const* what;
    unsigned bits;
    std::vector<u8> code;
    std::vector<std::pair<GeneralRegister, u64>> registers;
    State state = {};
};

std::vector<Regression> const& regressions()
{
    static std::vector<Regression> const list {
        { "blocks of more than 64 instructions end where the 65th begins", 64, std::vector<u8>(100, 0x90), {} },
        { "#UD leaves the vector registers alone", 64, { 0x0f, 0x0b }, {}, { .vector_seed = 0x3abbc9342e0ef45b } },
        { "CLWB keeps its 66, without which it is XSAVEOPT", 64, { 0x66, 0x0f, 0xae, 0x33 }, { { rbx, 0x20000088 }, { rax, 7 } } },
        { "CLFLUSHOPT keeps its 66, without which it is CLFLUSH", 64, { 0x66, 0x0f, 0xae, 0x3b }, { { rbx, 0x20000088 } } },
        { "ZMM upper halves without YMM upper halves", 64, { 0x0f, 0x38, 0xcc, 0xcf }, {}, { .vector_seed = 0x27976102731e0fa9 } },
        { "VPCMPESTRI with VEX.W outside of 64-bit code: lengths of 32 bits", 32, { 0xc4, 0xe3, 0xf9, 0x61, 0xc1, 0x00 }, { { rdx, 0xfffffffe } } },
        { "VPCMPESTRM with VEX.W outside of 64-bit code", 32, { 0xc4, 0xc3, 0xf9, 0x60, 0xc1, 0x00 }, { { rdx, 0xffffffff } } },
        { "VPINSRQ outside of 64-bit code", 32, { 0xc4, 0xe3, 0xe1, 0x22, 0xc0, 0x00 }, { { rax, 5 } } },
        { "VPEXTRQ outside of 64-bit code", 32, { 0xc4, 0xe3, 0xf9, 0x16, 0xc0, 0x00 }, {}, { .vector_seed = 5 } },
        { "a gather never raises #AC", 64, { 0xc4, 0xe2, 0xe9, 0x92, 0x44, 0x0b, 0x10 }, { { rbx, 0x20000001 }, { rsp, 0x20000800 } }, { .flags = 0x40202, .vector_seed = 0x3abbc9342e0ef45b } },
        { "flags that the rewritten code does not overwrite", 64, { 0xc6, 0x05, 0x02, 0x00, 0x00, 0x00, 0x97, 0x90, 0x90, 0x80, 0xcc, 0xcc }, {}, { .flags = 0xa02 } },
        { "flags that the rewritten code does not overwrite, absolute address", 32, { 0xc6, 0x05, 0x08, 0x02, 0x00, 0x10, 0xab, 0x90, 0x3c }, {}, { .flags = 0xa02 } },
        { "flags that the rewritten code does not overwrite, through a register", 64, { 0xc6, 0x03, 0x97, 0x90, 0x90, 0x80, 0xcc, 0xcc }, { { rbx, 0x10000205 } }, { .flags = 0xa02 } },
        { "flags that the rewritten code does not overwrite, through a register that changes", 64, { 0x48, 0x8d, 0x5b, 0x05, 0xc6, 0x03, 0x97, 0x90, 0x90, 0x80, 0xcc, 0xcc }, { { rbx, 0x10000204 } }, { .flags = 0xa02 } },
        { "flags that the rewritten code does not overwrite, through a register of 32 bits", 32, { 0xc6, 0x03, 0x97, 0x90, 0x90, 0x80, 0xcc, 0xcc }, { { rbx, 0x10000205 } }, { .flags = 0xa02 } },
        { "flags that the code rewritten by a push does not overwrite", 64, { 0x50, 0x90, 0x90, 0x90, 0x90, 0x90, 0x80, 0xcc, 0xcc }, { { rax, 0xcccccccccccccccc }, { rsp, 0x1000020e } }, { .flags = 0xa02 } },
        { "UD1 on AMD's processors has no ModRM byte to be fetched from an absent page", 64, { 0x66, 0x0f, 0xb9, 0x05 }, {}, { .code_offset = 0x1ffc } },
        { "UD0 before an absent page", 32, { 0x0f, 0xff }, {}, { .code_offset = 0x1ffe } },
        { "REX before VEX is no VEX: the ModRM byte is the last", 64, { 0x48, 0xc5, 0x00 }, {}, { .code_offset = 0x1ffd } },
        { "REX before EVEX is no EVEX: its SIB byte is in an absent page", 64, { 0x48, 0x62, 0x04 }, {}, { .code_offset = 0x1ffd } },
        { "a group's undefined member before an absent page", 64, { 0xfe, 0x55 }, {}, { .code_offset = 0x1ffe } },
        { "an operand beyond the end of a flat segment", 32, { 0x26, 0x29, 0x2f }, { { rdi, 0xffffffff } } },
        { "an operand beyond the end of a flat stack segment", 32, { 0x8b, 0x45, 0x00 }, { { rbp, 0xfffffffe } } },
        { "BOUND makes two accesses, each aligned by itself", 32, { 0x66, 0x62, 0x3b }, { { rbx, 0x4c995ab2 } }, { .flags = 0x40202 } },
        { "a misaligned push of a segment with AC", 64, { 0x0f, 0xa8 }, { { rsp, 0x20000ffc } }, { .flags = 0x40202 } },
        { "a misaligned PUSHA with AC", 32, { 0x60 }, { { rsp, 0x20000ffe } }, { .flags = 0x40202 } },
        { "a misaligned POPA with AC", 32, { 0x61 }, { { rsp, 0x20000f02 } }, { .flags = 0x40202 } },
        { "a misaligned ENTER with AC", 64, { 0xc8, 0x10, 0x00, 0x03 }, { { rsp, 0x20000804 }, { rbp, 0x20000900 } }, { .flags = 0x40202 } },
        { "a jump to the last address there is", 64, { 0xff, 0xe0 }, { { rax, 0xffffffffffffffff } } },
        { "a return to the last address there is", 64, { 0x48, 0x83, 0xc8, 0xff, 0x50, 0xc3 }, { { rsp, 0x20000800 } } },
        { "a push from memory between stack accesses to another page leaves them theirs", 64,
            { 0xd2, 0xac, 0x24, 0x10, 0x5a, 0, 0, 0xff, 0xb4, 0x34, 0xa3, 0x51, 0, 0, 0xc4, 0xe2, 0xbd, 0xab, 0x94, 0x24, 0x52, 0x59, 0, 0 }, { { rsp, 0x20001000 } },
            { .memory_seed = 0xf69cc0b9c9ac1fd3 } },
        { "REP STOS over its own code goes on as it began", 32, { 0xf3, 0xab }, { { rcx, 0x20000000 }, { rdi, 0x100008dd } }, { .code_offset = 0xbe1 } },
        { "a CALL to nowhere that overwrites itself", 64, { 0xff, 0x54 }, { { rsp, 0x10000620 } }, { .code_offset = 0x61c } },
        { "VMASKMOVDQU at the end of its page: #AC, or its store and then no code", 32, { 0xc4, 0xe1, 0xf9, 0xf7, 0xf0 }, { { rdi, 0x20000000 } }, { .code_offset = 0x1ffb, .flags = 0x40202, .vector_seed = 0x153210063f125205 } },
        { "ENTER reads what it has pushed", 64, { 0xc8, 0xb8, 0x01, 0x14 }, { { rsp, 0x20004940 }, { rbp, 0x200049c0 } } },
        { "ENTER reads parts of what it has pushed", 64, { 0xc8, 0x10, 0x00, 0x14 }, { { rsp, 0x20004940 }, { rbp, 0x20004953 } } },
        { "ENTER of 16 bits reads what it has pushed", 32, { 0x66, 0xc8, 0x10, 0x00, 0x1f }, { { rsp, 0x20004940 }, { rbp, 0x20004949 } } },
    };
    return list;
}

Case case_of(Regression const& regression)
{
    Case c;
    c.long_mode = regression.bits == 64;
    c.code_length = static_cast<u16>(regression.code.size());
    std::copy(regression.code.begin(), regression.code.end(), c.code.begin());
    for (auto const& [reg, value] : regression.registers)
        c.gpr[reg] = value;
    auto const& state = regression.state;
    c.code_offset = state.code_offset;
    c.flags = state.flags;
    c.gs_base = state.gs_base;
    c.vector_seed = state.vector_seed;
    c.memory_seed = state.memory_seed;
    c.mxcsr = state.mxcsr;
    c.control_word = state.control_word;
    return c;
}

} // namespace

unsigned run_regressions(NativeRunner& native, EngineRunner& engine)
{
    unsigned failures = 0;
    for (auto const& regression : regressions()) {
        Case const c = case_of(regression);
        for (auto stepping : { Stepping::whole_blocks, Stepping::hot_blocks, Stepping::single_steps }) {
            std::string const text = run_and_compare(native, engine, c, stepping);
            if (text.empty())
                continue;
            ++failures;
            std::fputs(fmt::format("{}:\n{}{}\n", regression.what, listing(c), text).c_str(), stdout);
        }
    }
    return failures;
}

} // namespace anyhyve::random_test
