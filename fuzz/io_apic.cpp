// Fuzzes the I/O APIC: any accesses to its registers, wires up and down, ends of interrupts.
#include "device/irqchip/io_apic.hpp"

#include <array>

#include "fuzz/input.hpp"
#include "timer/fake_wires.hpp"

using namespace anyhyve;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    FakeMessages messages;
    IoApic io_apic(messages, input.byte());
    std::array<bool, 32> levels {};
    while (auto const record = input.record()) {
        unsigned const pin = record->offset & 31;
        switch (record->operation % 8) {
        case 0: case 1: // a register chosen and written, as software does
            io_apic.write(0, 4, record->offset & 0x3f);
            io_apic.write(0x10, 4, record->value & 0xffffffff);
            break;
        case 2:
            io_apic.write(record->offset & 0xfff, record->width, record->value);
            break;
        case 3:
            io_apic.write(0, 4, record->value & 0xff);
            fuzz::check_width(io_apic.read(record->offset & 0xf3, record->width), record->width);
            break;
        case 4: case 5:
            io_apic.set_level(pin, levels[pin] = !levels[pin]);
            break;
        case 6:
            io_apic.end_of_interrupt(static_cast<u8>(record->value));
            if (pin < IoApic::pin_count)
                ASSERT(MsiMessage::is_message(io_apic.route(pin).message.address), "a pin's route is a message");
            break;
        default:
            fuzz::check_round_trip(io_apic);
        }
    }
    for (auto const& [address, value] : messages.sent)
        ASSERT(MsiMessage::is_message(address), "a pin sends messages");
    return 0;
}
