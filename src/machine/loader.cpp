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

// Linux takes the TSC's frequency from CPUID 15h only where the processor is Intel's; elsewhere it measures the TSC against the 8254,
// and a host that does other work at that moment spoils the result. So a kernel that we load is told (kernel-parameters.txt, tsc_early_khz),
// unless its command line says something about it already.
std::string with_clock_hint(std::string const& command_line)
{
    if (soft::cpu_vendor() == soft::Vendor::intel || command_line.find("tsc_early_khz=") != std::string::npos)
        return command_line;
    return fmt::format("{}{}tsc_early_khz={}", command_line, command_line.empty() ? "" : " ", host::tsc_frequency().hertz / 1000);
}

Result<boot::LoadedGuest> load_guest(GuestMemory& memory, BootRequest const& request)
{
    auto const entry = TRY(parse_entry(request.entry));
    auto const kernel = TRY(boot::FileSource::open(request.kernel));
    std::unique_ptr<boot::FileSource> initrd;
    if (!request.initrd.empty())
        initrd = TRY(boot::FileSource::open(request.initrd));
    return boot::load_kernel(memory, { .kernel = *kernel, .initrd = initrd.get(), .command_line = with_clock_hint(request.command_line), .entry = entry });
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
