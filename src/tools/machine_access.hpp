// What bhyvectl can ask of a machine, whether it runs (its control socket answers) or not (its files do). Threads: one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vmm/cpu_state.hpp"
#include "vmm/profile.hpp"
#include "vmm/statistics.hpp"
#include "vmm/vm.hpp"

namespace anyhyve::tools {

class MachineAccess {
public:
    virtual ~MachineAccess() = default;

    virtual bool is_running() const = 0;
    virtual Result<bool> is_paused() = 0;
    virtual Result<std::vector<unsigned>> held_vcpus() = 0;
    virtual Result<unsigned> vcpu_count() = 0;
    virtual Result<CpuState> cpu_state(unsigned vcpu) = 0;
    virtual Result<void> set_cpu_state(unsigned vcpu, CpuState const&) = 0;
    virtual Result<i64> rtc_time() = 0;
    virtual Result<void> set_rtc_time(i64 seconds) = 0;
    virtual Result<u8> rtc_memory(unsigned offset) = 0;
    virtual Result<void> set_rtc_memory(unsigned offset, u8 value) = 0;
    virtual Result<std::vector<Statistic>> statistics(unsigned vcpu) = 0;
    virtual Result<Profile> profile() = 0;
    virtual Result<void> inject_nmi(unsigned vcpu) = 0;
    virtual Result<void> assert_local_interrupt(unsigned vcpu, unsigned pin) = 0;
    // "reset", "power-off", "pause", "resume" and the like: only where something runs.
    virtual Result<void> command(std::string const& name) = 0;
    virtual Result<void> command(std::string const& name, unsigned vcpu) = 0;
    // Writes back what was changed.
    virtual Result<void> finish() = 0;
};

// `vm` outlives the access.
Result<std::unique_ptr<MachineAccess>> access_machine(Vm& vm);

} // namespace anyhyve::tools
