// MOVS, CMPS, STOS, LODS, SCAS, alone and repeated: by the host's string instructions, a page at a time.
// Source: Intel SDM vol. 2, the instructions and REP/REPE/REPNE; vol. 1 7.3.9. A fault or an interrupt leaves RCX, RSI and RDI behind
// the last element that was done.
#include <algorithm>

#include "base/bits.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/flags.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/string_operand.hpp"

namespace anyhyve::soft {

using namespace x86;
using host_string::Direction;
using host_string::RepeatWhile;

namespace {

constexpr u64 page_size = 0x1000;

// Elements from `offset` on until the address wraps around.
u64 elements_before_wrap(u64 offset, u64 mask, unsigned width, Direction direction)
{
    if (direction == Direction::down)
        return offset / width + 1;
    u64 const behind = mask - offset; // bytes that follow the first one
    return behind < width - 1 ? 1 : (behind - (width - 1)) / width + 1;
}

void set_flags(Cpu& cpu, u64 image)
{
    cpu.rflags = (cpu.rflags & ~rflags::arithmetic) | flags_from_image(image);
}

// Has REPE or REPNE met what it waits for? `image` as in host_string::Comparison.
bool condition_ends(StringInstruction const& string, u64 image)
{
    bool const zero = (flags_from_image(image) & rflags::zf) != 0;
    return zero != (string.condition() == RepeatWhile::equal);
}

// One element the slow way.
Outcome move_one(Mmu& mmu, unsigned width, u64 from, u64 to)
{
    u64 value = 0;
    STEP(mmu.probe(to, width, Access::write)); // reading a device may change it, so nothing may fail afterwards
    STEP(mmu.read(from, &value, width));
    return mmu.write(to, &value, width);
}

void move_block(StringInstruction const& string, u8* to, u8 const* from, u64 count)
{
    u64 const bytes = count * string.width();
    u64 const distance = static_cast<u64>(to - from);
    if (string.direction() == Direction::up && distance >= bytes && 0 - distance >= bytes) {
        if (bytes <= host_string::short_block)
            host_string::copy_short(to, from, bytes);
        else
            host_string::move(1, to, from, bytes, Direction::up);
        return;
    }
    host_string::move(string.width(), to, from, count, string.direction());
}

// The host's view of a page that plain accesses may use, as translated code finds it: no walk, no checks left to do.
u8* cached_page(Cpu const& cpu, u64 linear, Access access)
{
    TlbEntry const& entry = cpu.tlb[mode::tlb(cpu.mode)][tlb_slot(linear)];
    u64 const tag = access == Access::write ? entry.write_tag : entry.read_tag;
    if (tag != (linear & page_mask))
        return nullptr;
    // SAFETY: the tables hold only what Mmu::fill() put there: RAM of this page.
    return reinterpret_cast<u8*>(linear + entry.addend);
}

} // namespace

// 64-bit code on pages that were used before: nothing to check but the tag, since only canonical addresses have one.
bool StringOperand::locate_cached(StringInstruction const& string, Segment segment, u64 offset, Access access, u64 wanted)
{
    Cpu const& cpu = string.cpu();
    unsigned const width = string.width();
    linear = offset + (segment == Segment::fs || segment == Segment::gs ? cpu.segment(segment).base : 0);
    u64 const in_page = linear & (page_size - 1);
    if (in_page + width > page_size)
        return false;
    host = cached_page(cpu, linear, access);
    if (host == nullptr)
        return false;
    u64 const page_room = (string.direction() == Direction::up ? page_size - in_page - width : in_page) / width + 1;
    count = std::min(wanted, page_room);
    return true;
}

Outcome StringOperand::locate(StringInstruction const& string, Segment segment, GeneralRegister reg, Access access, u64 wanted)
{
    Cpu& cpu = string.cpu();
    Mmu& mmu = *cpu.mmu;
    unsigned const width = string.width();
    u64 const mask = mask_of_bytes(string.address_size());
    u64 const offset = cpu.gpr[reg] & mask;
    if (string.address_size() == 8 && !(cpu.mode & mode::alignment_check) && locate_cached(string, segment, offset, access, wanted))
        return Outcome::next;
    STEP(mmu.linear_address(segment, offset, width, access, linear));
    host = nullptr;
    count = 1;
    u64 const in_page = linear & (page_size - 1);
    if (in_page + width > page_size || (cpu.mode & mode::alignment_check))
        return mmu.probe(linear, width, access);
    bool const up = string.direction() == Direction::up;
    u64 const page_room = up ? (page_size - in_page) / width : in_page / width + 1;
    if (breakpoints_enabled(cpu) && watches_data_in(cpu, linear))
        wanted = 1; // what hits is reported behind its element
    u64 run = std::min({ wanted, page_room, elements_before_wrap(offset, mask, width, string.direction()) });
    u64 const span = (run - 1) * width;
    if (run > 1 && !cpu.code64()) {
        u64 ignored = 0;
        if (mmu.linear_address(segment, up ? offset : offset - span, static_cast<unsigned>(run * width), access, ignored) != Outcome::next)
            run = 1; // the limit lies inside: one by one up to it
    }
    u64 const below = up || run == 1 ? 0 : span;
    if (auto const outcome = mmu.host_pointer(linear - below, static_cast<unsigned>(run * width), access, host); outcome != Outcome::next) {
        cpu.fault.address = linear; // the first element's, wherever the run begins
        return outcome;
    }
    if (host != nullptr) {
        host += below;
        count = run;
    }
    return Outcome::next;
}

Outcome execute_string_move(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, instruction.operand_size);
    while (string.left() != 0) {
        StringOperand source, destination;
        u64 const wanted = string.wanted();
        STEP(source.locate_source(string, wanted));
        STEP(destination.locate_destination(string, Access::write, std::min(wanted, source.count)));
        u64 count = 1;
        if (source.host != nullptr && destination.host != nullptr) {
            count = std::min(source.count, destination.count);
            move_block(string, destination.host, source.host, count);
        } else
            STEP(move_one(*cpu.mmu, string.width(), source.linear, destination.linear));
        string.advance(count, true, true);
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

Outcome execute_string_store(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, instruction.operand_size);
    u64 const value = cpu.gpr[rax];
    while (string.left() != 0) {
        StringOperand destination;
        STEP(destination.locate_destination(string, Access::write, string.wanted()));
        if (destination.host == nullptr)
            STEP(cpu.mmu->write(destination.linear, &value, string.width()));
        else
            host_string::store(string.width(), destination.host, value, destination.count, string.direction());
        string.advance(destination.count, false, true);
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

Outcome execute_string_load(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, instruction.operand_size);
    unsigned const width = string.width();
    while (string.left() != 0) {
        StringOperand source;
        STEP(source.locate_source(string, string.wanted()));
        u64 value = 0;
        // Of several elements in memory only the last one stays in the accumulator.
        u64 const span = (source.count - 1) * width;
        u64 const last = string.direction() == Direction::up ? source.linear + span : source.linear - span;
        STEP(cpu.mmu->read(last, &value, width));
        cpu.set_reg(rax, width, value);
        string.advance(source.count, true, false);
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

Outcome execute_string_compare(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, instruction.operand_size);
    unsigned const width = string.width();
    while (string.left() != 0) {
        StringOperand first, second;
        u64 const wanted = string.wanted();
        STEP(first.locate_source(string, wanted));
        STEP(second.locate_destination(string, Access::read, std::min(wanted, first.count)));
        u64 count = 1;
        u64 values[2] {};
        u8 const* operands[2] = { first.host, second.host };
        if (first.host != nullptr && second.host != nullptr)
            count = std::min(first.count, second.count);
        else {
            STEP(cpu.mmu->read(first.linear, &values[0], width));
            STEP(cpu.mmu->read(second.linear, &values[1], width));
            for (unsigned i = 0; i < 2; ++i)
                operands[i] = reinterpret_cast<u8 const*>(&values[i]); // SAFETY: bytes of an integer
        }
        auto const result = host_string::compare(width, operands[0], operands[1], count, string.condition(), string.direction());
        set_flags(cpu, result.flags);
        string.advance(count - result.left, true, true);
        if (string.repeated() && condition_ends(string, result.flags))
            break;
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

Outcome execute_string_scan(Cpu& cpu, Instruction const& instruction)
{
    StringInstruction string(cpu, instruction, instruction.operand_size);
    unsigned const width = string.width();
    while (string.left() != 0) {
        StringOperand operand;
        STEP(operand.locate_destination(string, Access::read, string.wanted()));
        u64 value = 0;
        u8 const* at = operand.host;
        if (at == nullptr) {
            STEP(cpu.mmu->read(operand.linear, &value, width));
            at = reinterpret_cast<u8 const*>(&value); // SAFETY: bytes of an integer
        }
        auto const result = host_string::scan(width, cpu.gpr[rax], at, operand.count, string.condition(), string.direction());
        set_flags(cpu, result.flags);
        string.advance(operand.count - result.left, false, true);
        if (string.repeated() && condition_ends(string, result.flags))
            break;
        if (string.must_pause())
            return string.pause();
    }
    return Outcome::next;
}

} // namespace anyhyve::soft
