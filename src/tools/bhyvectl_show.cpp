// What bhyvectl shows of a machine.
#include <sys/stat.h>

#include <algorithm>

#include "machine/machine_config.hpp"
#include "tools/bhyvectl.hpp"
#include "tools/register_table.hpp"

namespace anyhyve::tools {

Result<void> Bhyvectl::show_all()
{
    TRY(show_memory());
    TRY(show_registers());
    TRY(show_processors());
    TRY(show_clock());
    TRY(show_capability());
    TRY(show_process());
    TRY(show_profile());
    return has("get-stats") ? show_statistics() : Result<void>();
}

Result<void> Bhyvectl::show_memory()
{
    u64 const size = m_vm->memory_size();
    u64 const low = std::min(size, GuestMemory::low_limit);
    if (shows("memseg"))
        m_report->text("memseg[0]", fmt::format("sysmem 0x{:016x}", size));
    if (shows("memmap")) {
        m_report->text("memmap[0]", fmt::format("0x{:016x} 0x{:016x} rwx sysmem+0x0", 0, low));
        if (size > low)
            m_report->text("memmap[1]", fmt::format("0x{:016x} 0x{:016x} rwx sysmem+0x{:x}", GuestMemory::high_base, size - low, low));
    }
    if (shows("lowmem"))
        m_report->number("lowmem", low);
    if (shows("highmem"))
        m_report->number("highmem", size - low);
    if (has("get-gpa-pmap")) {
        u64 const address = TRY(number("get-gpa-pmap"));
        TRY(show_page(address));
    }
    return {};
}

// Which page of the memory file stands behind a guest physical address.
Result<void> Bhyvectl::show_page(u64 address)
{
    auto const memory = TRY(m_vm->open_memory());
    Gpa const gpa(address);
    std::string const where = memory->is_ram(gpa) ? fmt::format("sysmem+0x{:x} rwx", memory->offset_of(gpa) & ~u64 { 0xfff }) : "no memory";
    m_report->text(fmt::format("gpa 0x{:016x}", address), where);
    return {};
}

Result<void> Bhyvectl::show_registers()
{
    auto const asked = [this](auto const& rows, char const* prefix) {
        return std::any_of(rows.begin(), rows.end(), [&](auto const& row) { return shows(prefix + std::string(row.name)); });
    };
    if (!asked(register_rows(), "") && !asked(descriptor_rows(), "desc-") && !shows("intinfo"))
        return {};
    CpuState const state = TRY(m_machine->cpu_state(m_vcpu));
    for (auto const& row : register_rows())
        if (shows(std::string(row.name)))
            m_report->register_value(row.name, m_vcpu, row.get(state));
    for (auto const& row : descriptor_rows()) {
        if (!shows("desc-" + std::string(row.name)))
            continue;
        auto const descriptor = row.get(state);
        m_report->descriptor(row.name, m_vcpu, descriptor.base, descriptor.limit, descriptor.access);
    }
    // In the layout of the VMX entry interruption information (SDM vol. 3C 24.8.3): only an NMI can wait here.
    constexpr u64 valid = u64 { 1 } << 31, type_nmi = 2 << 8;
    if (shows("intinfo"))
        m_report->register_value("intinfo", m_vcpu, state.nmi_pending ? valid | type_nmi | x86::vector::nmi : 0);
    return {};
}

namespace {

std::string list_text(std::vector<unsigned> const& cpus)
{
    std::string text;
    for (unsigned const cpu : cpus)
        text += fmt::format("{}{}", text.empty() ? "" : " ", cpu);
    return text.empty() ? "none" : text;
}

} // namespace

Result<void> Bhyvectl::show_processors()
{
    auto const topology = TRY(machine::MachineConfig::read_topology(m_vm->config()));
    if (shows("x2apic-state")) {
        bool const x2apic = TRY(m_vm->config().boolean_or("x86.x2apic", true));
        m_report->register_value("x2apic_state", m_vcpu, x2apic);
    }
    if (shows("active-cpus") || shows("suspended-cpus")) {
        std::vector<unsigned> all;
        unsigned const count = TRY(m_machine->vcpu_count());
        for (unsigned vcpu = 0; vcpu < count; ++vcpu)
            all.push_back(vcpu);
        if (shows("active-cpus"))
            m_report->text("active cpus", list_text(all));
        bool const running = m_machine->is_running() && !TRY(m_machine->is_paused());
        if (shows("suspended-cpus"))
            m_report->text("suspended cpus", list_text(running ? std::vector<unsigned> {} : all));
    }
    if (shows("debug-cpus"))
        m_report->text("debug cpus", list_text(TRY(m_machine->held_vcpus())));
    if (shows("cpu-topology"))
        m_report->text("cpu_topology",
            fmt::format("sockets={}, cores={}, threads={}, maxcpus={}", topology.sockets, topology.cores, topology.threads, machine::largest_vcpu_count));
    return {};
}

Result<void> Bhyvectl::show_clock()
{
    if (shows("rtc-time")) {
        i64 const seconds = TRY(m_machine->rtc_time());
        m_report->text("rtc time", fmt::format("{}", seconds));
    }
    if (!has("get-rtc-nvram"))
        return {};
    u64 const offset = has("rtc-nvram-offset") ? TRY(number("rtc-nvram-offset")) : 0;
    u8 const byte = TRY(m_machine->rtc_memory(static_cast<unsigned>(std::min<u64>(offset, ~0U))));
    m_report->text(fmt::format("rtc nvram[{:03}]", offset), fmt::format("0x{:02x}", byte));
    return {};
}

Result<void> Bhyvectl::show_capability()
{
    // What the software engine does, in the words of VT-x.
    struct Capability {
        std::string_view name;
        bool is_set;
    };
    constexpr Capability capabilities[] = {
        { "hlt_exit", true },
        { "mtrap_exit", false },
        { "pause_exit", true },
        { "unrestricted_guest", true },
        { "enable_invpcid", true },
        { "bpt_exit", false },
    };
    if (!has("getcap"))
        return {};
    std::string const& name = value("capname");
    auto const* const found = std::find_if(std::begin(capabilities), std::end(capabilities), [&name](Capability const& row) { return row.name == name; });
    if (found == std::end(capabilities))
        return make_error(ENOENT, "there is no capability \"{}\"", name);
    m_report->text(fmt::format("capability \"{}\"", name), fmt::format("is {} on vcpu {}", found->is_set ? "set" : "not set", m_vcpu));
    return {};
}

Result<void> Bhyvectl::show_statistics()
{
    for (auto const& row : TRY(m_machine->statistics(m_vcpu)))
        m_report->counter(row.name, row.value);
    struct stat file {};
    std::string const path = m_vm->path() + "/memory";
    if (stat(path.c_str(), &file) != 0)
        return Error::from_errno(errno, path);
    constexpr u64 block = 512; // stat(2): st_blocks counts these
    m_report->counter("Resident memory", static_cast<u64>(file.st_blocks) * block);
    bool const wired = TRY(m_vm->config().boolean_or("memory.wired", false));
    m_report->counter("Wired memory", wired ? m_vm->memory_size() : 0);
    return {};
}

Result<void> Bhyvectl::show_profile()
{
    if (has("profile"))
        m_report->profile(TRY(m_machine->profile()));
    return {};
}

// The lock names its holder as "1234 (bhyve)".
Result<void> Bhyvectl::show_process()
{
    if (!has("get-vm-pid"))
        return {};
    std::string const holder = m_vm->holder();
    if (!m_machine->is_running() || holder.empty())
        return make_error(ESRCH, "{} does not run", m_vm->name());
    m_report->text("pid", holder.substr(0, holder.find(' ')));
    return {};
}

} // namespace anyhyve::tools
