// Reset by port 0xcf9 and port 0x92.
#include "device/legacy/reset_port.hpp"

namespace anyhyve {

namespace {

constexpr u8 reset_system = 1 << 1, reset_cpu = 1 << 2, reset_full = 1 << 3;
constexpr u8 control_fast_reset = 1 << 0, control_a20 = 1 << 1;

} // namespace

ResetPort::ResetPort(std::function<void()> reset_machine)
    : m_reset_machine(std::move(reset_machine))
{
    reset();
}

void ResetPort::reset()
{
    m_reset_control = 0;
    m_system_control = control_a20;
}

void ResetPort::write_reset(u64, u8 value)
{
    m_reset_control = value & (reset_system | reset_full);
    if (value & reset_cpu && m_reset_machine)
        m_reset_machine();
}

void ResetPort::write_control(u64, u8 value)
{
    u8 const before = m_system_control.exchange(value);
    if (value & control_fast_reset && !(before & control_fast_reset) && m_reset_machine)
        m_reset_machine();
}

void ResetPort::save(Encoder& out) const
{
    out.put_u8(m_reset_control);
    out.put_u8(m_system_control);
}

Result<void> ResetPort::restore(Decoder& in, u32 version)
{
    reset();
    u8 const reset_control = in.get_u8();
    u8 const system_control = in.get_u8();
    if (version != state_version() || !in.ok())
        return make_error(0, "reset-port: its saved state is damaged or of unknown version {}", version);
    m_reset_control = reset_control & (reset_system | reset_full);
    m_system_control = system_control;
    return {};
}

} // namespace anyhyve
