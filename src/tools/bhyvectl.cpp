// bhyvectl's order of work, and everything that changes a machine.
#include "tools/bhyvectl.hpp"

#include <algorithm>
#include <thread>

#include "machine/device_node.hpp"
#include "machine/machine_config.hpp"
#include "machine/vm_claim.hpp"
#include "tools/hardware_fields.hpp"
#include "tools/register_table.hpp"
#include "vmm/cpu_state_codec.hpp"

namespace anyhyve::tools {

Bhyvectl::Bhyvectl(CommandLine const& line)
{
    for (auto const& given : line.options)
        m_options[given.option->name] = given.value;
    m_everything = has("get-all");
}

Result<u64> Bhyvectl::number(std::string const& option) const
{
    return machine::parse_number(value(option), "--" + option);
}

Result<void> Bhyvectl::run()
{
    if (!has("vm"))
        return Error("--vm=NAME is missing", EINVAL);
    TRY(VmDirectory::check_name(value("vm")));
    TRY(check_options());
    auto directory = TRY(VmDirectory::open());
    if (has("create"))
        TRY(create(directory));
    if (has("destroy") && m_options.size() == 2)
        return destroy(directory);

    m_vm = TRY(directory.open_vm(value("vm")));
    if (has("set-mem") && !has("create"))
        TRY(set_memory(*m_vm));
    m_machine = TRY(access_machine(*m_vm));
    if (has("cpu")) {
        u64 const cpu = TRY(number("cpu"));
        if (cpu >= TRY(m_machine->vcpu_count()))
            return make_error(EINVAL, "{} has no virtual CPU {}", m_vm->name(), cpu);
        m_vcpu = static_cast<unsigned>(cpu);
    }
    TRY(write_all());
    m_report.emplace(has("json") ? ItemReport::Form::json : ItemReport::Form::lines, m_vm->name());
    auto const shown = show_all();
    if (!has("json") || shown.ok())
        if (!m_report->finish())
            return Error("the answer cannot be written", EIO);
    TRY(shown);
    m_machine.reset();
    m_vm.reset();
    return has("destroy") ? destroy(directory) : Result<void>();
}

// What can be refused without looking at a machine.
Result<void> Bhyvectl::check_options() const
{
    for (auto const field : hardware_fields)
        for (char const* verb : { "get-", "set-" })
            if (has(verb + std::string(field)))
                return make_error(ENOTSUP, "--{}{}: a machine on the software engine has no such hardware field", verb, field);
    for (char const* option : { "checkpoint", "suspend" })
        if (has(option))
            return make_error(ENOTSUP, "--{}={}: snapshots to a file are not part of this version", option, value(option));
    if (has("unassign-pptdev"))
        return make_error(ENOTSUP, "--unassign-pptdev={}: passed-through devices are not part of this version", value("unassign-pptdev"));
    if (has("run"))
        return Error("--run: virtual CPUs are run by bhyve", ENOTSUP);
    if ((has("getcap") || has("setcap")) && !has("capname"))
        return Error("--capname=NAME is missing", EINVAL);
    if (has("set-rtc-nvram") != has("rtc-nvram-offset") && !has("get-rtc-nvram"))
        return make_error(EINVAL, "{} is missing", has("set-rtc-nvram") ? "--rtc-nvram-offset=OFFSET" : "--get-rtc-nvram or --set-rtc-nvram=VALUE");
    return {};
}

Result<void> Bhyvectl::create(VmDirectory& directory)
{
    u64 size = 256 * MiB;
    if (has("set-mem"))
        size = TRY(machine::parse_memory_size(value("set-mem")));
    auto const vm = TRY(directory.create(value("vm"), size));
    machine::publish_device_node(vm->name(), vm->path());
    return {};
}

// Asks the process that runs the machine first; waits until the machine is gone.
Result<void> Bhyvectl::destroy(VmDirectory& directory)
{
    std::string const& name = value("vm");
    auto destroyed = machine::destroy_vm(directory, name);
    if (destroyed.ok() || destroyed.error().code() != EBUSY)
        return destroyed;
    auto const vm = directory.open_vm(name);
    if (!vm.ok())
        return destroyed;
    auto machine = access_machine(*vm.value());
    if (machine.ok() && machine.value()->is_running())
        TRY(machine.value()->command("destroy"));
    constexpr int attempts = 500;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        destroyed = machine::destroy_vm(directory, name);
        if (destroyed.ok() || destroyed.error().code() == ENOENT)
            return {};
        if (destroyed.error().code() != EBUSY)
            break;
    }
    return destroyed;
}

Result<void> Bhyvectl::set_memory(Vm& vm)
{
    u64 const size = TRY(machine::parse_memory_size(value("set-mem")));
    TRY(vm.lock());
    if (vm.has_state())
        return make_error(EBUSY, "--set-mem={}: something has been loaded into the memory of {}", value("set-mem"), vm.name());
    ConfigTree config = vm.config();
    TRY(vm.reinitialise(size, std::move(config)));
    vm.unlock();
    return {};
}

Result<void> Bhyvectl::write_all()
{
    TRY(write_registers());
    TRY(write_descriptors());
    TRY(write_clock());
    TRY(write_x2apic());
    TRY(signal_machine());
    return m_machine->finish();
}

Result<void> Bhyvectl::write_registers()
{
    bool const any = std::any_of(register_rows().begin(), register_rows().end(), [this](RegisterRow const& row) { return has(fmt::format("set-{}", row.name)); });
    if (!any)
        return {};
    CpuState state = TRY(m_machine->cpu_state(m_vcpu));
    for (auto const& row : register_rows()) {
        std::string const option = fmt::format("set-{}", row.name);
        if (!has(option))
            continue;
        u64 const number_given = TRY(number(option));
        if (row.width < 64 && number_given >> row.width)
            return make_error(EINVAL, "--{}={}: {} has {} bits", option, value(option), row.name, row.width);
        row.set(state, number_given);
    }
    // All at once: a mode may need several registers to change together.
    TRY(check_cpu_state(state));
    return m_machine->set_cpu_state(m_vcpu, state);
}

Result<void> Bhyvectl::write_descriptors()
{
    for (auto const& row : descriptor_rows()) {
        std::string const option = fmt::format("set-desc-{}", row.name);
        if (!has(option))
            continue;
        for (char const* part : { "desc-base", "desc-limit", "desc-access" })
            if (!has(part))
                return make_error(EINVAL, "--{}: --{}= is missing", option, part);
        x86::SegmentRegister descriptor;
        descriptor.base = TRY(number("desc-base"));
        u64 const limit = TRY(number("desc-limit")), access = TRY(number("desc-access"));
        if (limit > 0xffffffff || access > 0x1ffff)
            return make_error(EINVAL, "--{}: a limit has 32 bits, access rights have 17", option);
        descriptor.limit = static_cast<u32>(limit);
        descriptor.access = static_cast<u32>(access);
        CpuState state = TRY(m_machine->cpu_state(m_vcpu));
        row.set(state, descriptor);
        TRY(check_cpu_state(state));
        TRY(m_machine->set_cpu_state(m_vcpu, state));
    }
    return {};
}

Result<void> Bhyvectl::write_clock()
{
    if (has("set-rtc-time")) {
        u64 const seconds = TRY(number("set-rtc-time"));
        TRY(m_machine->set_rtc_time(static_cast<i64>(seconds)));
    }
    if (!has("set-rtc-nvram"))
        return {};
    u64 const offset = TRY(number("rtc-nvram-offset")), byte = TRY(number("set-rtc-nvram"));
    if (byte > 0xff)
        return make_error(EINVAL, "--set-rtc-nvram={}: not a byte", value("set-rtc-nvram"));
    return m_machine->set_rtc_memory(static_cast<unsigned>(offset), static_cast<u8>(byte));
}

// A setting of the machine's configuration: the next run has it.
Result<void> Bhyvectl::write_x2apic()
{
    if (!has("set-x2apic-state"))
        return {};
    if (m_machine->is_running())
        return make_error(EBUSY, "--set-x2apic-state: {} runs", m_vm->name());
    u64 const enabled = TRY(number("set-x2apic-state"));
    if (enabled > 1)
        return make_error(EINVAL, "--set-x2apic-state={}: 0 or 1", value("set-x2apic-state"));
    TRY(m_vm->lock());
    ConfigTree config = m_vm->config();
    TRY(config.set_boolean("x86.x2apic", enabled == 1));
    return m_vm->save_config(std::move(config));
}

Result<void> Bhyvectl::signal_machine()
{
    if (has("setcap")) {
        auto const wanted = TRY(number("setcap"));
        return make_error(ENOTSUP, "--setcap={}: capability \"{}\" of the software engine cannot be changed", wanted, value("capname"));
    }
    if (has("inject-nmi"))
        TRY(m_machine->inject_nmi(m_vcpu));
    if (has("assert-lapic-lvt")) {
        u64 const pin = TRY(number("assert-lapic-lvt"));
        TRY(m_machine->assert_local_interrupt(m_vcpu, static_cast<unsigned>(pin)));
    }
    for (auto const* command : { "hold", "step", "release" })
        if (has(command))
            TRY(m_machine->command(command, m_vcpu));
    constexpr std::pair<char const*, char const*> commands[] = { { "pause", "pause" }, { "resume", "resume" }, { "force-reset", "reset" }, { "force-poweroff", "power-off" } };
    for (auto const& [option, command] : commands)
        if (has(option))
            TRY(m_machine->command(command));
    return {};
}

} // namespace anyhyve::tools
