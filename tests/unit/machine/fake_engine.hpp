// An engine whose virtual CPUs do what a test tells them, on their real threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "vmm/engine.hpp"

namespace anyhyve::machine {

class FakeVcpu final : public Vcpu {
public:
    explicit FakeVcpu(VcpuWires const& wires) : m_wires(wires) {}

    // What run() returns next; without one it waits for a kick.
    void script(RunExit exit, std::function<void(FakeVcpu&)> before = {})
    {
        std::lock_guard const lock(m_mutex);
        m_script.push_back({ exit, std::move(before) });
        m_changed.notify_all();
    }

    RunExit run() override
    {
        std::unique_lock lock(m_mutex);
        ++m_runs;
        m_changed.wait(lock, [this] { return m_kicked || m_requested != RunExit::kicked || !m_script.empty(); });
        if (m_requested != RunExit::kicked)
            return std::exchange(m_requested, RunExit::kicked);
        if (std::exchange(m_kicked, false))
            return RunExit::kicked;
        auto step = std::move(m_script.front());
        m_script.pop_front();
        lock.unlock();
        if (step.before)
            step.before(*this);
        lock.lock();
        return m_requested != RunExit::kicked ? std::exchange(m_requested, RunExit::kicked) : step.exit;
    }
    RunExit step() override { return RunExit::debug; }
    void kick() override
    {
        std::lock_guard const lock(m_mutex);
        m_kicked = true;
        m_changed.notify_all();
    }
    void request_exit(RunExit exit) override
    {
        std::lock_guard const lock(m_mutex);
        m_requested = exit;
        m_changed.notify_all();
    }
    void settle() override {}
    void forget_signals() override {}
    CpuState state() const override { return m_state; }
    void set_state(CpuState const& state) override { m_state = state; }
    std::string failure_text() const override { return "told to fail"; }
    void interrupt_pending() override {}
    void nmi() override { ++m_nmis; }
    void init() override {}
    void startup(u8) override {}
    std::string statistics_name() const override { return fmt::format("vcpu{}", m_wires.id); }
    std::vector<Statistic> statistics() const override { return {}; }

    VcpuWires const& wires() const { return m_wires; }
    unsigned runs()
    {
        std::lock_guard const lock(m_mutex);
        return m_runs;
    }
    unsigned nmis() const { return m_nmis; }

private:
    struct Step {
        RunExit exit;
        std::function<void(FakeVcpu&)> before;
    };
    VcpuWires m_wires;
    CpuState m_state;
    std::mutex m_mutex;
    std::condition_variable m_changed;
    std::deque<Step> m_script;
    bool m_kicked = false;
    RunExit m_requested = RunExit::kicked;
    unsigned m_runs = 0;
    std::atomic<unsigned> m_nmis { 0 };
};

class FakeEngine final : public Engine {
public:
    explicit FakeEngine(std::vector<FakeVcpu*>& vcpus) : m_vcpus(vcpus) {}
    std::string name() const override { return "fake"; }
    Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuWires const& wires) override
    {
        auto vcpu = std::make_unique<FakeVcpu>(wires);
        m_vcpus.push_back(vcpu.get());
        return std::unique_ptr<Vcpu>(std::move(vcpu));
    }

private:
    std::vector<FakeVcpu*>& m_vcpus;
};

} // namespace anyhyve::machine
