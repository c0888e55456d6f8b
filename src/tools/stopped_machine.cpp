// A machine that nobody runs, in its files.
#include "tools/stopped_machine.hpp"

#include "machine/machine_config.hpp"
#include "tools/running_machine.hpp"

namespace anyhyve::tools {

namespace {

// The clock of a machine that does not run: it stands, and its alarms never ring.
class StandingClock final : public Clock {
public:
    explicit StandingClock(Nanoseconds time) : m_time(time) {}
    Nanoseconds now() override { return m_time; }
    u64 tsc() override { return m_time; }
    u64 tsc_frequency() const override { return nanoseconds_per_second; }
    u64 tsc_offset() const override { return 0; }
    Nanoseconds from_tsc(u64 tsc) const override { return tsc; }
    std::unique_ptr<Timer> create_timer(std::function<void()>) override { return std::make_unique<SilentTimer>(); }
    void pause() override {}
    void resume() override {}

private:
    static constexpr u64 nanoseconds_per_second = 1'000'000'000;
    class SilentTimer final : public Timer {
    public:
        void arm(Nanoseconds) override {}
        void cancel() override {}
    };

    Nanoseconds const m_time;
};

} // namespace

Result<std::unique_ptr<MachineAccess>> access_machine(Vm& vm)
{
    auto client = ControlClient::connect(vm.directory(), Vm::control_socket);
    if (client.ok())
        return std::unique_ptr<MachineAccess>(std::make_unique<RunningMachine>(client.release_value()));
    if (client.error().code() != ESRCH)
        return client.release_error();
    return std::unique_ptr<MachineAccess>(std::make_unique<StoppedMachine>(vm));
}

// A machine into which nothing has been loaded is as after power-on.
Result<machine::SavedState*> StoppedMachine::state()
{
    if (m_state)
        return &*m_state;
    if (!m_vm.has_state()) {
        m_state = machine::SavedState::of_loaded(CpuState::after_reset(true));
        return &*m_state;
    }
    auto const bytes = TRY(m_vm.load_state());
    m_state = TRY(machine::SavedState::decode(bytes, state_path()));
    return &*m_state;
}

// Read again under the lock: somebody may have loaded the machine meanwhile.
Result<machine::SavedState*> StoppedMachine::state_to_change()
{
    if (!m_vm.locked()) {
        TRY(m_vm.lock());
        m_state.reset();
        m_rtc.reset();
    }
    m_changed = true;
    return state();
}

Result<unsigned> StoppedMachine::vcpu_count()
{
    auto* const saved = TRY(state());
    auto const config = TRY(machine::MachineConfig::read_topology(m_vm.config()));
    return std::max(saved->record().vcpus, config.cpus);
}

Result<void> StoppedMachine::check_vcpu(unsigned vcpu)
{
    if (vcpu >= TRY(vcpu_count()))
        return make_error(EINVAL, "{} has no virtual CPU {}", m_vm.name(), vcpu);
    return {};
}

Result<CpuState> StoppedMachine::cpu_state(unsigned vcpu)
{
    TRY(check_vcpu(vcpu));
    auto* const saved = TRY(state());
    return saved->cpu_state(vcpu);
}

Result<void> StoppedMachine::set_cpu_state(unsigned vcpu, CpuState const& cpu)
{
    TRY(check_vcpu(vcpu));
    auto* const saved = TRY(state_to_change());
    saved->set_cpu_state(vcpu, cpu);
    return {};
}

Result<Rtc*> StoppedMachine::rtc()
{
    if (m_rtc)
        return m_rtc->rtc.get();
    auto* const saved = TRY(state());
    bool const local = TRY(m_vm.config().boolean_or("rtc.use_localtime", true));
    StandingRtc standing;
    standing.clock = std::make_unique<StandingClock>(saved->record().clock);
    u64 const low = std::min(m_vm.memory_size(), GuestMemory::low_limit);
    standing.rtc = std::make_unique<Rtc>(*standing.clock, IrqLine(), Rtc::host_seconds(local ? Rtc::Base::local : Rtc::Base::utc), low, m_vm.memory_size() - low);
    if (saved->find(standing.rtc->state_name()))
        TRY(machine::restore_part(*saved, *standing.rtc, state_path()));
    m_rtc = std::move(standing);
    return m_rtc->rtc.get();
}

Result<void> StoppedMachine::keep_rtc()
{
    auto* const saved = TRY(state_to_change());
    saved->replace(machine::save_part(*m_rtc->rtc));
    return {};
}

Result<i64> StoppedMachine::rtc_time()
{
    auto* const clock = TRY(rtc());
    return clock->time();
}

Result<void> StoppedMachine::set_rtc_time(i64 seconds)
{
    TRY(state_to_change());
    auto* const clock = TRY(rtc());
    TRY(clock->set_time(seconds));
    return keep_rtc();
}

Result<u8> StoppedMachine::rtc_memory(unsigned offset)
{
    auto* const clock = TRY(rtc());
    return clock->memory(offset);
}

Result<void> StoppedMachine::set_rtc_memory(unsigned offset, u8 value)
{
    TRY(state_to_change());
    auto* const clock = TRY(rtc());
    TRY(clock->set_memory(offset, value));
    return keep_rtc();
}

// Counters belong to a run.
Result<std::vector<Statistic>> StoppedMachine::statistics(unsigned vcpu)
{
    TRY(check_vcpu(vcpu));
    return std::vector<Statistic> {};
}

Result<Profile> StoppedMachine::profile()
{
    return make_error(ESRCH, "{} does not run", m_vm.name());
}

Result<void> StoppedMachine::inject_nmi(unsigned vcpu)
{
    auto cpu = TRY(cpu_state(vcpu));
    cpu.nmi_pending = true;
    return set_cpu_state(vcpu, cpu);
}

Result<void> StoppedMachine::assert_local_interrupt(unsigned, unsigned)
{
    return make_error(ESRCH, "{} does not run", m_vm.name());
}

Result<void> StoppedMachine::command(std::string const&)
{
    return make_error(ESRCH, "{} does not run", m_vm.name());
}

Result<void> StoppedMachine::finish()
{
    if (!m_changed)
        return {};
    auto* const saved = TRY(state());
    TRY(m_vm.save_state(saved->encode()));
    m_changed = false;
    return {};
}

} // namespace anyhyve::tools
