// random_instructions: runs random guest code on the host CPU and on the software engine until they disagree or time is up.
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include <unistd.h>

#include <fmt/core.h>

#include "comparison.hpp"
#include "generator.hpp"

namespace anyhyve::random_test {

namespace {

using SteadyClock = std::chrono::steady_clock;

struct Options {
    u64 seed = 0;
    u64 cases = ~u64 { 0 };
    double seconds = 20;
    std::string form;
    unsigned bits = 0;          // 64, 32, or 0 for both in turn
    unsigned most_failures = 10;
    bool singles = true, blocks = true;
    bool minimises = true;
};

void print(std::string const& text)
{
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

[[noreturn]] void usage(int status)
{
    print("random_instructions: random guest code on the host CPU and on the software engine\n"
          "  --seed N       start of the random sequence (default: the time)\n"
          "  --cases N      stop after so many cases\n"
          "  --seconds N    stop after so long (default 20)\n"
          "  --form TEXT    only instructions whose name contains TEXT\n"
          "  --mode 64|32   only 64-bit code, or 32-bit code in compatibility mode\n"
          "  --singles      only single instructions\n"
          "  --blocks       only blocks\n"
          "  --failures N   stop after so many different failures (default 10)\n"
          "  --raw          show failing cases as they are, without making them smaller\n");
    std::exit(status);
}

Options parse(int count, char** arguments)
{
    Options options;
    options.seed = static_cast<u64>(std::chrono::system_clock::now().time_since_epoch().count());
    for (int n = 1; n < count; ++n) {
        std::string const name = arguments[n];
        auto const value = [&] {
            if (++n >= count)
                usage(2);
            return arguments[n];
        };
        if (name == "--seed")
            options.seed = std::strtoull(value(), nullptr, 0);
        else if (name == "--cases")
            options.cases = std::strtoull(value(), nullptr, 0);
        else if (name == "--seconds")
            options.seconds = std::strtod(value(), nullptr);
        else if (name == "--form")
            options.form = value();
        else if (name == "--mode")
            options.bits = static_cast<unsigned>(std::strtoul(value(), nullptr, 0));
        else if (name == "--failures")
            options.most_failures = static_cast<unsigned>(std::strtoul(value(), nullptr, 0));
        else if (name == "--singles")
            options.blocks = false;
        else if (name == "--blocks")
            options.singles = false;
        else if (name == "--raw")
            options.minimises = false;
        else
            usage(name == "--help" ? 0 : 2);
    }
    return options;
}

Case const* s_current = nullptr;

// The engine hands on what is no fault of the guest's: it has failed us, or the guest has got out.
void on_crash(int signal, siginfo_t* info, void*)
{
    print(fmt::format("signal {} at {} while the engine ran:\n", signal, info->si_addr));
    if (s_current)
        print(listing(*s_current) + as_source(*s_current, Stepping::whole_blocks));
    _exit(1);
}

void catch_crashes()
{
    struct sigaction action = {};
    action.sa_sigaction = on_crash;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int signal : { SIGSEGV, SIGBUS, SIGFPE, SIGILL })
        sigaction(signal, &action, nullptr);
}

// Ends engine runs that hang, after so much of the CPU's time. Signals to the process are taken on its thread: the engine's blocks them.
class Watchdog {
public:
    explicit Watchdog(EngineRunner& engine)
    {
        pthread_getcpuclockid(pthread_self(), &m_clock);
        m_thread = std::thread([&engine, this] { watch(engine); });
    }
    ~Watchdog()
    {
        m_ended = true;
        m_thread.join();
    }

private:
    double cpu_time() const
    {
        timespec now {};
        clock_gettime(m_clock, &now);
        return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
    }
    void watch(EngineRunner& engine)
    {
        sigset_t ending;
        sigemptyset(&ending);
        for (int signal : { SIGTERM, SIGINT, SIGHUP, SIGQUIT })
            sigaddset(&ending, signal);
        pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
        u64 last = engine.turns();
        double began = cpu_time();
        while (!m_ended) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            u64 const now = engine.turns();
            if (now == last && now % 2 == 1 && cpu_time() - began > engine.patience())
                engine.stop();
            if (now == last)
                continue;
            last = now;
            began = cpu_time();
        }
    }
    clockid_t m_clock {};
    std::atomic<bool> m_ended { false };
    std::thread m_thread;
};

class Test {
public:
    Test(Options const& options, NativeRunner& native, EngineRunner& engine)
        : m_options(options), m_native(native), m_engine(engine), m_random(options.seed), m_generator(m_random, engine.cpuid(), options.form)
    {
    }
    int run();

private:
    struct Batch {
        std::vector<Case> cases;
        bool blocks = false, hot = false;
    };

    void make_batch(unsigned slot);
    void judge_batch(unsigned slot);
    bool judge(Case const&, Outcome const& native, Stepping); // false: a difference
    bool is_reserved(Case const&, Outcome const& engine);
    void judge_endless(Case const&);
    void report(Case const&, Stepping, std::string const& seen);
    bool is_over() const
    {
        return m_failures >= m_options.most_failures || m_judged >= m_options.cases || std::chrono::duration<double>(SteadyClock::now() - m_start).count() > m_options.seconds;
    }
    void summary() const;

    Options const& m_options;
    NativeRunner& m_native;
    EngineRunner& m_engine;
    Random m_random;
    Generator m_generator;
    Batch m_batches[2];
    u64 m_batch_number = 0;
    u64 m_judged = 0, m_singles = 0, m_blocks = 0, m_endless = 0, m_runs = 0, m_too_many_steps = 0, m_unfit = 0;
    std::map<u64, u64> m_endings;
    unsigned m_failures = 0;
    std::map<std::string, unsigned> m_failing;
    std::map<std::string, std::pair<unsigned, std::string>> m_reserved; // how often, and an example
    SteadyClock::time_point m_start = SteadyClock::now();
};

void Test::make_batch(unsigned slot)
{
    m_generator.begin_batch();
    auto size = m_options.bits == 32 || (m_options.bits == 0 && m_batch_number % 4 == 3) ? x86::CodeSize::bits32 : x86::CodeSize::bits64;
    if (!m_generator.has_forms(size))
        size = size == x86::CodeSize::bits64 ? x86::CodeSize::bits32 : x86::CodeSize::bits64;
    auto& batch = m_batches[slot];
    batch.cases.clear();
    batch.blocks = m_options.blocks && (!m_options.singles || m_batch_number % 3 == 2);
    batch.hot = m_batch_number / 12 % 2 == 1;
    ++m_batch_number;
    for (unsigned n = 0; n < (batch.blocks ? 160 : NativeRunner::most_cases); ++n)
        batch.cases.push_back(batch.blocks ? m_generator.block(size) : m_generator.single(size));
    m_native.submit(slot, batch.cases);
}

// Encodings that the manuals reserve: not every CPU minds. Counted, since a gap in the table looks the same.
bool Test::is_reserved(Case const& c, Outcome const& engine)
{
    if (engine.ending != Ending::exception || engine.vector != x86::vector::invalid_opcode)
        return false;
    std::array<u8, 15> bytes;
    x86::Instruction insn;
    unsigned const available = m_engine.bytes_at(engine.rip, bytes.data(), 15);
    if (x86::decode(bytes.data(), available, c.long_mode ? x86::CodeSize::bits64 : x86::CodeSize::bits32, insn) != x86::DecodeStatus::ok)
        return false;
    if (insn.info->operation != x86::Operation::undefined || insn.encoding == x86::Encoding::legacy)
        return false;
    std::string text;
    for (unsigned i = 0; i < insn.length; ++i)
        text += fmt::format("{:02x} ", insn.bytes[i]);
    m_reserved.try_emplace(fmt::format("{} bits, {} map {} opcode {:02x}", c.long_mode ? 64 : 32, insn.encoding == x86::Encoding::vex ? "VEX" : "EVEX", static_cast<unsigned>(insn.map), insn.opcode), 0, text)
        .first->second.first++;
    return true;
}

bool Test::judge(Case const& c, Outcome const& native, Stepping stepping)
{
    ++m_runs;
    s_current = &c;
    Outcome const engine = m_engine.run(c, stepping);
    m_too_many_steps += engine.ending == Ending::too_many_steps;
    std::string const text = differences(c, native, engine, m_engine, stepping);
    if (text.empty())
        return true;
    if (m_engine.meets_unfit_code(c))
        ++m_unfit;
    else if (!is_reserved(c, engine))
        report(c, stepping, text);
    return false;
}

// The host had no end of it in a moment. The engine may not have one either, else the host gets another chance.
void Test::judge_endless(Case const& c)
{
    constexpr double moment = 0.02;
    ++m_runs;
    s_current = &c;
    m_engine.set_patience(moment);
    Outcome const engine = m_engine.run(c, Stepping::whole_blocks);
    m_engine.set_patience(EngineRunner::usual_patience);
    if (engine.ending == Ending::time_out)
        ++m_endless;
    else if (std::string const text = run_and_compare(m_native, m_engine, c, Stepping::whole_blocks); !text.empty() && !m_engine.meets_unfit_code(c))
        report(c, Stepping::whole_blocks, text);
}

void Test::judge_batch(unsigned slot)
{
    auto const outcomes = m_native.finish(slot);
    auto const& batch = m_batches[slot];
    std::vector<Outcome> const kept(outcomes.begin(), outcomes.end()); // reports use the native side themselves
    auto const stepping = batch.hot ? Stepping::hot_blocks : Stepping::whole_blocks;
    for (unsigned n = 0; n < batch.cases.size() && !is_over(); ++n) {
        auto const& c = batch.cases[n];
        ++m_judged;
        ++(batch.blocks ? m_blocks : m_singles);
        if (kept[n].ending == Ending::time_out) {
            judge_endless(c);
            continue;
        }
        ++m_endings[kept[n].vector];
        bool fine = judge(c, kept[n], stepping);
        if (fine && batch.blocks) // with what was translated, linked and remembered
            fine = judge(c, kept[n], stepping);
        if (fine && (batch.blocks || n % 8 == 0))
            judge(c, kept[n], Stepping::single_steps);
    }
}

void Test::report(Case const& c, Stepping stepping, std::string const& seen)
{
    Case const small = m_options.minimises ? minimise(m_native, m_engine, c, stepping) : c;
    auto const list = instructions(small);
    if (m_failing[list.empty() ? "" : list[0].info->name]++ >= 2)
        return;
    ++m_failures;
    std::string text = run_and_compare(m_native, m_engine, small, stepping);
    if (text.empty())
        text = "  differs only now and then:\n" + seen;
    constexpr char const* names[] = { "", ", hot", ", single steps" };
    print(fmt::format("differs ({} bits{}):\n{}{}{}\n", c.long_mode ? 64 : 32, names[static_cast<unsigned>(stepping)], listing(small), text, as_source(small, stepping)));
}

void Test::summary() const
{
    double const seconds = std::chrono::duration<double>(SteadyClock::now() - m_start).count();
    print(fmt::format("{} cases ({} instructions, {} blocks; {} runs of the engine) in {:.1f} s, {:.0f} a second; seed {}\n", m_judged, m_singles, m_blocks, m_runs, seconds,
        static_cast<double>(m_judged) / seconds, m_options.seed));
    print(fmt::format("  endless on both sides: {}; too long for single steps: {}; came to instructions that the host must not run: {}\n", m_endless, m_too_many_steps, m_unfit));
    for (auto const& [vector, count] : m_endings)
        print(fmt::format("  ended by exception {}: {}\n", vector, count));
    for (auto const& [name, found] : m_reserved)
        print(fmt::format("  runs on the host, reserved here: {} ({} times): {}\n", name, found.first, found.second));
    for (auto const& [name, count] : m_failing)
        print(fmt::format("  differs: {} ({} times)\n", name, count));
}

int Test::run()
{
    print(fmt::format("seed {}\n", m_options.seed));
    m_failures += run_regressions(m_native, m_engine);
    if (!m_generator.has_forms(x86::CodeSize::bits64) && !m_generator.has_forms(x86::CodeSize::bits32)) {
        print("no instruction has such a name\n");
        return 2;
    }
    make_batch(0);
    for (unsigned slot = 0; !is_over(); slot ^= 1) {
        make_batch(slot ^ 1);
        judge_batch(slot);
    }
    summary();
    return m_failures == 0 ? 0 : 1;
}

} // namespace

static int run(int count, char** arguments)
{
    Options const options = parse(count, arguments);
    NativeRunner native;
    catch_crashes();
    EngineRunner engine;
    Watchdog const watchdog(engine);
    return Test(options, native, engine).run();
}

} // namespace anyhyve::random_test

int main(int count, char** arguments)
{
    return anyhyve::random_test::run(count, arguments);
}
