// Who knows the frequency of the TSC: the kernel, the CPU, the hypervisor below us, or a short measurement.
#include "host/tsc.hpp"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "host/fd.hpp"

namespace anyhyve::host {

static constexpr u64 s_nanoseconds = 1'000'000'000;

static bool plausible(u64 hertz)
{
    return hertz >= 100'000'000 && hertz <= 20'000'000'000;
}

// The kernel tells its own conversion from TSC to nanoseconds in the page of any performance event, also of the one that counts
// nothing (perf_event_open(2), "cap_user_time"): ns = cycles * time_mult >> time_shift. 0 when it does not.
static u64 frequency_from_kernel()
{
    perf_event_attr attributes {};
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.size = sizeof attributes;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    int const file = static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    if (file < 0)
        return 0;
    std::size_t const size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    // SAFETY: a page of the kernel's, read only; it is unmapped below and no pointer to it is kept.
    void* page = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page == MAP_FAILED)
        return 0;
    auto const* header = static_cast<perf_event_mmap_page const volatile*>(page);
    u64 hertz = 0;
    for (int attempt = 0; attempt < 100; ++attempt) {
        u32 const lock = header->lock;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        u32 const multiplier = header->time_mult;
        unsigned const shift = header->time_shift;
        bool const valid = header->cap_user_time;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (header->lock != lock || (lock & 1))
            continue;
        if (valid && multiplier && shift < 32)
            hertz = ((s_nanoseconds << shift) + multiplier / 2) / multiplier;
        break;
    }
    munmap(page, size);
    return hertz;
}

// SDM vol. 2A, CPUID leaf 15h: TSC = crystal (ECX, Hz) * EBX / EAX.
static u64 frequency_from_cpuid()
{
    u32 denominator, numerator, crystal, unused;
    if (!__get_cpuid(0x15, &denominator, &numerator, &crystal, &unused) || denominator == 0)
        return 0;
    return u64 { crystal } * numerator / denominator;
}

// Leaf 0x40000010 of the range that hypervisors share: EAX is the TSC frequency in kHz (VMware's "timing information").
static u64 frequency_from_hypervisor()
{
    u32 eax, ebx, ecx, edx;
    __cpuid(1, eax, ebx, ecx, edx);
    if (!(ecx & (1u << 31)))
        return 0;
    __cpuid(0x40000000, eax, ebx, ecx, edx);
    if (eax < 0x40000010 || eax > 0x400000ff)
        return 0;
    __cpuid(0x40000010, eax, ebx, ecx, edx);
    return u64 { eax } * 1000;
}

namespace {
struct Sample {
    u64 tsc;
    u64 nanoseconds;
};
} // namespace

// Both clocks at one moment: the tightest of several tries, so that an interruption does not spoil it.
static Sample sample_clocks()
{
    Sample best {};
    u64 best_width = ~u64 { 0 };
    for (int attempt = 0; attempt < 16; ++attempt) {
        timespec time {};
        u64 const before = read_tsc();
        clock_gettime(CLOCK_MONOTONIC, &time);
        u64 const after = read_tsc();
        if (after - before < best_width) {
            best_width = after - before;
            best = { before + (after - before) / 2, static_cast<u64>(time.tv_sec) * s_nanoseconds + static_cast<u64>(time.tv_nsec) };
        }
    }
    return best;
}

u64 measure_tsc_frequency(unsigned milliseconds)
{
    Sample const first = sample_clocks();
    timespec const pause { 0, static_cast<long>(std::min(milliseconds, 999u)) * 1'000'000 };
    nanosleep(&pause, nullptr);
    Sample const last = sample_clocks();
    u64 const elapsed = std::max<u64>(last.nanoseconds - first.nanoseconds, 1);
    return static_cast<u64>(u128 { last.tsc - first.tsc } * s_nanoseconds / elapsed);
}

// "bogomips" in /proc/cpuinfo is twice the TSC's MHz, cut after two digits, where the kernel knew that frequency before it began to
// count loops (lpj_fine in arch/x86): within 2 ppm, much closer than a short measurement. But it may also be something else, so a short
// measurement decides whether it is meant. 0 when it is not.
static u64 frequency_from_bogomips()
{
    Fd const file(open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC));
    std::array<char, 4096> text {};
    if (!file.valid() || read(file.get(), text.data(), text.size() - 1) <= 0)
        return 0;
    char const* line = std::strstr(text.data(), "bogomips");
    char const* value = line ? std::strchr(line, ':') : nullptr;
    if (!value)
        return 0;
    double const megahertz = std::strtod(value + 1, nullptr) / 2;
    double const measured = static_cast<double>(measure_tsc_frequency(1));
    if (!(megahertz > 0 && megahertz < 1e6) || std::abs(megahertz * 1e6 / measured - 1) > 500e-6)
        return 0;
    return static_cast<u64>(megahertz * 1e6 + 2500); // the middle of what was cut
}

static TscFrequency find_frequency()
{
    if (u64 const hertz = frequency_from_kernel(); plausible(hertz))
        return { hertz, "the kernel" };
    if (u64 const hertz = frequency_from_cpuid(); plausible(hertz))
        return { hertz, "CPUID leaf 15h" };
    if (u64 const hertz = frequency_from_hypervisor(); plausible(hertz))
        return { hertz, "the hypervisor below (CPUID leaf 40000010h)" };
    if (u64 const hertz = frequency_from_bogomips(); plausible(hertz))
        return { hertz, "the kernel's bogomips" };
    return { std::max<u64>(measure_tsc_frequency(8), 1'000'000), "a measurement of 8 ms" };
}

TscFrequency const& tsc_frequency()
{
    static TscFrequency const frequency = find_frequency();
    return frequency;
}

bool tsc_is_invariant()
{
    u32 eax, ebx, ecx, edx;
    return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && (edx & (1u << 8));
}

} // namespace anyhyve::host
