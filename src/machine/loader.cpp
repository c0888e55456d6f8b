// Loads the kernel of a boot request into a machine's memory.
#include "machine/loader.hpp"

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

ModuleWords split_module(std::string const& module)
{
    auto const blank = module.find(' ');
    return blank == std::string::npos ? ModuleWords { module, "" } : ModuleWords { module.substr(0, blank), module.substr(blank + 1) };
}

Result<void> check_boot_files(BootRequest const& request)
{
    TRY(parse_entry(request.entry));
    auto const kernel = TRY(boot::FileSource::open(request.kernel));
    auto const kind = TRY(boot::detect_kernel(*kernel));
    if (kind == boot::KernelKind::unknown)
        return make_error(ENOEXEC, "{} is not a kernel that can be loaded: no Linux image, ELF file or multiboot kernel", request.kernel);
    if (!request.initrd.empty())
        TRY(boot::FileSource::open(request.initrd));
    for (auto const& module : request.modules)
        TRY(boot::FileSource::open(split_module(module).path));
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
    boot::KernelRequest wanted { .kernel = *kernel, .initrd = initrd.get(), .command_line = request.command_line, .entry = entry };
    std::vector<std::unique_ptr<boot::FileSource>> module_files;
    for (auto const& module : request.modules) {
        auto const words = split_module(module);
        module_files.push_back(TRY(boot::FileSource::open(words.path)));
        wanted.modules.push_back({ module_files.back().get(), words.text });
    }
    bool const multiboot = entry == boot::KernelEntry::multiboot || TRY(boot::detect_kernel(*kernel)) == boot::KernelKind::multiboot;
    if (!multiboot)
        wanted.command_line = with_clock_hints(wanted.command_line);
    return boot::load_kernel(memory, wanted);
}

} // namespace anyhyve::machine
