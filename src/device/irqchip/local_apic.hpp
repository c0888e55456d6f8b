// The local APIC of one processor, with its MMIO page (xAPIC) and its MSRs (x2APIC).
//
// Spec: Intel SDM vol. 3A chapter 10; register numbers below are MSR index - 0x800, or MMIO offset / 16.
// State: the registers, IRR/ISR/TMR, the timer, and the levels of LINT0 and LINT1 (wires: not saved, not reset).
// Missing: relocation of the page to anywhere but the hole below 4 GiB (such a write to IA32_APIC_BASE is #GP), SMIs (dropped), focus processor,
//          and an APIC ID that software can change where x2APIC mode is offered (current processors do not let it either).
// Threads: any; one lock per local APIC. It is never held while something is sent to another one, the IOAPIC or the 8259.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "device/irqchip/apic_bus.hpp"
#include "device/irqchip/apic_timer.hpp"
#include "device/irqchip/vector_set.hpp"
#include "vmm/bus.hpp"
#include "vmm/engine.hpp"

namespace anyhyve {

enum class LocalInterruptPin : u8 { lint0, lint1 };

// In the order of bhyve's "lvts triggered" statistics.
enum class LvtEntry : u8 { timer, thermal, performance, lint0, lint1, error, cmci };
constexpr unsigned lvt_entries = 7;

enum class ApicRegister : u32 {
    id = 0x02,                     // R
    version = 0x03,                // R
    task_priority = 0x08,          // RW
    arbitration_priority = 0x09,   // R, xAPIC only
    processor_priority = 0x0a,     // R
    end_of_interrupt = 0x0b,       // W
    remote_read = 0x0c,            // R, xAPIC only
    logical_destination = 0x0d,    // RW in xAPIC mode, R in x2APIC mode
    destination_format = 0x0e,     // RW, xAPIC only
    spurious_vector = 0x0f,        // RW
    in_service = 0x10,             // R, 8 registers
    trigger_mode = 0x18,           // R, 8 registers
    interrupt_request = 0x20,      // R, 8 registers
    error_status = 0x28,           // RW: a write latches
    lvt_cmci = 0x2f,               // RW
    interrupt_command = 0x30,      // RW; 64 bits wide in x2APIC mode
    interrupt_command_high = 0x31, // RW, xAPIC only
    lvt_timer = 0x32,              // RW
    lvt_thermal = 0x33,            // RW
    lvt_performance = 0x34,        // RW
    lvt_lint0 = 0x35,              // RW
    lvt_lint1 = 0x36,              // RW
    lvt_error = 0x37,              // RW
    initial_count = 0x38,          // RW
    current_count = 0x39,          // R
    divide_configuration = 0x3e,   // RW
    self_ipi = 0x3f,               // W, x2APIC only
};

class LocalApic final : public LocalInterrupts, public Persistent, public StatisticsSource {
public:
    static constexpr u64 bus_frequency = 128 * MiB; // Hz: what the timer counts before its divider (bhyve's)
    static constexpr u64 default_base = 0xfee00000;
    static constexpr u64 page_size = 0x1000;
    enum class X2Apic : u8 { hidden, offered };

    // Attaches itself to `bus`; `id` is the number of APICs that are already there. ID 0 is the bootstrap processor.
    LocalApic(ApicBus& bus, unsigned id, Clock&, X2Apic);
    ~LocalApic() override;
    LocalApic(LocalApic const&) = delete;
    LocalApic& operator=(LocalApic const&) = delete;

    // Whom to tell. Before the vCPU runs.
    void connect(VcpuSignals& signals) { m_signals = &signals; }
    // Who finds room on the memory bus when software moves the registers; without, they stay where they are. Before the vCPU runs.
    void set_pages(class LocalApicPages& pages) { m_pages = &pages; }
    unsigned id() const { return m_id; }
    u64 page_address() const;

    // Whose page the calling thread sees at 0xfee00000: each vCPU thread names its own, once.
    static void set_current(LocalApic* apic) { s_current = apic; }
    static LocalApic* current() { return s_current; }

    // What firmware leaves behind for an operating system that knows only the 8259 (MP specification 3.6.2.2, virtual wire mode):
    // enabled, LINT0 = ExtINT, LINT1 = NMI. For the bootstrap processor of a machine that starts without firmware.
    void enter_virtual_wire_mode();

    // LocalInterrupts
    bool interrupt_pending() const override { return m_pending.load(std::memory_order_acquire); }
    int acknowledge() override;
    u64 cr8() const override { return m_task_priority.load(std::memory_order_relaxed) >> 4; }
    void set_cr8(u64 value) override;
    // IA32_TSC_DEADLINE is in units of Clock::tsc(): the engine takes the guest's TSC offset off and puts it on.
    bool read_msr(u32 index, u64& value) override;
    bool write_msr(u32 index, u64 value) override;
    void reset_by_init() override;

    // The MMIO page.
    u64 read_page(u64 offset, unsigned width);
    void write_page(u64 offset, unsigned width, u64 value);

    // From the bus.
    void accept(DeliveryMode, u8 vector, TriggerMode);
    void set_local_interrupt(LocalInterruptPin, bool asserted);
    bool hardware_enabled() const { return m_mode.load(std::memory_order_relaxed) != Mode::disabled; }
    bool software_enabled() const { return m_software_enabled.load(std::memory_order_relaxed); }
    bool is_addressed_by(u32 destination, DestinationMode) const;
    u8 processor_priority() const { return m_processor_priority.load(std::memory_order_relaxed); }
    void count_message_to(unsigned id) { m_messages_to[id].fetch_add(1, std::memory_order_relaxed); }
    // Sends a local interrupt as if its source had asked (machine check, thermal, performance counter; bhyvectl's injections).
    void trigger(LvtEntry);

    std::string_view state_name() const override { return m_state_name; }
    u32 state_version() const override { return 2; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

    std::string statistics_name() const override;
    std::vector<Statistic> statistics() const override;

private:
    enum class Mode : u8 { disabled, xapic, x2apic };
    enum class Error : u32; // bits of the error status register
    // What remains to be done when the lock has been released.
    struct Effects {
        std::optional<ApicMessage> message;
        std::optional<u8> broadcast_eoi;
    };

    Mode mode() const { return m_mode.load(std::memory_order_relaxed); }
    void carry_out(Effects const&);
    void timer_due();
    void run_timer();
    u32 read_register(u32 number);
    void write_register(u32 number, u32 value, Effects&);
    bool write_base(u64 value);
    bool write_x2apic(u32 number, u64 value, Effects&);
    void write_spurious_vector(u32 value);
    void write_lvt(LvtEntry, u32 value);
    void write_command(u32 low, u32 destination, Effects&);
    void end_interrupt(Effects&);
    void request(u8 vector, TriggerMode);
    void report(Error);
    void trigger_locked(LvtEntry, TriggerMode = TriggerMode::edge);
    void service_local_level(LocalInterruptPin);
    void set_task_priority(u8 value);
    void update_priority();
    bool external_pending() const;
    int deliverable_vector() const;
    void evaluate();
    void reset_registers();
    void configure_timer();
    u32& lvt(LvtEntry entry) { return m_lvt[static_cast<unsigned>(entry)]; }
    u32 lvt(LvtEntry entry) const { return m_lvt[static_cast<unsigned>(entry)]; }
    u32 logical_id() const { return m_logical_destination.load(std::memory_order_relaxed); }

    static thread_local LocalApic* s_current;

    ApicBus& m_bus;
    unsigned const m_id;
    X2Apic const m_x2apic;
    std::string const m_state_name;
    VcpuSignals* m_signals = nullptr;

    mutable std::mutex m_mutex; // the innermost lock but the vCPU's event word; protects all below, atomics are written under it too
    std::atomic<bool> m_pending { false };
    std::atomic<Mode> m_mode { Mode::xapic };
    std::atomic<bool> m_software_enabled { false };
    std::atomic<u8> m_task_priority { 0 };
    std::atomic<u8> m_processor_priority { 0 };
    std::atomic<u32> m_logical_destination { 0 };
    std::atomic<u32> m_destination_format { 0xffffffff };
    std::atomic<u64> m_base { 0 };
    std::atomic<u32> m_xapic_id { 0 };
    class LocalApicPages* m_pages = nullptr;
    u32 m_spurious_vector = 0xff;
    VectorSet m_request, m_in_service, m_level;
    u32 m_errors_pending = 0, m_error_status = 0;
    std::array<u32, lvt_entries> m_lvt {};
    u32 m_command = 0, m_command_high = 0;
    bool m_external_latched = false; // an ExtINT message (from the IOAPIC) waits for its acknowledge cycle
    std::array<bool, 2> m_pins {};
    ApicTimer m_timer;

    std::atomic<u64> m_spurious_eois { 0 };
    std::array<std::atomic<u64>, lvt_entries> m_triggered {};
    std::array<std::atomic<u64>, ApicBus::most_apics> m_messages_to {};
};

// The page at 0xfee00000: each processor sees its own local APIC there.
class LocalApicPage final : public BusDevice {
public:
    explicit LocalApicPage(u64 base) : m_base(base) {}
    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

private:
    u64 const m_base;
};

// The places on the memory bus where any local APIC has ever had its registers: the usual one, and a few that guests chose.
class LocalApicPages {
public:
    explicit LocalApicPages(Bus& bus) : m_bus(bus) {}
    // False: no device can be at `base`, or too many places have been used already. Threads: any.
    bool provide(u64 base);

private:
    struct Place {
        u64 base;
        std::unique_ptr<LocalApicPage> page;
    };
    Bus& m_bus;
    std::mutex m_mutex;
    std::vector<Place> m_places;
};

} // namespace anyhyve
