// What differs between two outcomes, and cases as text: see comparison.hpp.
#include <cstring>

#include <fmt/core.h>

#include "comparison.hpp"
#include "engine/soft/host_vector_unit.hpp"
#include "instruction_builder.hpp"
#include "x86/instruction.hpp"

namespace anyhyve::random_test {

namespace {

constexpr char const* names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

std::string vector_differences(std::array<u8, xsave_bytes> const& native, std::array<u8, xsave_bytes> const& engine)
{
    namespace image = soft::xsave_image;
    std::string text;
    auto const& components = soft::host_vector_unit().components;
    for (unsigned at = 0; at < xsave_bytes; at += 8) {
        if (at == image::xstate_bv || std::memcmp(&native[at], &engine[at], 8) == 0)
            continue;
        u64 a = 0, b = 0;
        std::memcpy(&a, &native[at], 8);
        std::memcpy(&b, &engine[at], 8);
        std::string where = fmt::format("image byte {}", at);
        if (at >= image::x87_registers && at < image::xmm)
            where = fmt::format("st{} byte {}", (at - image::x87_registers) / 16, at % 16);
        else if (at >= image::xmm && at < image::xmm + 256)
            where = fmt::format("xmm{} byte {}", (at - image::xmm) / 16, at % 16);
        else if (at == 0)
            where = "x87 control, status, tags";
        else if (at == image::mxcsr)
            where = "mxcsr";
        for (unsigned n : { 2u, 5u, 6u, 7u }) {
            if (at >= components[n].offset && at < components[n].offset + components[n].size) {
                unsigned const each = components[n].size / (n == 5 ? 8 : 16), i = (at - components[n].offset) / each;
                where = fmt::format("{}{} byte {}", n == 2 ? "ymm upper half " : n == 5 ? "k" : n == 6 ? "zmm upper half " : "zmm16+", i, (at - components[n].offset) % each);
            }
        }
        text += fmt::format("  {}: host {:016x} engine {:016x}\n", where, a, b);
    }
    return text;
}

std::string ending_text(Outcome const& outcome)
{
    switch (outcome.ending) {
    case Ending::time_out: return "does not end";
    case Ending::crash: return fmt::format("died, wait status {:x}", outcome.vector);
    case Ending::too_many_steps: return "takes too many steps";
    case Ending::exception: break;
    }
    return fmt::format("exception {} at {:x}", outcome.vector, outcome.rip);
}

} // namespace

// What the translator makes of an instruction: does it end a block, which arithmetic flags does it need, which are lost to those before it?
// Only of instructions that the host runs itself does it know more than that they may use all.
static bool ends_block(x86::Instruction const& insn)
{
    using enum x86::Operation;
    switch (insn.info->operation) {
    case copy: case nop: case lea: case bit_test_memory: case move_offset: case exchange_accumulator: case inc_dec_short: case push: case push_immediate: case pop: case leave:
        return false;
    default:
        return true; // or needs all flags, which comes to the same
    }
}

static u16 flags_needed(x86::Instruction const& insn)
{
    bool const reads = insn.info->operation == x86::Operation::copy || insn.info->operation == x86::Operation::bit_test_memory;
    return reads ? insn.info->flags_read : ends_block(insn) ? u16 { x86::arithmetic_flags } : u16 { 0 };
}

static u16 flags_killed(x86::Instruction const& insn)
{
    using enum x86::Operation;
    auto const operation = insn.info->operation;
    return operation == copy || operation == bit_test_memory || operation == inc_dec_short ? insn.info->flags_written : u16 { 0 };
}

// A fault shows its handler stale flags where the block that faults overwrites them before anything reads them: see access_fault() in
// src/engine/soft/runtime.cpp. So those that are dead before the instruction at `rip` are not compared, and no others.
static u64 dead_flags(Case const& c, EngineRunner const& engine, u64 rip, Stepping stepping)
{
    constexpr unsigned most_instructions = 64;
    auto const size = c.long_mode ? x86::CodeSize::bits64 : x86::CodeSize::bits32;
    std::vector<x86::Instruction> block;
    u64 const page_end = (rip | (layout::page - 1)) + 1;
    for (u64 at = rip; at < page_end && block.size() < (stepping == Stepping::single_steps ? 1 : most_instructions); at += block.back().length) {
        std::array<u8, 15> bytes;
        unsigned const available = engine.bytes_at(at, bytes.data(), 15);
        x86::Instruction insn;
        if (x86::decode(bytes.data(), available, size, insn) != x86::DecodeStatus::ok || (at + insn.length > page_end && !block.empty()))
            break;
        block.push_back(insn);
        if (ends_block(insn))
            break;
    }
    u16 live = x86::arithmetic_flags;
    for (auto insn = block.rbegin(); insn != block.rend(); ++insn)
        live = static_cast<u16>((live & ~flags_killed(*insn)) | flags_needed(*insn));
    return static_cast<u16>(x86::arithmetic_flags & ~live);
}

// The instruction at `rip`: as the last run has left it, or as it was before the case wrote there.
enum class Moment : u8 { before, after };

static x86::Instruction instruction_at(Case const& c, EngineRunner const& engine, u64 rip, Moment moment)
{
    std::array<u8, 15> bytes {};
    unsigned const available = engine.bytes_at(rip, bytes.data(), 15);
    for (unsigned n = 0; moment == Moment::before && n < available; ++n) {
        if (u64 const at = rip + n - c.start(); at < c.code_length)
            bytes[n] = c.code[at];
    }
    x86::Instruction insn;
    static_cast<void>(x86::decode(bytes.data(), available, c.long_mode ? x86::CodeSize::bits64 : x86::CodeSize::bits32, insn));
    return insn;
}

// Of an operand on both sides of the last canonical address, the CPU may look at parts in any order.
static bool at_canonical_edge(Case const& c, Outcome const& native, x86::Instruction const& insn)
{
    u64 const address = InstructionBuilder::address(insn, native.gpr, native.rip + insn.length) + (insn.segment == x86::Segment::gs ? c.gs_base : 0);
    return insn.has_memory && (address - 0x00007fffffffff00 < 0x200 || address - 0xffff7fffffffff00 < 0x200);
}

// Where the CPU has a choice: which operand of CMPS it reads first; whether MASKMOVDQU with nothing chosen looks at the address; #AC of EVEX
// vectors; what a CALL (which SDM vol. 2A has push before it looks at the target), PUSHA or ENTER that faults leaves below the stack pointer;
// which registers a POPA that faults has loaded; whether an offset that is not canonical is fine when it is so with the segment's base; and
// whether a gather or scatter that single-steps reports the elements done before a fault as a trap (SDM vol. 2C, VPGATHERDD: pending traps are
// delivered in lieu of the exception).
static bool may_differ(Case const& c, Outcome const& native, Outcome const& engine, EngineRunner const& runner, Moment moment)
{
    using x86::Operation;
    auto const insn = instruction_at(c, runner, native.rip, moment);
    bool const faults = native.vector >= 12 && native.vector <= 17;
    bool const engine_faults = engine.vector >= 12 && engine.vector <= 17;
    if (engine.vector == x86::vector::alignment_check && native.rip != engine.rip) { // only the engine raises it
        auto const other = instruction_at(c, runner, engine.rip, moment);
        if (other.encoding == x86::Encoding::evex || other.info->operation == Operation::mask_move)
            return true;
    }
    if (!faults) // the single-step trap of the elements that a gather has done, in lieu of the next one's fault
        return native.vector == x86::vector::debug && engine_faults && native.rip == engine.rip && insn.info->operation == Operation::gather_scatter;
    if (at_canonical_edge(c, native, insn) || (insn.segment == x86::Segment::gs && (native.vector == 12 || native.vector == 13)))
        return true;
    bool const same = native.vector == engine.vector && native.rip == engine.rip;
    if (insn.encoding == x86::Encoding::evex && !same && (engine_faults || native.vector == 17))
        return true;
    switch (insn.info->operation) {
    case Operation::string_compare: return engine_faults;
    case Operation::mask_move: return true;
    case Operation::pop_all: case Operation::push_all: return same;
    case Operation::enter: return native.vector == engine.vector;
    case Operation::call_indirect: return native.vector == x86::vector::general_protection && native.rip == engine.rip;
    default: return false;
    }
}

static bool may_differ(Case const& c, Outcome const& native, Outcome const& engine, EngineRunner const& runner)
{
    return may_differ(c, native, engine, runner, Moment::after) || may_differ(c, native, engine, runner, Moment::before);
}

std::string differences(Case const& c, Outcome const& native, Outcome const& engine, EngineRunner const& runner, Stepping stepping)
{
    if (engine.ending == Ending::too_many_steps || (native.ending == Ending::time_out && engine.ending == Ending::time_out))
        return {};
    std::string text;
    auto const check = [&](std::string const& what, u64 a, u64 b) {
        if (a != b)
            text += fmt::format("  {}: host {:x} engine {:x}\n", what, a, b);
    };
    u64 const word = c.long_mode ? ~u64 { 0 } : 0xffffffff;
    if (native.ending != engine.ending || native.vector != engine.vector || (native.rip & word) != (engine.rip & word))
        text += fmt::format("  ending: host {}, engine {}\n", ending_text(native), ending_text(engine));
    if (!text.empty() && may_differ(c, native, engine, runner))
        return {};
    if (native.ending != Ending::exception || engine.ending != Ending::exception)
        return text;
    for (unsigned n = 0; n < (c.long_mode ? 16 : 8); ++n)
        check(names[n], native.gpr[n] & word, engine.gpr[n] & word);
    if (native.flags != engine.flags) {
        bool const trap = native.vector == x86::vector::debug || native.vector == x86::vector::breakpoint || native.vector == x86::vector::overflow;
        u64 const compared = x86::rflags::writable & ~(trap ? 0 : dead_flags(c, runner, native.rip, stepping));
        check("flags", native.flags & compared, engine.flags & compared);
    }
    if (native.vector == engine.vector && has_error_code(native.vector)) {
        // Linux hides from its processes what of the kernel's half is mapped.
        bool const hidden = native.vector == x86::vector::page_fault && native.fault_address >= 0x00007ffffffff000;
        check("error code", native.error_code & ~u64 { hidden }, engine.error_code & ~u64 { hidden });
        if (native.vector == x86::vector::page_fault)
            check("fault address", native.fault_address & word, engine.fault_address & word);
    }
    if (native.memory_hash != engine.memory_hash)
        text += "  memory\n";
    text += vector_differences(native.xsave, engine.xsave);
    return !text.empty() && may_differ(c, native, engine, runner) ? std::string() : text;
}

std::string run_and_compare(NativeRunner& native, EngineRunner& engine, Case const& c, Stepping stepping)
{
    std::vector<u8> memory;
    Outcome const wanted = native.run(c, memory);
    Outcome got = engine.run(c, stepping);
    std::string text = differences(c, wanted, got, engine, stepping);
    if (text.empty()) { // once more, with what was translated and remembered
        got = engine.run(c, stepping);
        text = differences(c, wanted, got, engine, stepping);
    }
    if (text.empty() || wanted.memory_hash == got.memory_hash)
        return text;
    auto const ours = engine.memory();
    unsigned shown = 0;
    for (std::size_t at = 0; at < memory.size() && shown < 16; ++at) {
        if (memory[at] == ours[at])
            continue;
        text += fmt::format("  [{:x}]: host {:02x} engine {:02x}\n", layout::pages[at / layout::page].linear + at % layout::page, memory[at], ours[at]);
        ++shown;
    }
    return text;
}

std::vector<x86::Instruction> instructions(Case const& c)
{
    std::vector<u8> bytes(c.code.begin(), c.code.begin() + c.code_length);
    bytes.resize(c.code_length + 16u, layout::filler);
    std::vector<x86::Instruction> list;
    for (unsigned at = 0; at < c.code_length; at += list.back().length) {
        list.emplace_back();
        if (x86::decode(&bytes[at], 15, c.long_mode ? x86::CodeSize::bits64 : x86::CodeSize::bits32, list.back()) != x86::DecodeStatus::ok)
            list.back().length = 1;
    }
    return list;
}

std::string listing(Case const& c)
{
    std::string text;
    u64 at = 0;
    for (auto const& insn : instructions(c)) {
        std::string bytes;
        for (unsigned i = 0; i < insn.length; ++i)
            bytes += fmt::format("{:02x} ", insn.bytes[i]);
        text += fmt::format("  {:8x}: {:<46}{}\n", c.start() + at, bytes, insn.info->name);
        at += insn.length;
    }
    return text;
}

std::string as_source(Case const& c, Stepping stepping)
{
    std::string text = fmt::format("    {{ \"\", {}, {{ ", c.long_mode ? "64" : "32");
    for (unsigned at = 0; at < c.code_length; ++at)
        text += fmt::format("0x{:02x}, ", c.code[at]);
    text += "}, { ";
    for (unsigned n = 0; n < 16; ++n) {
        if (c.gpr[n] != 0)
            text += fmt::format("{{ {}, 0x{:x} }}, ", names[n], c.gpr[n]);
    }
    text += fmt::format("}}, {{ .code_offset = 0x{:x}, .flags = 0x{:x}", c.code_offset, c.flags);
    if (c.gs_base != 0)
        text += fmt::format(", .gs_base = 0x{:x}", c.gs_base);
    if (c.vector_seed != 0)
        text += fmt::format(", .vector_seed = 0x{:x}", c.vector_seed);
    if (c.memory_seed != 0)
        text += fmt::format(", .memory_seed = 0x{:x}", c.memory_seed);
    if (c.mxcsr != 0x1f80)
        text += fmt::format(", .mxcsr = 0x{:x}", c.mxcsr);
    if (c.control_word != 0x37f)
        text += fmt::format(", .control_word = 0x{:x}", c.control_word);
    if (stepping == Stepping::single_steps)
        text += ", .stepping = Stepping::single_steps";
    else if (stepping == Stepping::hot_blocks)
        text += ", .stepping = Stepping::hot_blocks";
    return text + " } },\n";
}

} // namespace anyhyve::random_test
