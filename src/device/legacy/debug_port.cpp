// The one register of the diagnostic port.
#include "device/legacy/debug_port.hpp"

#include "base/bits.hpp"
#include "base/log.hpp"

namespace anyhyve {

namespace {

enum class Register : u64 {
    code = 0, // RW
};

} // namespace

DebugPort::DebugPort(std::string name)
    : m_name(std::move(name))
{
}

u64 DebugPort::read(u64 offset, unsigned width)
{
    if (static_cast<Register>(offset) != Register::code)
        return mask_of_bytes(width);
    return m_code & mask_of_bytes(width);
}

void DebugPort::write(u64 offset, unsigned width, u64 value)
{
    if (static_cast<Register>(offset) != Register::code)
        return;
    u32 const code = static_cast<u32>(value & mask_of_bytes(width));
    // Operating systems also write here just to waste a microsecond: only news is worth a line.
    if (m_code.exchange(code) != code)
        log::debug("{}: code {:#04x}", m_name, code);
}

void DebugPort::save(Encoder& out) const
{
    out.put_u32(m_code);
}

Result<void> DebugPort::restore(Decoder& in, u32 version)
{
    reset();
    u32 const code = in.get_u32();
    if (version != state_version() || !in.ok())
        return make_error(0, "{}: its saved state is damaged or of unknown version {}", m_name, version);
    m_code = code;
    return {};
}

void DebugPort::reset()
{
    m_code = 0;
}

} // namespace anyhyve
