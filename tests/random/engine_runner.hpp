// Runs cases on the software engine: a vCPU at CPL 3 in long mode, whose page tables map the native side's addresses, and whose
// interrupt gates all lead to HLT.
#pragma once

#include <memory>
#include <vector>

#include "engine/soft/runtime.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vcpu.hpp"
#include "memory_image.hpp"
#include "vmm/bus.hpp"

namespace anyhyve::random_test {

// hot_blocks: translated with care, as code is where time is spent.
enum class Stepping : u8 { whole_blocks, hot_blocks, single_steps };

class EngineRunner {
public:
    EngineRunner();
    ~EngineRunner();
    EngineRunner(EngineRunner const&) = delete;
    EngineRunner& operator=(EngineRunner const&) = delete;

    Outcome run(Case const&, Stepping);
    // Does the case come to an instruction that the host must not run, or runs in a way of its own (unfit_for_host())? By jumping into the
    // middle of others, or by writing it.
    bool meets_unfit_code(Case const&);
    // `count` bytes at a linear address as the last run has left them, as far as they are mapped; returns how many.
    unsigned bytes_at(u64 linear, u8* to, unsigned count) const;
    // What memory holds after the last run (layout::pages one after the other).
    std::vector<u8> memory() const;
    MemoryImage& image() { return m_image; }
    soft::Cpuid const& cpuid() const { return m_cpuid; }
    // For a watchdog on another thread: odd while guest code runs, changes with every run; stop() ends the one under way as a time-out when
    // it has taken so much of the CPU's time.
    u64 turns() const { return m_turns.load(); }
    double patience() const { return m_patience.load(); }
    void set_patience(double seconds) { m_patience.store(seconds); }
    void stop();
    static constexpr double usual_patience = 1;

private:
    class QuietInterrupts : public LocalInterrupts {
    public:
        bool interrupt_pending() const override { return false; }
        int acknowledge() override { return -1; }
        u64 cr8() const override { return 0; }
        void set_cr8(u64) override { }
        bool read_msr(u32, u64&) override { return false; }
        bool write_msr(u32, u64) override { return false; }
        void reset_by_init() override { }
    };
    // Lines that are put back may have been translated.
    class Pages : public MemoryImage::Copy {
    public:
        Pages(EngineRunner& runner, std::array<u8*, layout::page_count> const& pages) : Copy(pages), m_runner(runner) {}

    protected:
        void line_changes(unsigned page, unsigned offset) override;

    private:
        EngineRunner& m_runner;
    };

    VcpuWires wires();
    std::array<u8*, layout::page_count> host_pages() const;
    void write_tables();
    void write_page_tables();
    void write_descriptors();
    void put(u64 physical, u64 value);
    void set_segments(Case const&);
    void set_state(Case const&);
    void begin(Case const&, Stepping);
    void set_heat(soft::CodeCache::Heat);
    Ending go(Stepping);
    void keep_translations();
    Outcome result();

    std::unique_ptr<GuestMemory> m_memory;
    std::unique_ptr<soft::CodeCache> m_cache;
    soft::Thunks m_thunks;
    std::unique_ptr<Clock> m_clock;
    Bus m_ports { "ports" }, m_mmio { "memory" };
    QuietInterrupts m_interrupts;
    soft::Cpuid m_cpuid;
    std::unique_ptr<soft::Cpu> m_cpu;
    soft::RuntimeStatistics m_statistics;
    soft::Mmu m_mmu;
    soft::Translator m_translator;
    soft::CodeCache::Heat m_heat = soft::CodeCache::Heat::by_samples;
    MemoryImage m_image;
    Pages m_pages;
    std::unique_ptr<class EngineSignals> m_signals;
    std::atomic<u64> m_turns { 0 };
    std::atomic<bool> m_stopped { false };
    std::atomic<double> m_patience { usual_patience };
};

} // namespace anyhyve::random_test
