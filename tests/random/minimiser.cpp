// Makes a case that differs smaller as long as it still differs.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "comparison.hpp"
#include "instruction_builder.hpp"

namespace anyhyve::random_test {

namespace {

class Minimiser {
public:
    Minimiser(NativeRunner& native, EngineRunner& engine, Case const& c, Stepping stepping) : m_native(native), m_engine(engine), m_case(c), m_stepping(stepping)
    {
        auto const list = instructions(c);
        m_single = list.size() == 1;
        m_info = list.empty() ? nullptr : list[0].info;
    }
    Case run();

private:
    // Another difference than the one we are after would be no help.
    bool is_sound(Case const& smaller) const
    {
        auto const list = instructions(smaller);
        if (m_single && (list.empty() || list[0].info != m_info))
            return false;
        return std::none_of(list.begin(), list.end(), [](x86::Instruction const& insn) {
            return unfit_for_host(insn) || (insn.info->operation == x86::Operation::undefined && insn.encoding != x86::Encoding::legacy);
        });
    }
    // Keeps `smaller` if it still shows a difference.
    bool keep(Case const& smaller)
    {
        if (m_tries++ > 3000 || Clock::now() > m_deadline || !is_sound(smaller))
            return false;
        if (run_and_compare(m_native, m_engine, smaller, m_stepping).empty() || m_engine.meets_unfit_code(smaller))
            return false;
        m_case = smaller;
        return true;
    }
    template<typename Change>
    bool change(Change apply)
    {
        Case smaller = m_case;
        apply(smaller);
        return keep(smaller);
    }
    void simplify_state();
    void cut_end();
    void drop_instructions();
    void drop_bytes();
    static void erase(Case& c, unsigned at, unsigned count)
    {
        std::copy(c.code.begin() + at + count, c.code.begin() + c.code_length, c.code.begin() + at);
        c.code_length = static_cast<u16>(c.code_length - count);
    }
    unsigned length_at(unsigned at) const
    {
        x86::Instruction insn;
        auto const status = x86::decode(&m_case.code[at], static_cast<unsigned>(m_case.code.size()) - at, m_case.long_mode ? x86::CodeSize::bits64 : x86::CodeSize::bits32, insn);
        return std::min<unsigned>(status == x86::DecodeStatus::ok ? insn.length : 1, m_case.code_length - at);
    }

    NativeRunner& m_native;
    EngineRunner& m_engine;
    Case m_case;
    Stepping m_stepping;
    bool m_single = false;
    x86::OpcodeInfo const* m_info = nullptr;
    unsigned m_tries = 0;
    using Clock = std::chrono::steady_clock;
    Clock::time_point const m_deadline = Clock::now() + std::chrono::seconds(20);
};

void Minimiser::simplify_state()
{
    change([](Case& c) { c.vector_seed = 0; });
    change([](Case& c) { c.memory_seed = 0; });
    change([](Case& c) { c.mxcsr = 0x1f80; });
    change([](Case& c) { c.control_word = 0x37f; });
    change([](Case& c) { c.gs_base = 0; });
    change([](Case& c) { c.flags = 0x202; });
    for (unsigned bit : { 0u, 2u, 4u, 6u, 7u, 10u, 11u, 18u })
        change([&](Case& c) { c.flags &= ~(u64 { 1 } << bit); });
    for (unsigned n = 0; n < 16; ++n) {
        if (m_case.gpr[n] != 0 && !change([&](Case& c) { c.gpr[n] = 0; }) && !change([&](Case& c) { c.gpr[n] = 1; }))
            change([&](Case& c) { c.gpr[n] = layout::data; });
    }
    if (m_case.code_offset != 0x200)
        change([](Case& c) { c.code_offset = 0x200; });
}

void Minimiser::cut_end()
{
    for (unsigned keep_bytes = 1; keep_bytes < m_case.code_length; ++keep_bytes) {
        if (change([&](Case& c) { c.code_length = static_cast<u16>(keep_bytes); }))
            return;
    }
}

// First without moving what is left, so that branches still lead where they did.
void Minimiser::drop_instructions()
{
    for (unsigned at = 0; at < m_case.code_length; at += length_at(at)) {
        unsigned const length = length_at(at);
        if (m_case.code[at] != 0x90)
            change([&](Case& c) { std::memset(&c.code[at], 0x90, length); });
    }
    unsigned first = 0;
    while (first < m_case.code_length && m_case.code[first] == 0x90)
        ++first;
    if (first != 0) { // those before all others, without moving these
        change([&](Case& c) {
            erase(c, 0, first);
            c.code_offset = static_cast<u16>(c.code_offset + first);
        });
    }
    for (unsigned at = m_case.code_length; at-- > 0;) {
        if (m_case.code[at] == 0x90)
            change([&](Case& c) { erase(c, at, 1); });
    }
}

void Minimiser::drop_bytes()
{
    for (unsigned at = m_case.code_length; at-- > 0;)
        change([&](Case& c) { erase(c, at, 1); });
}

Case Minimiser::run()
{
    if (run_and_compare(m_native, m_engine, m_case, m_stepping).empty())
        return m_case;
    cut_end();
    drop_instructions();
    simplify_state();
    if (m_case.code_length <= 24)
        drop_bytes();
    drop_instructions();
    simplify_state();
    return m_case;
}

} // namespace

Case minimise(NativeRunner& native, EngineRunner& engine, Case c, Stepping stepping)
{
    return Minimiser(native, engine, c, stepping).run();
}

} // namespace anyhyve::random_test
