// Latch, interrupt lines and bus memory of the test device.
#include "device/legacy/test_device.hpp"

namespace anyhyve {

TestDevice::TestDevice(InterruptSink& sink)
{
    for (unsigned pin = 0; pin < line_count; ++pin)
        m_lines[pin] = IrqLine(sink, pin);
}

u8 TestDevice::read_port(u64 offset)
{
    std::lock_guard const lock(m_mutex);
    return offset < m_latch.size() ? m_latch[offset] : u8 { 0 };
}

void TestDevice::write_port(u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset < m_latch.size())
        m_latch[offset] = value;
}

u64 TestDevice::read_line(u64, unsigned)
{
    return 0;
}

void TestDevice::write_line(u64 offset, unsigned, u64 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset >= line_count)
        return;
    bool const raised = (value & 0xff) != 0;
    m_raised = (m_raised & ~(u32 { 1 } << offset)) | u32 { raised } << offset;
    m_lines[offset].set(raised);
}

u8 TestDevice::read_memory(u64 offset)
{
    std::lock_guard const lock(m_mutex);
    return offset < m_bytes.size() ? m_bytes[offset] : u8 { 0xff };
}

void TestDevice::write_memory(u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset < m_bytes.size())
        m_bytes[offset] = value;
}

void TestDevice::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_u32(m_raised);
    for (u8 const byte : m_latch)
        out.put_u8(byte);
    for (u8 const byte : m_bytes)
        out.put_u8(byte);
}

Result<void> TestDevice::restore(Decoder& in, u32 version)
{
    reset();
    std::lock_guard const lock(m_mutex);
    u32 const raised = in.get_u32();
    for (u8& byte : m_latch)
        byte = in.get_u8();
    for (u8& byte : m_bytes)
        byte = in.get_u8();
    if (version != state_version() || !in.ok() || raised >> line_count != 0)
        return make_error(0, "pc-testdev: its saved state is damaged or of unknown version {}", version);
    m_raised = raised;
    for (unsigned pin = 0; pin < line_count; ++pin)
        m_lines[pin].set(raised >> pin & 1);
    return {};
}

void TestDevice::reset()
{
    std::lock_guard const lock(m_mutex);
    for (auto& line : m_lines)
        line.lower();
    m_raised = 0;
    m_latch.fill(0);
    m_bytes.fill(0);
}

} // namespace anyhyve
