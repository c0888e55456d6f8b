// Two virtual CPUs by hand, of one code cache.
#pragma once

#include "execute_machine.hpp"

namespace anyhyve::soft {

class CpuPair : public ExecuteMachine {
protected:
    CpuPair()
    {
        other.wires = cpu.wires;
        other.mmu = &other_mmu;
        cache->add_cpu(cpu);
        cache->add_cpu(other);
    }
    ~CpuPair() override
    {
        cache->remove_cpu(other);
        cache->remove_cpu(cpu);
    }

    std::unique_ptr<Cpu> const other_owner = std::make_unique<Cpu>();
    Cpu& other = *other_owner;
    Mmu other_mmu { other, *cache };
};

} // namespace anyhyve::soft
