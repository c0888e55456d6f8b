// A vCPU of the software engine: the run loop around generated code, events from other threads, state in and out.
#pragma once

#include <condition_variable>
#include <mutex>

#include "engine/soft/cpuid.hpp"
#include "engine/soft/halt_spin.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

class SoftVcpu : public Vcpu {
public:
    SoftVcpu(VcpuWires const&, CodeCache&, Thunks const&, Crowd&);
    ~SoftVcpu() override;

    RunExit run() override;
    RunExit step() override;
    void kick() override { signal(Cpu::event_kick); }
    void request_exit(RunExit) override;
    void settle() override { take_start_messages(); }
    void forget_signals() override;
    CpuState state() const override;
    void set_state(CpuState const&) override;
    std::string failure_text() const override { return m_failure; }

    void interrupt_pending() override { signal(Cpu::event_interrupt); }
    void nmi() override;
    void init() override;
    void startup(u8 vector) override;

    std::string statistics_name() const override;
    std::vector<Statistic> statistics() const override;

private:
    void signal(u32 event);
    RunExit loop();
    bool take_lifecycle_events(RunExit& exit);
    void take_start_messages();
    bool can_wake() const;
    void wait();
    void sleep();
    void set_spin_ticks();
    void wait_for_event(); // wait(), and how long it took
    void run_for_a_while();

    std::unique_ptr<Cpu> m_cpu;
    Cpuid m_cpuid;
    RuntimeStatistics m_statistics;
    Mmu m_mmu;
    Translator m_translator;
    CodeCache& m_cache;
    Crowd& m_crowd;
    HaltSpin m_halt_spin;
    std::atomic<RunExit> m_requested { RunExit::kicked };
    std::atomic<bool> m_waiting_for_sipi { false }; // written by the thread that runs the vCPU
    std::string m_failure;
};

} // namespace anyhyve::soft
