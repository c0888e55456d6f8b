// One run of bhyve, from the configuration to the exit code.
#include "tools/bhyve_runner.hpp"

#include <algorithm>
#include <csignal>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.hpp"
#include "machine/device_node.hpp"
#include "machine/loader.hpp"
#include "tools/bhyve_options.hpp"
#include "tools/profile_report.hpp"

namespace anyhyve::tools {

using machine::MachineEnd;
using machine::MachineRecord;

namespace {

// The VM was made by a run of bhyve that would have destroyed it, had it not been killed.
constexpr char transient_key[] = "vm.transient";
} // namespace

BhyveRunner::~BhyveRunner() = default;

Result<int> BhyveRunner::run()
{
    bool const memory_given = m_variables.has(vm_key::memory_size);
    TRY(machine::set_default_variables(m_variables));
    TRY(direct_log());
    m_config = TRY(machine::MachineConfig::read(m_variables));
    m_config.memory_given = memory_given;
    m_config.boot = machine::with_absolute_paths(m_config.boot);
    auto const engine = TRY(machine::choose_engine(m_config.engine));
    m_loop = TRY(host::EventLoop::create());
    TRY(m_loop->watch_signals({ SIGTERM, SIGHUP, SIGINT, SIGQUIT }, [this](int signal) { take_signal(signal); }));
    TRY(take_over_vm());
    log::info("{}: engine {}: {}", m_config.name, engine.name, engine.reason);
    auto code = build_and_run(engine);
    finish(code.ok() ? std::optional(code.value()) : std::nullopt);
    return code;
}

// log.file=PATH
Result<void> BhyveRunner::direct_log()
{
    auto const path = TRY(m_variables.value("log.file"));
    if (!path)
        return {};
    int const code = log::set_file(path->c_str());
    return code == 0 ? Result<void>() : Error::from_errno(code, *path);
}

Result<int> BhyveRunner::build_and_run(machine::EngineChoice const& engine)
{
    if (m_config.memory_wired)
        TRY(m_claimed.vm->allocate_memory());
    m_memory = TRY(m_claimed.vm->open_memory());
    TRY(prepare_memory());
    auto made = TRY(machine::create_engine(engine, *m_memory, m_config.engine_options));
    // The listener's functions run on other threads: they only hand over.
    machine::Pc::Listener const listener {
        [this](MachineEnd end) { m_loop->post([this, end = std::move(end), start = m_start.load()] { take_end(end, start); }); },
        [this] { m_loop->post([this] { end_with(exit_power_off); }); },
    };
    m_pc = TRY(machine::Pc::build(m_config, *m_memory, std::move(made), listener));
    TRY(load());
    m_control = TRY(ControlService::create(*m_loop, *m_claimed.vm, *m_pc, engine.name,
        { [this](RunExit reason) { take_end({ reason, {}, {} }, m_start); },
            [this] {
                m_transient = true;
                end_with(exit_power_off);
            } }));
    for (auto const& description : m_pc->console_descriptions())
        log::info("{}: {}", m_config.name, description);
    bool const on_stdio = std::any_of(m_config.com_ports.begin(), m_config.com_ports.end(), [](auto const& port) { return port.path == "stdio"; });
    if (on_stdio && isatty(STDIN_FILENO))
        log::info("{}: Ctrl-A x leaves the console and ends the machine", m_config.name);
    m_pc->resume();
    while (!m_exit_code && !m_trouble)
        TRY(m_loop->run_once(std::chrono::milliseconds(-1)));
    if (m_trouble)
        return *m_trouble;
    return *m_exit_code;
}

// -S keeps guest memory out of swap, -C puts it into core dumps.
Result<void> BhyveRunner::prepare_memory()
{
    if (!m_config.memory_huge_pages)
        m_memory->huge_regions().disable();
    if (m_config.memory_wired) {
        u8 const* const high = m_memory->range(Gpa(GuestMemory::high_base), m_memory->high_size());
        bool const locked = mlock(m_memory->range(Gpa(0), m_memory->low_size()), m_memory->low_size()) == 0
            && (!high || mlock(high, m_memory->high_size()) == 0);
        if (!locked)
            return make_error(errno, "{}: its memory cannot be locked (-S): {}", m_config.name, std::strerror(errno));
    }
    if (m_config.memory_in_core) {
        // core(5): bit 3 is for shared mappings of files, the others are the default.
        std::FILE* const filter = std::fopen("/proc/self/coredump_filter", "we");
        if (!filter)
            return Error::from_errno(errno, "/proc/self/coredump_filter");
        std::fputs("0x3b\n", filter);
        std::fclose(filter);
    }
    return {};
}

Result<void> BhyveRunner::take_over_vm()
{
    TRY(VmDirectory::check_name(m_config.name));
    m_directory = TRY(VmDirectory::open());
    if (!m_config.boot.wanted())
        return open_prepared_vm();
    TRY(machine::check_boot_files(m_config.boot));
    ConfigTree config;
    TRY(config.load_text(m_variables.dump(), m_config.name));
    TRY(machine::remember_boot_request(config, m_config.boot));
    TRY(config.set(vm_key::loader, "bhyve"));
    auto const existing = m_directory->open_vm(m_config.name);
    bool const left_behind = existing.ok() && existing.value()->config().has(transient_key);
    m_transient = !existing.ok() || left_behind || m_config.monitor;
    if (m_transient)
        TRY(config.set_boolean(transient_key, true));
    m_claimed = TRY(machine::claim_for_loading(*m_directory, m_config.name, m_config.memory_size, std::move(config)));
    return {};
}

// A VM that bhyveload has filled: its memory has a size, and it knows its kernel for the next start.
Result<void> BhyveRunner::open_prepared_vm()
{
    auto vm = TRY(m_directory->open_vm(m_config.name));
    TRY(vm->lock());
    if (m_config.memory_given && m_config.memory_size != vm->memory_size())
        return make_error(EINVAL, "{} has {} of memory, from its loader, not {}", m_config.name, machine::memory_size_text(vm->memory_size()),
            machine::memory_size_text(m_config.memory_size));
    m_config.memory_size = vm->memory_size();
    auto const loaded = TRY(machine::MachineConfig::read_boot_request(vm->config()));
    if (!vm->has_state() && !loaded.wanted())
        return make_error(ENOENT, "nothing has been loaded into {}: use bhyveload, or bhyve -b", m_config.name);
    m_config.boot = loaded;
    ConfigTree config;
    TRY(config.load_text(m_variables.dump(), m_config.name));
    if (loaded.wanted())
        TRY(machine::remember_boot_request(config, loaded));
    TRY(config.set(vm_key::loader, TRY(vm->config().value_or(vm_key::loader, "bhyveload"))));
    TRY(vm->save_config(std::move(config)));
    machine::publish_device_node(m_config.name, vm->path());
    m_transient = m_config.monitor;
    m_claimed.vm = std::move(vm);
    return {};
}

// What the loader left, when it is fresh; else its kernel once more.
Result<void> BhyveRunner::load()
{
    auto& vm = *m_claimed.vm;
    if (vm.has_state()) {
        auto const bytes = TRY(vm.load_state());
        auto const state = TRY(machine::SavedState::decode(bytes, vm.path() + "/state"));
        if (state.record().kind == MachineRecord::Kind::loaded)
            return m_pc->restore(state, vm.path() + "/state");
        m_memory->clear();
    }
    return load_kernel();
}

Result<void> BhyveRunner::load_kernel()
{
    if (!m_config.boot.wanted())
        return make_error(ENOENT, "{} has come to its end; load it again with bhyveload", m_config.name);
    auto const guest = TRY(machine::load_guest(*m_memory, m_config.boot));
    log::info("{}: {}", m_config.name, guest.description);
    return m_pc->prepare_boot(guest.bsp);
}

// A reboot: the same process, the same devices, from power-on.
Result<void> BhyveRunner::restart()
{
    log::info("{}: the guest reboots", m_config.name);
    m_pc->reset();
    m_memory->clear();
    TRY(load_kernel());
    m_asked_to_power_off = false;
    ++m_start;
    m_pc->resume();
    return {};
}

void BhyveRunner::end_with(int exit_code)
{
    m_exit_code = exit_code;
}

// SIGTERM asks the guest first, when it listens; everything else, and a second SIGTERM, ends the machine.
void BhyveRunner::take_signal(int signal)
{
    if (signal == SIGTERM && !m_asked_to_power_off && m_pc && m_pc->press_power_button()) {
        log::info("{}: the power button is pressed", m_config.name);
        m_asked_to_power_off = true;
        return;
    }
    end_with(exit_power_off);
}

void BhyveRunner::take_end(MachineEnd const& end, u64 start)
{
    if (start != m_start || m_exit_code || m_trouble)
        return;
    m_pc->pause();
    switch (end.reason) {
    case RunExit::reset:
        if (!m_config.restart_on_reset)
            return end_with(exit_reset);
        if (auto restarted = restart(); !restarted.ok())
            m_trouble = restarted.release_error();
        return;
    case RunExit::power_off:
        return end_with(end.exit_status.value_or(exit_power_off));
    case RunExit::halted:
        if (m_pc->all_halted())
            return end_with(exit_halted);
        break;
    case RunExit::triple_fault:
        log::error("{}: triple fault", m_config.name);
        return end_with(exit_triple_fault);
    case RunExit::failure:
        m_trouble = make_error(EIO, "{}: {}", m_config.name, end.text.empty() ? "the engine failed" : end.text);
        return;
    case RunExit::kicked:
    case RunExit::debug:
        break;
    }
    m_pc->resume();
}

void BhyveRunner::report_profile()
{
    Profile const profile = m_pc->profile();
    std::string const text = m_config.profile_json ? profile_json(profile) + "\n" : profile_text(profile);
    if (m_config.profile_file.empty()) {
        std::fputs(text.c_str(), stderr);
        return;
    }
    std::FILE* const file = std::fopen(m_config.profile_file.c_str(), "we");
    bool const written = file && std::fputs(text.c_str(), file) >= 0;
    if (!file || std::fclose(file) != 0 || !written)
        log::error("{}: {}", m_config.profile_file, std::strerror(errno));
}

// The machine's end stays visible in its state, unless the VM goes away with it.
void BhyveRunner::finish(std::optional<int> exit_code)
{
    bool const destroy = m_transient || (m_config.destroy_on_power_off && exit_code == exit_power_off);
    std::vector<u8> state;
    m_control.reset();
    if (m_pc) {
        m_pc->pause();
        if (m_config.engine_options.profile)
            report_profile();
        if (!destroy && exit_code)
            state = m_pc->save(MachineRecord::Kind::ended);
        m_pc.reset();
    }
    m_memory.reset();
    auto& vm = m_claimed.vm;
    if (destroy) {
        machine::withdraw_device_node(vm->name(), vm->path());
        if (auto const destroyed = m_directory->destroy(std::move(vm)); !destroyed.ok())
            log::error("{}", destroyed.error().message());
        return;
    }
    if (!state.empty())
        if (auto const saved = vm->save_state(state); !saved.ok())
            log::error("{}: its state is not saved: {}", m_config.name, saved.error().message());
    vm->unlock();
}

} // namespace anyhyve::tools
