// Runs a fuzz target without libFuzzer: on files, or on pseudo-random inputs for some seconds or cases. The seed is printed, and the
// case that ends the program too, so that it can be repeated with --seed S --skip N --cases 1.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <unistd.h>

#include "base/log.hpp"
#include "fuzz/input.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace anyhyve::fuzz {
// Targets with seeds have one of their own.
__attribute__((weak)) std::vector<std::vector<u8>> seeds()
{
    return {};
}
} // namespace anyhyve::fuzz

namespace {

using namespace anyhyve;

struct Options {
    double seconds = 1;
    u64 cases = ~u64 { 0 };
    u64 skip = 0;
    u64 seed = 1;
    std::size_t longest = 1024;
    std::string save_seeds; // a directory
    std::vector<std::string> files;
};

u64 s_seed, s_case;
// A stack for the handler: the case may have used all of the other.
char s_signal_stack[64 * 1024];

// Only what a signal handler may do.
void say_case(int signal)
{
    char text[128];
    int const length = std::snprintf(text, sizeof text, "fuzz: signal %d in case %llu of seed %llu\n", signal, static_cast<unsigned long long>(s_case),
        static_cast<unsigned long long>(s_seed));
    (void)!write(STDERR_FILENO, text, static_cast<std::size_t>(length));
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

// Bytes that mean something more often than even ones do: zeros, ones, single bits, small numbers.
u8 random_byte(std::mt19937_64& random)
{
    u64 const bits = random();
    switch (bits >> 60) {
    case 0: case 1: case 2: return 0;
    case 3: return 0xff;
    case 4: case 5: return static_cast<u8>(1U << (bits & 7));
    case 6: case 7: return static_cast<u8>(bits & 15);
    default: return static_cast<u8>(bits);
    }
}

void mutate(std::vector<u8>& input, std::mt19937_64& random)
{
    for (u64 changes = 1 + random() % 8; changes != 0; --changes) {
        std::size_t const at = input.empty() ? 0 : random() % input.size();
        std::size_t const count = std::min<std::size_t>(1 + random() % 8, input.size() - at);
        auto const place = input.begin() + static_cast<std::ptrdiff_t>(at);
        switch (random() % 5) {
        case 0: input.insert(place, random_byte(random)); break;
        case 1: input.erase(place, place + static_cast<std::ptrdiff_t>(count)); break;
        case 2: input.insert(input.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(count)); break;
        default:
            if (!input.empty())
                *place = random() & 1 ? random_byte(random) : static_cast<u8>(*place ^ 1U << (random() & 7));
        }
    }
}

// Each case has a generator of its own, so that one can be repeated alone.
std::vector<u8> make_case(Options const& options, std::vector<std::vector<u8>> const& seeds, u64 number)
{
    if (number < seeds.size())
        return seeds[number];
    std::mt19937_64 random(options.seed * 0x9e37'79b9'7f4a'7c15 + number);
    if (!seeds.empty() && random() % 4 != 0) {
        auto input = seeds[random() % seeds.size()];
        mutate(input, random);
        return input;
    }
    std::vector<u8> input(random() % (options.longest + 1));
    for (u8& byte : input)
        byte = random_byte(random);
    return input;
}

[[noreturn]] void usage()
{
    std::fputs("usage: fuzz_<target> [--seconds N] [--cases N] [--seed N] [--skip N] [--longest BYTES] [--save-seeds DIRECTORY] [FILE...]\n", stderr);
    std::exit(2);
}

Options parse(int count, char** arguments)
{
    Options options;
    for (int i = 1; i < count; ++i) {
        std::string const name = arguments[i];
        if (name[0] != '-') {
            options.files.push_back(name);
            continue;
        }
        if (++i == count)
            usage();
        char const* const value = arguments[i];
        if (name == "--seconds")
            options.seconds = std::atof(value);
        else if (name == "--cases")
            options.cases = std::strtoull(value, nullptr, 0);
        else if (name == "--seed")
            options.seed = std::strtoull(value, nullptr, 0);
        else if (name == "--skip")
            options.skip = std::strtoull(value, nullptr, 0);
        else if (name == "--longest")
            options.longest = std::strtoull(value, nullptr, 0);
        else if (name == "--save-seeds")
            options.save_seeds = value;
        else
            usage();
    }
    return options;
}

void run_file(std::string const& path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
        std::exit(2);
    }
    std::vector<u8> const input { std::istreambuf_iterator<char>(file), {} };
    LLVMFuzzerTestOneInput(input.data(), input.size());
}

void save_seeds(std::string const& directory, std::vector<std::vector<u8>> const& seeds)
{
    for (std::size_t i = 0; i < seeds.size(); ++i) {
        std::ofstream file(directory + "/seed" + std::to_string(i), std::ios::binary);
        // SAFETY: bytes are written as they are.
        file.write(reinterpret_cast<char const*>(seeds[i].data()), static_cast<std::streamsize>(seeds[i].size()));
    }
}

u64 run_random(Options const& options, std::vector<std::vector<u8>> const& seeds)
{
    using std::chrono::steady_clock;
    auto const end = steady_clock::now() + std::chrono::duration<double>(options.seconds);
    u64 done = 0;
    for (; done < options.cases && (done == 0 || options.cases != ~u64 { 0 } || steady_clock::now() < end); ++done) {
        s_case = options.skip + done;
        auto const input = make_case(options, seeds, s_case);
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    return done;
}

} // namespace

int main(int count, char** arguments)
{
    Options const options = parse(count, arguments);
    log::set_level(log::Level::error);
    for (auto const& file : options.files)
        run_file(file);
    auto const seeds = fuzz::seeds();
    if (!options.save_seeds.empty())
        save_seeds(options.save_seeds, seeds);
    if (!options.files.empty() || !options.save_seeds.empty())
        return 0;
    s_seed = options.seed;
    stack_t const stack { .ss_sp = s_signal_stack, .ss_flags = 0, .ss_size = sizeof s_signal_stack };
    sigaltstack(&stack, nullptr);
    struct sigaction action {};
    action.sa_handler = say_case;
    action.sa_flags = SA_ONSTACK;
    for (int const signal : { SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGALRM })
        sigaction(signal, &action, nullptr);
    std::printf("fuzz: seed %llu\n", static_cast<unsigned long long>(options.seed));
    std::fflush(stdout);
    std::printf("fuzz: %llu cases\n", static_cast<unsigned long long>(run_random(options, seeds)));
    return 0;
}
