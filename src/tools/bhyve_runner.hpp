// One run of bhyve: takes the machine over, builds it, runs it through its reboots to its end, and leaves the VM as it should be left.
// Threads: one, the main thread; others only post work to its event loop.
#pragma once

#include <memory>
#include <optional>

#include "host/event_loop.hpp"
#include "machine/engine_choice.hpp"
#include "machine/pc.hpp"
#include "machine/vm_claim.hpp"
#include "tools/control_service.hpp"
#include "vmm/config_tree.hpp"

namespace anyhyve::tools {

class BhyveRunner {
public:
    // `variables`: the configuration as the command line gives it.
    explicit BhyveRunner(ConfigTree variables) : m_variables(std::move(variables)) {}
    ~BhyveRunner();

    // The exit code of bhyve. An error: trouble with the host or a wrong configuration.
    Result<int> run();

private:
    Result<void> direct_log();
    Result<void> take_over_vm();
    Result<void> open_prepared_vm();
    Result<int> build_and_run(machine::EngineChoice const&);
    Result<void> prepare_memory();
    Result<void> load();
    Result<void> load_kernel();
    Result<void> restart();
    void take_signal(int signal);
    void take_end(machine::MachineEnd const&, u64 start);
    void end_with(int exit_code);
    void finish(std::optional<int> exit_code);
    void report_profile();

    ConfigTree m_variables;
    machine::MachineConfig m_config;
    std::unique_ptr<host::EventLoop> m_loop;
    std::optional<VmDirectory> m_directory;
    machine::ClaimedVm m_claimed;
    std::unique_ptr<GuestMemory> m_memory;
    bool m_transient = false; // the VM goes away with this run
    bool m_asked_to_power_off = false;
    std::atomic<u64> m_start { 0 }; // counts power-ons: what a virtual CPU reported before the last one is old news
    std::optional<int> m_exit_code;
    std::optional<Error> m_trouble;
    std::unique_ptr<machine::Pc> m_pc; // its threads post to the loop
    std::unique_ptr<ControlService> m_control;
};

} // namespace anyhyve::tools
