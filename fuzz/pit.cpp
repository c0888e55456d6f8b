// Fuzzes the 8254: any accesses to its ports and port 0x61 while time passes.
#include "device/timer/pit.hpp"

#include "fuzz/fake_time.hpp"
#include "timer/fake_wires.hpp"

using namespace anyhyve;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    FakeClock clock;
    FakeSink sink;
    Pit pit(clock, IrqLine(sink, 0));
    while (auto const record = input.record()) {
        BusDevice& ports = record->offset & 8 ? pit.system_control() : pit.counters();
        switch (record->operation % 8) {
        case 0: case 1: case 2:
            ports.write(record->offset & 7, record->width, record->value);
            break;
        case 3: case 4:
            fuzz::check_width(ports.read(record->offset & 7, record->width), record->width);
            break;
        case 5: case 6:
            fuzz::pass_time(clock, *record);
            break;
        default:
            fuzz::check_round_trip(pit);
        }
    }
    return 0;
}
