// A virtual CPU as a part of the saved state of its machine: the chunk "vcpuN".
#pragma once

#include "machine/saved_state.hpp"
#include "machine/vcpu_thread.hpp"
#include "vmm/cpu_state_codec.hpp"

namespace anyhyve::machine {

class SavedVcpu final : public Persistent {
public:
    SavedVcpu(unsigned id, VcpuThread& thread) : m_id(id), m_name(vcpu_chunk_name(id)), m_thread(thread) {}

    std::string_view state_name() const override { return m_name; }
    u32 state_version() const override { return cpu_state_version; }
    void save(Encoder& encoder) const override
    {
        m_thread.vcpu().settle(); // another one may have sent an INIT while this one was parked already
        encode_cpu_state(m_thread.vcpu().state(), encoder);
    }
    Result<void> restore(Decoder& decoder, u32 version) override
    {
        CpuState state;
        TRY(decode_cpu_state(decoder, version, state));
        m_thread.forget_halt();
        m_thread.vcpu().set_state(state);
        return {};
    }
    void reset() override
    {
        m_thread.forget_halt();
        m_thread.vcpu().forget_signals();
        m_thread.vcpu().set_state(CpuState::after_reset(m_id == 0));
    }

private:
    unsigned const m_id;
    std::string const m_name;
    VcpuThread& m_thread;
};

} // namespace anyhyve::machine
