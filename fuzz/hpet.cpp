// Fuzzes the HPET: any accesses to its registers while time passes.
#include "device/timer/hpet.hpp"

#include "fuzz/fake_time.hpp"
#include "timer/fake_wires.hpp"

using namespace anyhyve;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    FakeClock clock;
    FakeSink io_apic, legacy;
    FakeMessages messages;
    Hpet hpet(clock, { io_apic, legacy, messages, [](bool) {} });
    while (auto const record = input.record()) {
        switch (record->operation % 8) {
        case 0: // near the general registers and the first comparators
            hpet.write(record->offset & 0x1f8, record->width, record->value);
            break;
        case 1:
            hpet.write(record->offset & 0x3ff, record->width, record->value);
            break;
        case 2:
            fuzz::check_width(hpet.read(record->offset & 0x3ff, record->width), record->width);
            break;
        case 3: // runs, with or without legacy replacement
            hpet.write(0x10, 8, record->value & 3);
            break;
        case 4: // a comparator that interrupts soon
            hpet.write(0x100 + (record->offset & 7) * 0x20, 8, record->value);
            hpet.write(0x108 + (record->offset & 7) * 0x20, 8, record->offset);
            break;
        case 5: case 6:
            fuzz::pass_time(clock, *record);
            break;
        default:
            fuzz::check_round_trip(hpet);
        }
    }
    return 0;
}
