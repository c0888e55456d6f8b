// Loads the kernel of a boot request into a machine's memory.
#include "machine/loader.hpp"

#include <cstring>
#include <sys/mman.h>

#include "engine/soft/vendor.hpp"
#include "host/tsc.hpp"

namespace anyhyve::machine {

Result<boot::KernelEntry> parse_entry(std::string_view word)
{
    if (word == "32")
        return boot::KernelEntry::flat32;
    if (word == "64")
        return boot::KernelEntry::long64;
    return boot::parse_kernel_entry(word);
}

Result<void> check_boot_files(BootRequest const& request)
{
    TRY(parse_entry(request.entry));
    auto const kernel = TRY(boot::FileSource::open(request.kernel));
    auto const kind = TRY(boot::detect_kernel(*kernel));
    if (kind == boot::KernelKind::unknown)
        return make_error(ENOEXEC, "{} is not a kernel that can be loaded: neither a Linux image nor an ELF file", request.kernel);
    if (!request.initrd.empty())
        TRY(boot::FileSource::open(request.initrd));
    return {};
}

// Two things that Linux otherwise finds out by counting timer ticks against the TSC, which goes wrong when the host has other work to do at
// that moment (kernel-parameters.txt). What the command line says about them already stays.
// - no_timer_check: do not panic when too few ticks of the 8254 arrive while it looks; Linux sets it by itself on hypervisors it knows.
// - tsc_early_khz: the TSC's frequency, which Linux takes from CPUID 15h only where the processor is Intel's.
std::string with_clock_hints(std::string command_line)
{
    auto const add = [&command_line](std::string_view name, std::string const& text) {
        if (command_line.find(name) == std::string::npos)
            command_line += command_line.empty() ? text : " " + text;
    };
    add("no_timer_check", "no_timer_check");
    if (soft::cpu_vendor() != soft::Vendor::intel)
        add("tsc_early_khz=", fmt::format("tsc_early_khz={}", host::tsc_frequency().hertz / 1000));
    return command_line;
}

Result<boot::LoadedGuest> load_guest(GuestMemory& memory, BootRequest const& request)
{
    auto const entry = TRY(parse_entry(request.entry));
    auto const kernel = TRY(boot::FileSource::open(request.kernel));
    std::unique_ptr<boot::FileSource> initrd;
    if (!request.initrd.empty())
        initrd = TRY(boot::FileSource::open(request.initrd));
    return boot::load_kernel(memory, { .kernel = *kernel, .initrd = initrd.get(), .command_line = with_clock_hints(request.command_line), .entry = entry });
}

void clear_memory(GuestMemory& memory)
{
    auto const clear = [&memory](Gpa base, u64 size) {
        u8* const start = memory.range(base, size);
        if (!start)
            return;
        // SAFETY: the range is RAM of the guest, which GuestMemory has mapped; only its contents go.
        // MADV_REMOVE works on shared files, which RAM of a machine is; RAM of tests is private.
        if (madvise(start, size, MADV_REMOVE) != 0 && madvise(start, size, MADV_DONTNEED) != 0)
            std::memset(start, 0, size);
        memory.written(base, size);
    };
    clear(Gpa(0), memory.low_size());
    clear(Gpa(GuestMemory::high_base), memory.high_size());
}

} // namespace anyhyve::machine
