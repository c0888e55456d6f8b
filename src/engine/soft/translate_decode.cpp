// Which instructions a block is made of: decoding, from marking the bytes as translated to where the block ends.
#include <algorithm>
#include <span>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "engine/soft/byte_copy.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vendor.hpp"

namespace anyhyve::soft {

using x86::Operation;

// UD0 and UD1 have no ModRM byte on AMD's processors, which do not fetch what other processors would take for one.
static bool is_short_ud(x86::Instruction const& insn, unsigned available)
{
    bool const ud0_or_ud1 = insn.encoding == x86::Encoding::legacy && insn.map == x86::OpcodeMap::map_0f && (insn.opcode == 0xff || insn.opcode == 0xb9);
    return ud0_or_ud1 && insn.opcode_offset < available && cpu_vendor() == Vendor::amd;
}

// False: they are a device's, and have not been read yet.
bool Translator::fetch_bytes(u64 physical, u8* to, unsigned size)
{
    if (u8 const* const ram = m_cpu.wires.memory->range(Gpa(physical), size)) {
        copy_bytes(to, ram, size);
        return true;
    }
    for (DeviceCode const& code : std::span(m_device_code).first(m_device_code_count)) {
        if (code.physical != physical || code.size != size)
            continue;
        copy_bytes(to, code.bytes, size);
        return true;
    }
    m_missing_code = { .physical = physical, .size = size };
    return false;
}

void Translator::read_device_code()
{
    ASSERT(m_device_code_count < std::size(m_device_code), "an instruction lies in two pages at most");
    m_cpu.mmu->read_device(m_missing_code.physical, m_missing_code.bytes, m_missing_code.size);
    m_device_code[m_device_code_count++] = m_missing_code;
}

Outcome Translator::decode_one(u64 offset, x86::Instruction& insn, bool& straddles)
{
    u64 const in_page = (m_physical & 0xfff) + offset;
    u8 bytes[15] = {};
    unsigned available = static_cast<unsigned>(std::min<u64>(15, 0x1000 - in_page));
    if (in_page + available > m_marked_up_to) { // before the bytes are read
        m_cache.watch(m_cpu, (m_physical & ~u64 { 0xfff }) + in_page, available);
        m_marked_up_to = align_up(in_page + available, CodeCache::line_size);
    }
    straddles = false;
    if (!fetch_bytes((m_physical & ~u64 { 0xfff }) + in_page, bytes, available))
        return Outcome::jump;
    auto status = x86::decode(bytes, available, m_code_size, insn);
    if (status == x86::DecodeStatus::need_more && is_short_ud(insn, available)) {
        constexpr u8 ud2[] = { 0x0f, 0x0b };
        status = x86::decode(ud2, sizeof ud2, m_code_size, insn);
        insn.length = static_cast<u8>(available);
    }
    if (status == x86::DecodeStatus::need_more) {
        u64 physical = 0, guard = 0;
        u64 const next_page = ((m_linear & ~u64 { 0xfff }) + 0x1000) & m_cpu.mmu->linear_mask();
        if (!is_canonical(next_page))
            return raise_gp(m_cpu);
        STEP(m_cpu.mmu->fetch_page(next_page, physical, guard));
        m_cache.watch(m_cpu, physical, 15);
        if (!fetch_bytes(physical, bytes + available, 15 - available))
            return Outcome::jump;
        status = x86::decode(bytes, 15, m_code_size, insn);
        straddles = true;
        m_block->second_physical = physical;
    }
    if (status != x86::DecodeStatus::ok)
        return raise_gp(m_cpu);
    if (!is64() && m_rip + offset + insn.length - 1 > m_cpu.segment(x86::Segment::cs).limit)
        return raise_gp(m_cpu);
    return Outcome::next;
}

Outcome Translator::decode_block()
{
    m_step_count = 0;
    m_marked_up_to = 0;
    unsigned const most = m_mode & mode::single_step ? 1 : m_room;
    bool shadow = false; // the instruction before is STI
    i64 offset = 0;
    i64 const page_left = static_cast<i64>(0x1000 - (m_physical & 0xfff));
    bool straight = true;
    while (m_step_count < most && offset < page_left) {
        Step& step = m_steps[m_step_count];
        bool straddles = false;
        auto const outcome = decode_one(static_cast<u64>(offset), step.insn, straddles);
        if (outcome != Outcome::next) {
            // A fault belongs to its own instruction: only when that is the block's first. So do bytes of a device.
            if (m_step_count == 0)
                return outcome;
            break;
        }
        if (straddles && m_step_count != 0)
            break; // gets a block of its own
        step.offset = static_cast<i16>(offset);
        step.goes_elsewhere = false;
        ++m_step_count;
        offset += step.insn.length;
        if (straight)
            m_block->guest_size = static_cast<u32>(offset);
        if (straddles) {
            m_block->crosses_page = true;
            break;
        }
        if (shadow || (has(step.insn, ends_block) && !goes_on(step, offset)))
            break;
        shadow = step.insn.info->operation == Operation::sti;
        if (step.goes_elsewhere) {
            straight = false;
            m_marked_up_to = 0;
        }
    }
    m_block->lines = lines_translated();
    return Outcome::next;
}

u64 Translator::lines_translated() const
{
    u64 lines = 0;
    for (unsigned i = 0; i < m_step_count; ++i)
        lines |= CodeCache::lines_of(m_physical + static_cast<u64>(i64 { m_steps[i].offset }), m_steps[i].insn.length);
    return lines;
}

} // namespace anyhyve::soft
