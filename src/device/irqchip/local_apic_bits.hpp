// Fields of the local APIC's registers. Only the sources of LocalApic include this.
// Source: Intel SDM vol. 3A chapter 10, the section named at each.
#pragma once

#include "device/irqchip/local_apic.hpp"

namespace anyhyve {

// 10.5.3
enum class LocalApic::Error : u32 { send_illegal_vector = 1 << 5, receive_illegal_vector = 1 << 6, illegal_register = 1 << 7 };

namespace local_apic {

// IA32_APIC_BASE, 10.4.4 and 10.12.1
constexpr u64 base_bootstrap = 1 << 8, base_x2apic = 1 << 10, base_enable = 1 << 11;
constexpr u64 base_address = 0xffffffffff000;

// Local vector table, 10.5.1
constexpr u32 lvt_remote_irr = 1 << 14, lvt_level = 1 << 15, lvt_masked = 1 << 16;
constexpr unsigned lvt_mode_shift = 8;
constexpr unsigned lvt_timer_mode_shift = 17;
// Bits that software can set, by LvtEntry: vector, delivery mode, polarity, trigger mode, mask, timer mode.
constexpr std::array<u32, lvt_entries> lvt_writable { 0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff, 0x107ff };
// Bits that only the APIC writes: software may write anything (x2APIC mode refuses the others). Delivery status, remote IRR.
constexpr u32 lvt_read_only = 1 << 12 | lvt_remote_irr;

// Spurious-interrupt vector register, 10.9
constexpr u32 spurious_enable = 1 << 8, spurious_suppress_eoi_broadcast = 1 << 12;
constexpr u32 spurious_writable = 0xff | spurious_enable | 1 << 9 | spurious_suppress_eoi_broadcast;

// Interrupt command register, 10.6.1
constexpr u32 command_logical = 1 << 11, command_delivery_status = 1 << 12, command_assert = 1 << 14, command_level = 1 << 15;
constexpr u32 command_writable = 0xff | 7 << 8 | command_logical | command_assert | command_level | 3 << 18;

// Version, 10.4.8: an integrated APIC with seven LVT entries that can suppress EOI broadcasts.
constexpr u32 version_value = 0x14 | (lvt_entries - 1) << 16 | 1 << 24;

constexpr u32 format_flat = 0xf;
constexpr u8 first_legal_vector = 16;
constexpr u32 divide_writable = 0xb;

// 10.12.10.2
constexpr u32 x2apic_logical_id(u32 id)
{
    return (id >> 4) << 16 | 1u << (id & 15);
}

constexpr std::optional<LvtEntry> lvt_entry_of(u32 number)
{
    switch (static_cast<ApicRegister>(number)) {
    case ApicRegister::lvt_timer: return LvtEntry::timer;
    case ApicRegister::lvt_thermal: return LvtEntry::thermal;
    case ApicRegister::lvt_performance: return LvtEntry::performance;
    case ApicRegister::lvt_lint0: return LvtEntry::lint0;
    case ApicRegister::lvt_lint1: return LvtEntry::lint1;
    case ApicRegister::lvt_error: return LvtEntry::error;
    case ApicRegister::lvt_cmci: return LvtEntry::cmci;
    default: return {};
    }
}

// Whether `number` is one of the eight registers that begin with `first`.
constexpr bool in_group(u32 number, ApicRegister first)
{
    return number - static_cast<u32>(first) < 8;
}

} // namespace local_apic
} // namespace anyhyve
