// The thread of one virtual CPU: runs it, parks it when the machine pauses, and tells the machine what ended it.
// Threads: run() is the thread itself; everything else from any thread.
#pragma once

#include <atomic>
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
    // `ended` hears, on this thread, of each event but a kick; the virtual CPU is parked then.
    using Ended = std::function<void(unsigned id, RunExit)>;

    VcpuThread(unsigned id, Ended ended) : m_id(id), m_ended(std::move(ended)) {}
    ~VcpuThread() override;
    VcpuThread(VcpuThread const&) = delete;
    VcpuThread& operator=(VcpuThread const&) = delete;

    void set_vcpu(std::unique_ptr<Vcpu> vcpu) { m_vcpu = std::move(vcpu); }
    Vcpu& vcpu() { return *m_vcpu; }
    Vcpu const& vcpu() const { return *m_vcpu; }

    // Creates the thread, parked, on these host CPUs (empty: any).
    Result<void> start(std::vector<unsigned> const& host_cpus);
    void resume();
    void ask_to_park();
    void wait_until_parked();
    void stop(); // ends the thread
    bool is_parked() const;

    // A virtual CPU that halted with interrupts off sleeps here until one of these comes.
    void interrupt_pending() override { m_vcpu->interrupt_pending(); }
    void nmi() override;
    void init() override;
    void startup(u8 vector) override;

private:
    enum class Wish { park, run, stop };

    void run();
    bool wait_for_permission();
    void wake_from_halt();
    u64 wakeups() const;

    unsigned const m_id;
    Ended const m_ended;
    std::unique_ptr<Vcpu> m_vcpu;
    std::thread m_thread;
    mutable std::mutex m_mutex; // innermost: nothing else is locked while it is held
    std::condition_variable m_changed;
    Wish m_wish = Wish::park;
    bool m_parked = true;
    bool m_halted = false; // sleeps until an NMI, INIT or SIPI
    u64 m_wakeups = 0;     // how many of these came: one that comes while run() returns must not be lost
};

} // namespace anyhyve::machine
