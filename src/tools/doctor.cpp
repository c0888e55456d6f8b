// bhyve --doctor: what this host offers to virtual machines.
#include "tools/doctor.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "host/fd.hpp"
#include "host/mapping.hpp"
#include "tools/json_writer.hpp"
#include "vmm/vm_directory.hpp"

namespace anyhyve::tools {

namespace {

bool opens(char const* path)
{
    int const file = open(path, O_RDWR | O_CLOEXEC);
    if (file >= 0)
        close(file);
    return file >= 0;
}

std::string kvm_sentence(machine::HostVirtualization const& host)
{
    if (!host.kvm_present)
        return "/dev/kvm is not there";
    if (!host.kvm_opens)
        return fmt::format("/dev/kvm is there, but does not open: {}", host.kvm_trouble);
    return fmt::format("/dev/kvm opens, API version {}", host.kvm_api_version);
}

std::string hardware_sentence(machine::HostVirtualization const& host)
{
    std::string const inside = host.under_hypervisor ? "; this host is a virtual machine itself" : "";
    if (host.cpu_has_vmx)
        return "VT-x" + inside;
    return (host.cpu_has_svm ? "SVM" : "none") + inside;
}

// Tries it, on shared memory as a guest's is.
bool gives_huge_pages()
{
    using host::Mapping;
    constexpr u64 size = Mapping::huge_page_size;
    host::Fd const file(memfd_create("anyhyve-doctor", MFD_CLOEXEC));
    if (!file.valid() || ftruncate(file.get(), size) != 0)
        return false;
    auto const memory = Mapping::of_file(file.get(), size, Mapping::Access::read_write, Mapping::Sharing::shared, "huge page", Mapping::Place::huge_page);
    if (!memory.ok())
        return false;
    memory.value().data()[0] = 1;
    return Mapping::make_huge(memory.value().data(), size);
}

} // namespace

HostReport examine_host()
{
    HostReport report;
    report.virtualization = machine::probe_host();
    if (auto engine = machine::choose_engine("auto"); engine.ok())
        report.engine = engine.release_value();
    report.host_cpus = static_cast<unsigned>(get_nprocs());
    struct sysinfo info {};
    if (sysinfo(&info) == 0)
        report.memory = u64 { info.totalram } * info.mem_unit;
    report.vmm_directory = VmDirectory::default_path();
    if (auto const directory = VmDirectory::open(); !directory.ok())
        report.vmm_trouble = directory.error().message();
    struct statvfs room {};
    if (statvfs(report.vmm_directory.c_str(), &room) == 0)
        report.vmm_room = u64 { room.f_bavail } * room.f_frsize;
    report.huge_pages = gives_huge_pages();
    report.tap_devices = opens("/dev/net/tun");
    return report;
}

std::string report_text(HostReport const& report)
{
    auto const& host = report.virtualization;
    std::string text;
    auto const line = [&text](std::string_view name, std::string_view value) { text += fmt::format("{:<24}{}\n", name, value); };
    line("engine", fmt::format("{}: {}", report.engine.name, report.engine.reason));
    line("KVM", kvm_sentence(host));
    line("virtualization hardware", hardware_sentence(host));
    line("host CPU", fmt::format("{} x {}", report.host_cpus, host.cpu_model));
    line("time-stamp counter", host.invariant_tsc ? "runs at one rate in all power states" : "may change its rate: guests' clocks may too");
    line("host memory", fmt::format("{} MiB", report.memory / MiB));
    line("virtual machines", report.vmm_trouble.empty() ? fmt::format("{}, {} MiB free", report.vmm_directory, report.vmm_room / MiB) : report.vmm_trouble);
    line("huge pages", report.huge_pages ? "given to guests' memory" : "not given: guests run slower (Linux 6.1 and later can)");
    line("tap devices", report.tap_devices ? "/dev/net/tun opens" : "/dev/net/tun does not open");
    return text;
}

std::string report_json(HostReport const& report)
{
    auto const& host = report.virtualization;
    JsonWriter json;
    json.begin_object();
    json.begin_object("engine").text("name", report.engine.name).text("reason", report.engine.reason).end_object();
    json.begin_object("kvm").boolean("present", host.kvm_present).boolean("opens", host.kvm_opens).text("trouble", host.kvm_trouble);
    json.number("api_version", static_cast<u64>(host.kvm_api_version)).end_object();
    json.begin_object("cpu").text("model", host.cpu_model).number("count", report.host_cpus).boolean("vmx", host.cpu_has_vmx).boolean("svm", host.cpu_has_svm);
    json.boolean("under_hypervisor", host.under_hypervisor).boolean("invariant_tsc", host.invariant_tsc).end_object();
    json.number("memory", report.memory);
    json.begin_object("vmm_directory").text("path", report.vmm_directory).text("trouble", report.vmm_trouble).number("free", report.vmm_room).end_object();
    json.boolean("huge_pages", report.huge_pages);
    json.boolean("tap_devices", report.tap_devices);
    json.end_object();
    return json.result() + "\n";
}

} // namespace anyhyve::tools
