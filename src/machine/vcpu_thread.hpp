// The thread of one virtual CPU: when it may run, when it parks, and what wakes it from a halt for good.
// Threads: may_run() and returned() are the thread's own; everything else from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "vmm/engine.hpp"

namespace anyhyve::machine {

class VcpuThread final : public VcpuSignals {
public:
    explicit VcpuThread(unsigned id) : m_id(id) {}
    ~VcpuThread() override;
    VcpuThread(VcpuThread const&) = delete;
    VcpuThread& operator=(VcpuThread const&) = delete;

    void set_vcpu(std::unique_ptr<Vcpu> vcpu) { m_vcpu = std::move(vcpu); }
    Vcpu& vcpu() { return *m_vcpu; }
    Vcpu const& vcpu() const { return *m_vcpu; }

    // Creates the thread, parked, on these host CPUs (empty: any). `body` runs the virtual CPU for as long as may_run() says.
    Result<void> start(std::vector<unsigned> const& host_cpus, std::function<void()> body);
    // Parks while the machine is paused or this virtual CPU halted for good. False: the thread is to end.
    bool may_run();
    // Runs the virtual CPU, or one instruction of it, as was last asked for.
    RunExit run();
    // run() returned: anything but a kick parks the virtual CPU until resume(), or until what wakes it from a halt.
    void returned(RunExit);
    void resume();
    // A parked virtual CPU runs one instruction and parks again. False when nothing came of it within `patience`: it waits for an interrupt.
    bool step(std::chrono::milliseconds patience);
    void ask_to_park();
    void wait_until_parked();
    void stop(); // ends the thread
    bool is_parked() const;
    // The virtual CPU has been set to another state: it is not halted any more, or will say so again. Parked.
    void forget_halt();

    // A virtual CPU that halted with interrupts off sleeps here until one of these comes.
    void interrupt_pending() override { m_vcpu->interrupt_pending(); }
    void nmi() override;
    void init() override;
    void startup(u8 vector) override;

private:
    enum class Wish { park, step, run, stop };

    void wake_from_halt();

    unsigned const m_id;
    std::unique_ptr<Vcpu> m_vcpu;
    std::thread m_thread;
    mutable std::mutex m_mutex; // innermost: nothing else is locked while it is held
    std::condition_variable m_changed;
    Wish m_wish = Wish::park;
    bool m_parked = true;
    bool m_stepping = false; // what run() does, or did last
    bool m_stepped = false;  // it has executed an instruction
    bool m_halted = false; // sleeps until an NMI, INIT or SIPI
    u64 m_wakeups = 0;     // how many of these came: one that comes while run() returns must not be lost
    u64 m_wakeups_before_run = 0;
};

} // namespace anyhyve::machine
