// One 8259A: priorities, initialisation, ends of interrupt.
#include <bit>

#include "device/irqchip/pic_bits.hpp"

namespace anyhyve {

using namespace pic;

// The line of highest priority in `set`, or -1.
int Pic::Chip::highest(u8 set) const
{
    if (set == 0)
        return -1;
    unsigned const first = (lowest + 1u) & 7;
    unsigned const distance = static_cast<unsigned>(std::countr_zero(std::rotr(set, static_cast<int>(first))));
    return static_cast<int>((first + distance) & 7);
}

void Pic::Chip::set_input(unsigned line, bool asserted)
{
    u8 const flag = bit_of(line);
    bool const rising = asserted && !(levels & flag);
    levels = asserted ? levels | flag : levels & static_cast<u8>(~flag);
    if (level_triggered & flag)
        request = asserted ? request | flag : request & static_cast<u8>(~flag);
    else if (rising)
        request |= flag; // stays latched when the line drops: a pulse is an edge
}

// The line that this chip asks the next one up to serve, or -1.
int Pic::Chip::pending(bool is_master) const
{
    if (!ready)
        return -1;
    int const line = highest(request & static_cast<u8>(~mask));
    if (line < 0)
        return -1;
    u8 blocking = in_service;
    if (special_mask) // lines masked on purpose while in service block nobody
        blocking &= static_cast<u8>(~mask);
    // Special fully nested mode: the slave may interrupt itself with something more important.
    if (fully_nested && is_master)
        blocking &= static_cast<u8>(~bit_of(cascade_line));
    int const served = highest(blocking);
    bool const important = served < 0 || priority(static_cast<unsigned>(line)) < priority(static_cast<unsigned>(served));
    return important ? line : -1;
}

u8 Pic::Chip::accept(unsigned line)
{
    u8 const flag = bit_of(line);
    if (!(level_triggered & flag))
        request &= static_cast<u8>(~flag);
    if (!auto_eoi)
        in_service |= flag;
    else if (rotate_on_auto_eoi)
        lowest = static_cast<u8>(line);
    return static_cast<u8>(vector_base | line);
}

// ICW1: the edge detectors start anew, masks clear, IRQ 7 is lowest.
void Pic::Chip::initialise(u8 icw1)
{
    request = levels & level_triggered;
    mask = in_service = 0;
    lowest = 7;
    cascade = 0;
    auto_eoi = rotate_on_auto_eoi = fully_nested = special_mask = read_in_service = poll = false;
    single = icw1 & icw1_single;
    needs_icw4 = icw1 & icw1_needs_icw4;
    ready = false;
    next_word = NextWord::icw2;
}

// OCW2: ends of interrupt and rotation.
void Pic::Chip::command(u8 ocw2)
{
    bool const rotate = ocw2 & ocw2_rotate;
    unsigned const named = ocw2 & 7;
    if (!(ocw2 & ocw2_eoi)) {
        if (ocw2 & ocw2_specific) {
            if (rotate)
                lowest = static_cast<u8>(named); // set priority; without rotation: no operation
        } else {
            rotate_on_auto_eoi = rotate;
        }
        return;
    }
    // A non-specific EOI ends the most important one; in special mask mode it does not see masked lines.
    u8 const visible = special_mask ? in_service & static_cast<u8>(~mask) : in_service;
    int const line = ocw2 & ocw2_specific ? static_cast<int>(named) : highest(visible);
    if (line < 0)
        return;
    in_service &= static_cast<u8>(~bit_of(static_cast<unsigned>(line)));
    if (rotate)
        lowest = static_cast<u8>(line);
}

void Pic::Chip::save(Encoder& out) const
{
    for (u8 const value : { request, mask, in_service, level_triggered, vector_base, lowest, cascade, static_cast<u8>(next_word) })
        out.put_u8(value);
    for (bool const flag : { needs_icw4, single, ready, auto_eoi, rotate_on_auto_eoi, fully_nested, special_mask, read_in_service, poll })
        out.put_bool(flag);
}

bool Pic::Chip::restore(Decoder& in)
{
    u8 word = 0;
    for (u8* const value : { &request, &mask, &in_service, &level_triggered, &vector_base, &lowest, &cascade, &word })
        *value = in.get_u8();
    for (bool* const flag : { &needs_icw4, &single, &ready, &auto_eoi, &rotate_on_auto_eoi, &fully_nested, &special_mask, &read_in_service, &poll })
        *flag = in.get_bool();
    bool const sane = in.ok() && lowest < 8 && word <= static_cast<u8>(NextWord::icw4) && (vector_base & 7) == 0;
    if (sane) {
        next_word = static_cast<NextWord>(word);
        request = static_cast<u8>((request & ~level_triggered) | (levels & level_triggered));
    }
    return sane;
}

} // namespace anyhyve
