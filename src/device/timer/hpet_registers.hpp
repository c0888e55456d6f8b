// Registers of the HPET and their fields (IA-PC HPET specification 1.0a, the section named at each). Only the sources of Hpet include this.
#pragma once

#include "base/bits.hpp"
#include "device/timer/hpet.hpp"

namespace anyhyve::hpet {

enum class Register : u64 {
    capabilities = 0x000,   // R
    config = 0x010,         // RW
    status = 0x020,         // write 1 to clear
    counter = 0x0f0,        // RW
    first_comparator = 0x100,
};
constexpr u64 comparator_stride = 0x20;

enum class ComparatorRegister : u64 {
    config = 0x00,   // RW
    compare = 0x08,  // RW
    message = 0x10,  // RW, FSB interrupt route
};

// 2.3.5
constexpr u64 config_enable = bit(0), config_legacy = bit(1);

// 2.3.8
constexpr u64 timer_level = bit(1), timer_interrupt = bit(2), timer_periodic = bit(3), timer_periodic_capable = bit(4), timer_64_bit_capable = bit(5),
              timer_value_set = bit(6), timer_32_bit = bit(8), timer_route = bits(~u64 { 0 }, 4, 0) << 9, timer_message = bit(14), timer_message_capable = bit(15);
constexpr u64 timer_writable = timer_level | timer_interrupt | timer_periodic | timer_value_set | timer_32_bit | timer_route | timer_message;
constexpr u64 possible_routes = 0x00f00000; // IOAPIC pins 20..23
constexpr u64 timer_fixed = timer_periodic_capable | timer_64_bit_capable | timer_message_capable | possible_routes << 32;

constexpr u64 late_window = 100'000; // ticks: 10 ms

constexpr unsigned legacy_timer_interrupt = 0, legacy_rtc_interrupt = 8;

constexpr u64 mask_of(u64 config)
{
    return config & timer_32_bit ? 0xffffffff : ~u64 { 0 };
}

constexpr unsigned route_of(u64 config)
{
    return static_cast<unsigned>(bits(config, 13, 9));
}

} // namespace anyhyve::hpet
