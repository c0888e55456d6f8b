// Puts BARs onto the two buses and takes them off again. A guest that moves BARs may for a moment place one over another, or over a
// device of the board: then the later one waits, and appears as soon as its place is free.
// Threads: any. Lock order: a function's lock, then this one, then the bus's.
#pragma once

#include <list>
#include <mutex>
#include <string>

#include "vmm/bus.hpp"

namespace anyhyve {

class BarMapper {
public:
    BarMapper(Bus& memory, Bus& ports) : m_memory(memory), m_ports(ports) {}

    enum class Space { memory, ports };

    // Wants `device` at [base, base+size) from now on; a former place of the same device is given up. `device` is the key.
    void place(Space, u64 base, u64 size, BusDevice& device, std::string const& name);
    void withdraw(BusDevice& device);
    // Whether the guest sees it at the moment.
    bool is_mapped(BusDevice const& device) const;

private:
    struct Wish {
        Space space;
        u64 base;
        u64 size;
        BusDevice* device;
        std::string name;
        bool mapped;
    };
    Bus& bus(Space space) { return space == Space::memory ? m_memory : m_ports; }
    void remove_locked(BusDevice& device);
    void map_waiting_locked();

    Bus& m_memory;
    Bus& m_ports;
    mutable std::mutex m_mutex;
    std::list<Wish> m_wishes;
};

} // namespace anyhyve
