// Registers and command words of the 8259A (data sheet figures 7 and 8). Only the sources of Pic include this.
#pragma once

#include "device/irqchip/pic.hpp"

namespace anyhyve::pic {

enum class Port : u64 {
    command = 0, // W: ICW1, OCW2, OCW3; R: IRR, ISR or poll byte
    data = 1,    // RW: mask (OCW1); W: ICW2, ICW3, ICW4
};

constexpr u8 icw1_select = 1 << 4, icw1_single = 1 << 1, icw1_needs_icw4 = 1 << 0;
constexpr u8 icw4_auto_eoi = 1 << 1, icw4_fully_nested = 1 << 4;
constexpr u8 ocw_select_ocw3 = 1 << 3;
constexpr u8 ocw2_rotate = 1 << 7, ocw2_specific = 1 << 6, ocw2_eoi = 1 << 5;
constexpr u8 ocw3_set_special_mask = 1 << 6, ocw3_special_mask = 1 << 5, ocw3_poll = 1 << 2, ocw3_read = 1 << 1, ocw3_in_service = 1 << 0;

constexpr unsigned spurious_line = 7;

constexpr u8 bit_of(unsigned line)
{
    return static_cast<u8>(1u << line);
}

} // namespace anyhyve::pic
