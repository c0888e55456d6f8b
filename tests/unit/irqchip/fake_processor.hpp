// A processor that only counts what its local APIC tells it, and a board of several of them.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "../timer/fake_clock.hpp"
#include "../timer/fake_wires.hpp"
#include "device/irqchip/interrupt_router.hpp"
#include "device/irqchip/local_apic.hpp"

namespace anyhyve {

class FakeProcessor final : public VcpuSignals {
public:
    void interrupt_pending() override { ++signals; }
    void nmi() override { ++nmis; }
    void init() override { ++inits; }
    void startup(u8 vector) override
    {
        ++startups;
        startup_vector = vector;
    }
    std::atomic<int> signals { 0 }, nmis { 0 }, inits { 0 }, startups { 0 };
    std::atomic<int> startup_vector { -1 };
};

struct ApicBoard {
    explicit ApicBoard(unsigned count, LocalApic::X2Apic x2apic = LocalApic::X2Apic::offered)
    {
        for (unsigned id = 0; id < count; ++id) {
            processors.push_back(std::make_unique<FakeProcessor>());
            apics.push_back(std::make_unique<LocalApic>(bus, id, clock, x2apic));
            apics.back()->connect(*processors.back());
        }
    }
    u32 read(unsigned id, ApicRegister number) { return static_cast<u32>(apics[id]->read_page(static_cast<u64>(number) << 4, 4)); }
    void write(unsigned id, ApicRegister number, u32 value) { apics[id]->write_page(static_cast<u64>(number) << 4, 4, value); }
    void enable(unsigned id) { write(id, ApicRegister::spurious_vector, 0x1ff); }
    void enable_all()
    {
        for (unsigned id = 0; id < apics.size(); ++id)
            enable(id);
    }
    void enable_x2apic(unsigned id)
    {
        u64 base = 0;
        apics[id]->read_msr(0x1b, base);
        ASSERT_TRUE(apics[id]->write_msr(0x1b, base | 1 << 10));
        ASSERT_TRUE(apics[id]->write_msr(0x80f, 0x1ff));
    }
    void send_ipi(unsigned from, u32 low, u8 destination)
    {
        write(from, ApicRegister::interrupt_command_high, u32 { destination } << 24);
        write(from, ApicRegister::interrupt_command, low);
    }
    void eoi(unsigned id) { write(id, ApicRegister::end_of_interrupt, 0); }
    // Who has an interrupt to take, as a bit mask; takes and ends them all.
    u64 receivers()
    {
        u64 mask = 0;
        for (unsigned id = 0; id < apics.size(); ++id) {
            while (apics[id]->interrupt_pending()) {
                mask |= u64 { 1 } << id;
                apics[id]->acknowledge();
                u64 base = 0;
                apics[id]->read_msr(0x1b, base);
                if (base & 1 << 10)
                    apics[id]->write_msr(0x80b, 0);
                else
                    eoi(id);
            }
        }
        return mask;
    }

    FakeClock clock;
    ApicBus bus;
    std::vector<std::unique_ptr<FakeProcessor>> processors;
    std::vector<std::unique_ptr<LocalApic>> apics;
};

} // namespace anyhyve
