// Which engine runs the virtual CPUs of a machine, and why.
#include "machine/engine_choice.hpp"

#include <cstdio>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/soft/engine.hpp"

namespace anyhyve::machine {

namespace {

bool has_word(std::string_view line, std::string_view word)
{
    for (auto at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
        auto const end = at + word.size();
        if ((at == 0 || line[at - 1] == ' ' || line[at - 1] == '\t') && (end == line.size() || line[end] == ' ' || line[end] == '\n'))
            return true;
    }
    return false;
}

// The first processor speaks for all.
void read_cpuinfo(HostVirtualization& host)
{
    std::FILE* const file = std::fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char buffer[8192];
    while (std::fgets(buffer, sizeof buffer, file)) {
        std::string_view const line = buffer;
        if (line == "\n")
            break;
        auto const colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string_view::npos)
            host.cpu_model = std::string(line.substr(colon + 2, line.find('\n') - colon - 2));
        if (!line.starts_with("flags"))
            continue;
        host.cpu_has_vmx = has_word(line, "vmx");
        host.cpu_has_svm = has_word(line, "svm");
        host.under_hypervisor = has_word(line, "hypervisor");
        host.invariant_tsc = has_word(line, "nonstop_tsc");
    }
    std::fclose(file);
}

} // namespace

HostVirtualization probe_host()
{
    HostVirtualization host;
    read_cpuinfo(host);
    host.kvm_present = access("/dev/kvm", F_OK) == 0;
    int const kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    host.kvm_opens = kvm >= 0;
    if (!host.kvm_opens) {
        host.kvm_trouble = std::strerror(errno);
        return host;
    }
    host.kvm_api_version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    close(kvm);
    return host;
}

Result<EngineChoice> choose_engine(std::string_view wanted)
{
    if (wanted == "soft")
        return EngineChoice { "soft", "asked for" };
    if (wanted.empty() || wanted == "auto")
        return EngineChoice { "soft", "this version of anyhyve has only the software engine" };
    if (wanted == "kvm")
        return Error("engine=kvm: this version of anyhyve has no KVM engine; use engine=soft or engine=auto", ENOTSUP);
    return make_error(EINVAL, "engine={}: there is no such engine; use auto, kvm or soft", wanted);
}

Result<std::unique_ptr<Engine>> create_engine(EngineChoice const& choice, GuestMemory& memory, EngineOptions const& options)
{
    if (choice.name != "soft")
        return make_error(ENOTSUP, "engine {} is not part of this version", choice.name);
    return soft::create_engine(memory, options);
}

} // namespace anyhyve::machine
