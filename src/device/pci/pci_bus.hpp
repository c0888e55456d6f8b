// All PCI buses of a machine: which function is where, who gets which addresses, and which interrupt pin leads where.
// Bus numbers other than 0 are root buses of their own, as in bhyve.
// Threads: functions are added before the machine runs; configuration accesses come from any thread.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "device/pci/bar_mapper.hpp"
#include "device/pci/pci_function.hpp"
#include "device/pci/pirq_registers.hpp"

namespace anyhyve {

// One INTx wire of the board: for the ACPI _PRT and the MP table.
struct PciInterruptRoute {
    u8 bus = 0;
    u8 slot = 0;
    u8 pin = 0;      // 1 to 4: INTA to INTD
    u8 gsi = 0;      // IOAPIC input, 16 to 23
    u8 pirq = 0;     // PIRQ A is 0, H is 7: always gsi - 16
    u8 pirq_irq = 0; // 8259 input that the PIRQ was first routed to, 0: none
};

struct PciRange {
    u64 base = 0;
    u64 size = 0;
    u64 end() const { return base + size; }
};

// Where BARs may lie. One per machine, and one per bus for its root's _CRS.
struct PciWindows {
    PciRange ports { 0x2000, 0x10000 - 0x2000 };
    PciRange memory32 { 0xc000'0000, 0x2000'0000 };
    PciRange memory64 {}; // above RAM
};

class PciBus {
public:
    static constexpr unsigned first_gsi = 16;
    static constexpr unsigned gsi_count = 8;

    struct Sinks {
        Bus& memory;
        Bus& ports;
        InterruptSink& interrupts; // takes GSIs 16 to 23; GSI 16+n is also PIRQ n
        MsiSink& messages;
    };
    // Which GSI a pin gets: in turn, or by the formula that firmware's own tables contain.
    enum class InterruptMap { round_robin, fixed };
    PciBus(Sinks sinks, InterruptMap map);

    PciWires wires() { return { m_bars, m_sinks.messages }; }

    // Plugs `function` (which must outlive the bus's use) in at its address and connects its INTx.
    Result<void> add(PciFunction& function);
    PciFunction* find(PciAddress) const;
    std::vector<PciFunction*> functions() const; // by address
    std::vector<u8> buses() const;               // those with a function, and always 0

    // Gives every BAR an address. `decode` on: as a BIOS leaves it, ready for use; off: firmware of the guest will do it.
    enum class Decode { off, on };
    Result<void> assign_bars(PciWindows const&, Decode);
    // The part of the windows that belongs to `bus`; valid after assign_bars().
    PciWindows windows_of(u8 bus) const;

    // Routes the PIRQs in use to 8259 lines and fills the functions' interrupt line registers; null: there is no LPC bridge.
    // Then everything that a reset returns to is captured, so this comes last.
    void assign_interrupts(PirqRegisters* registers);
    std::vector<PciInterruptRoute> interrupt_routes() const { return m_routes; }

    // Configuration cycles; functions that do not exist read as all ones.
    u32 config_read(PciAddress, u16 offset, unsigned width) const;
    void config_write(PciAddress, u16 offset, unsigned width, u32 value);

    // Lets all work in flight end; vCPUs are paused.
    void quiesce();

private:
    using Slots = std::array<PciFunction*, 256>;
    PciInterruptRoute& route_of(u8 bus, u8 slot, u8 pin);

    Sinks m_sinks;
    InterruptMap m_interrupt_map;
    BarMapper m_bars;
    std::array<std::unique_ptr<Slots>, 256> m_functions;
    std::vector<PciInterruptRoute> m_routes;
    unsigned m_next_gsi = 0;
    std::map<u8, PciWindows> m_windows;
};

} // namespace anyhyve
