// The port by which a test program ends the machine and says how it went: a write of v ends bhyve with exit status 2v+1.
//
// Spec: none; kvm-unit-tests and kernels' own tests expect it at port 0xf4, as the convention has it. State: none. Missing: nothing.
// Threads: any. The callback runs on the vCPU's thread.
#pragma once

#include <functional>

#include "vmm/bus.hpp"

namespace anyhyve {

class DebugExit final : public BusDevice {
public:
    explicit DebugExit(std::function<void(int status)> end_machine) : m_end_machine(std::move(end_machine)) {}

    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

private:
    std::function<void(int)> m_end_machine;
};

} // namespace anyhyve
