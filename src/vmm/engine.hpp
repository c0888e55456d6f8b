// Ways to run a vCPU: what the machine asks of an engine, and what an engine asks of the machine.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "vmm/bus.hpp"
#include "vmm/clock.hpp"
#include "vmm/cpu_state.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/profile.hpp"
#include "vmm/statistics.hpp"

namespace anyhyve {

// Why Vcpu::run() returned.
enum class RunExit {
    kicked,       // kick() was called: pause, or a request of the machine
    reset,        // the machine's reset line or port
    power_off,
    halted,       // HLT with interrupts off and no NMI or INIT that could end it
    triple_fault,
    debug,        // a stop asked for by the debugger
    failure,      // a fault of ours or the host's: failure_text() tells
};

// What the local APIC, or another thread, tells a vCPU. Threads: any; never blocks.
class VcpuSignals {
public:
    virtual ~VcpuSignals() = default;
    virtual void interrupt_pending() = 0; // look at LocalInterrupts again before the next instructions
    virtual void nmi() = 0;
    virtual void init() = 0;
    virtual void startup(u8 vector) = 0;  // SIPI
};

// What a software vCPU asks of its local APIC. (With KVM the local APIC is the kernel's.) Threads: called by the vCPU's own thread.
class LocalInterrupts {
public:
    virtual ~LocalInterrupts() = default;
    // Is there an interrupt that the CPU must take when RFLAGS.IF allows? Cheap: an atomic load.
    virtual bool interrupt_pending() const = 0;
    // The acknowledge cycle: the vector to deliver (local APIC first, else the 8259's through LINT0), or -1 when it has gone away.
    virtual int acknowledge() = 0;
    virtual u64 cr8() const = 0;              // task priority, 0..15
    virtual void set_cr8(u64 value) = 0;
    // IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC registers. False: #GP.
    virtual bool read_msr(u32 index, u64& value) = 0;
    virtual bool write_msr(u32 index, u64 value) = 0;
    virtual void reset_by_init() = 0;
};

// CPUID and MSR policy of the machine.
struct CpuPolicy {
    unsigned vcpu_count = 1;
    unsigned sockets = 1, cores = 1, threads = 1;
    bool x2apic = true;
    bool strict_msr = true;       // unknown MSRs: #GP (false: read 0, drop writes)
    bool strict_io = false;       // unknown ports: leave run() with `failure` (bhyve -e)
    bool exit_on_halt = true;     // HLT lets the thread sleep
    bool exit_on_pause = true;
    std::string cpuid_signature = "bhyve bhyve ";
};

// All that a vCPU is wired to. Everything outlives it.
struct VcpuWires {
    unsigned id = 0;
    GuestMemory* memory = nullptr;
    Bus* ports = nullptr;
    Bus* mmio = nullptr;
    Clock* clock = nullptr;
    LocalInterrupts* interrupts = nullptr;
    CpuPolicy policy;
};

class Vcpu : public VcpuSignals, public StatisticsSource {
public:
    // Runs until a lifecycle event; port and memory accesses, halts and interrupts are handled inside. One thread at a time.
    virtual RunExit run() = 0;
    // Runs one instruction. Same thread rules.
    virtual RunExit step() = 0;
    // Makes run() return `kicked` soon; one that comes while run() is not active ends the next run() at once. Threads: any.
    virtual void kick() = 0;
    // Makes run() return `reset` or `power_off`; for devices. Threads: any.
    virtual void request_exit(RunExit) = 0;
    // These: only while run() is not active.
    // INIT and start-up messages that have come since take effect now, so that state() knows of them.
    virtual void settle() = 0;
    // RESET: INIT, start-up messages and NMIs that have come are forgotten.
    virtual void forget_signals() = 0;
    virtual CpuState state() const = 0;
    virtual void set_state(CpuState const&) = 0;
    virtual std::string failure_text() const = 0;
};

class Engine {
public:
    virtual ~Engine() = default;
    virtual std::string name() const = 0; // "soft", "kvm"
    virtual Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuWires const&) = 0;
    // Of all its vCPUs. Threads: any, while the machine runs; values may be slightly old.
    virtual Profile profile() { return {}; }
};

} // namespace anyhyve
