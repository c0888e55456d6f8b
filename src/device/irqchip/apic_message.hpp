// What travels between interrupt sources and local APICs.
// Spec: Intel SDM vol. 3A 10.6 (interprocessor interrupts), 10.11 (message-signalled interrupts).
#pragma once

#include "base/bits.hpp"

namespace anyhyve {

enum class DeliveryMode : u8 { fixed = 0, lowest_priority = 1, smi = 2, reserved = 3, nmi = 4, init = 5, startup = 6, external = 7 };
enum class TriggerMode : u8 { edge, level };
enum class DestinationMode : u8 { physical, logical };
enum class Shorthand : u8 { none, self, all, all_but_self };

struct ApicMessage {
    static constexpr u32 broadcast = 0xffffffff;

    u32 destination = 0; // APIC ID or logical destination; `broadcast`: everyone
    DestinationMode destination_mode = DestinationMode::physical;
    DeliveryMode mode = DeliveryMode::fixed;
    TriggerMode trigger = TriggerMode::edge;
    Shorthand shorthand = Shorthand::none;
    u8 vector = 0;

    // An 8-bit destination: all ones means everyone.
    static constexpr u32 from_xapic(u8 destination) { return destination == 0xff ? broadcast : destination; }
};

// Address and data of a message-signalled interrupt (10.11.1, 10.11.2).
struct MsiMessage {
    static constexpr u64 address_base = 0xfee00000;
    static constexpr u64 address_window = 0xfff00000;

    u64 address = 0;
    u32 data = 0;

    static constexpr MsiMessage encode(u8 destination, DestinationMode destination_mode, DeliveryMode mode, TriggerMode trigger, u8 vector)
    {
        u64 const logical = destination_mode == DestinationMode::logical ? bit(2) : 0;
        u64 const redirect = mode == DeliveryMode::lowest_priority ? bit(3) : 0;
        u64 const level = trigger == TriggerMode::level ? bit(15) : 0;
        return { address_base | u64 { destination } << 12 | redirect | logical,
            static_cast<u32>(vector | static_cast<u32>(mode) << 8 | bit(14) | level) };
    }
    static constexpr bool is_message(u64 address) { return (address & ~u64 { 0xfffff }) == address_base; }
    constexpr ApicMessage decode() const
    {
        ApicMessage message;
        message.destination = ApicMessage::from_xapic(static_cast<u8>(bits(address, 19, 12)));
        message.destination_mode = address & bit(2) ? DestinationMode::logical : DestinationMode::physical;
        message.mode = static_cast<DeliveryMode>(bits(data, 10, 8));
        // 10.11.1: with the redirection hint a fixed interrupt goes to one of the processors addressed.
        if (address & bit(3) && message.mode == DeliveryMode::fixed && message.destination_mode == DestinationMode::logical)
            message.mode = DeliveryMode::lowest_priority;
        message.trigger = data & bit(15) ? TriggerMode::level : TriggerMode::edge;
        message.vector = static_cast<u8>(data);
        return message;
    }
    constexpr bool operator==(MsiMessage const&) const = default;
};

} // namespace anyhyve
