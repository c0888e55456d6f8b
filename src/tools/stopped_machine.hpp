// A machine that nobody runs, in its files. Reading needs nothing; the first change takes the VM's lock and finish() writes.
#pragma once

#include <optional>

#include "device/timer/rtc.hpp"
#include "machine/saved_state.hpp"
#include "tools/machine_access.hpp"

namespace anyhyve::tools {

class StoppedMachine final : public MachineAccess {
public:
    explicit StoppedMachine(Vm& vm) : m_vm(vm) {}

    bool is_running() const override { return false; }
    Result<bool> is_paused() override { return true; }
    Result<std::vector<unsigned>> held_vcpus() override { return std::vector<unsigned> {}; }
    Result<unsigned> vcpu_count() override;
    Result<CpuState> cpu_state(unsigned vcpu) override;
    Result<void> set_cpu_state(unsigned vcpu, CpuState const&) override;
    Result<i64> rtc_time() override;
    Result<void> set_rtc_time(i64 seconds) override;
    Result<u8> rtc_memory(unsigned offset) override;
    Result<void> set_rtc_memory(unsigned offset, u8 value) override;
    Result<std::vector<Statistic>> statistics(unsigned vcpu) override;
    Result<Profile> profile() override;
    Result<void> inject_nmi(unsigned vcpu) override;
    Result<void> assert_local_interrupt(unsigned vcpu, unsigned pin) override;
    Result<void> command(std::string const& name) override;
    Result<void> command(std::string const& name, unsigned) override { return command(name); }
    Result<void> finish() override;

private:
    // A clock device on a standing clock, in the state that the file has of it.
    struct StandingRtc {
        std::unique_ptr<Clock> clock;
        std::unique_ptr<Rtc> rtc;
    };

    Result<machine::SavedState*> state();
    Result<machine::SavedState*> state_to_change();
    Result<Rtc*> rtc();
    Result<void> keep_rtc();
    Result<void> check_vcpu(unsigned vcpu);
    std::string state_path() const { return m_vm.path() + "/state"; }

    Vm& m_vm;
    std::optional<machine::SavedState> m_state;
    std::optional<StandingRtc> m_rtc;
    bool m_changed = false;
};

} // namespace anyhyve::tools
