// The diagnostic port of firmware: remembers the last progress code written, and logs it.
//
// This is the device to read first and to copy when writing another one: registers, wires, state, nothing else.
// Spec: IBM PC/AT Technical Reference, "Power-On Self Test" (port 0x80); other firmware uses 0x84. State: the last code. Missing: nothing.
// Threads: any; the code is atomic, so there is no lock.
#pragma once

#include <atomic>
#include <string>

#include "vmm/bus.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class DebugPort final : public BusDevice, public Persistent {
public:
    // `name` tells several apart: "post80".
    explicit DebugPort(std::string name);

    u64 read(u64 offset, unsigned width) override;
    void write(u64 offset, unsigned width, u64 value) override;

    u32 last_code() const { return m_code; }

    std::string_view state_name() const override { return m_name; }
    u32 state_version() const override { return 1; }
    void save(Encoder&) const override;
    Result<void> restore(Decoder&, u32 version) override;
    void reset() override;

private:
    std::string const m_name;
    std::atomic<u32> m_code { 0 };
};

} // namespace anyhyve
