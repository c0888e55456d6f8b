// Registers of the MC146818A and the layout of its memory. Only the sources of Rtc include this.
#pragma once

#include "device/timer/rtc.hpp"

namespace anyhyve::rtc {

enum Register : u8 {
    second = 0x00,        // RW
    second_alarm = 0x01,  // RW
    minute = 0x02,        // RW
    minute_alarm = 0x03,  // RW
    hour = 0x04,          // RW
    hour_alarm = 0x05,    // RW
    week_day = 0x06,      // RW
    day = 0x07,           // RW
    month = 0x08,         // RW
    year = 0x09,          // RW
    status_a = 0x0a,      // RW, update in progress R
    status_b = 0x0b,      // RW
    status_c = 0x0c,      // R, cleared by reading
    status_d = 0x0d,      // R
    base_memory = 0x15,   // two bytes, KiB below 640 KiB
    extended_memory = 0x17,        // two bytes, KiB above 1 MiB, at most 0xffff
    extended_memory_again = 0x30,  // the same
    century = 0x32,       // RW
    memory_above_16_mib = 0x34,    // two bytes, 64 KiB units
    memory_above_4_gib = 0x5b,     // three bytes, 64 KiB units
};

constexpr u8 a_update_in_progress = 1 << 7, a_divider = 7 << 4, a_rate = 15, a_divider_runs = 2 << 4;
constexpr u8 b_set = 1 << 7, b_periodic = 1 << 6, b_alarm = 1 << 5, b_update = 1 << 4, b_binary = 1 << 2, b_24_hours = 1 << 1;
constexpr u8 c_interrupt = 1 << 7, c_periodic = 1 << 6, c_alarm = 1 << 5, c_update = 1 << 4;
constexpr u8 c_flags = c_periodic | c_alarm | c_update; // the same bits enable the interrupts in register B
constexpr u8 d_valid_ram_and_time = 1 << 7;
constexpr u8 initial_a = a_divider_runs | 6; // 1024 Hz
constexpr u8 alarm_any = 0xc0; // a "don't care" code has both bits set
constexpr u8 hour_pm = 0x80;

constexpr Clock::Nanoseconds update_time = 244'000 + 1'984'000; // how long before the second UIP is set (table 5)

constexpr bool is_date_field(u8 index)
{
    return index == second || index == minute || index == hour || (index >= week_day && index <= year) || index == century;
}

constexpr bool is_alarm_field(u8 index)
{
    return index == second_alarm || index == minute_alarm || index == hour_alarm;
}

} // namespace anyhyve::rtc
