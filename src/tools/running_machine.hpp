// A machine that a bhyve process runs, asked through its control socket.
#pragma once

#include "tools/machine_access.hpp"
#include "vmm/control_client.hpp"

namespace anyhyve::tools {

class RunningMachine final : public MachineAccess {
public:
    explicit RunningMachine(ControlClient client) : m_client(std::move(client)) {}

    bool is_running() const override { return true; }
    Result<bool> is_paused() override;
    Result<std::vector<unsigned>> held_vcpus() override;
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
    Result<void> command(std::string const& name, unsigned vcpu) override;
    Result<void> finish() override { return {}; }

private:
    ControlClient m_client;
};

} // namespace anyhyve::tools
