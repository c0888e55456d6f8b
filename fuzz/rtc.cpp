// Fuzzes the real-time clock: any accesses to its two ports and any date, while time passes.
#include "device/timer/rtc.hpp"

#include "fuzz/fake_time.hpp"
#include "timer/fake_wires.hpp"

using namespace anyhyve;

// First the seconds to start with (five bytes), then the sizes of RAM below and above 4 GiB (one each).
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    i64 const seconds = static_cast<i64>(input.number(5)) - (i64 { 1 } << 38);
    u64 const low = input.byte() * 16 * MiB;
    u64 const high = input.byte() * 64 * GiB;
    FakeClock clock;
    FakeSink sink;
    Rtc rtc(clock, IrqLine(sink, 8), seconds, low, high);
    while (auto const record = input.record()) {
        switch (record->operation % 8) {
        case 0: // a register chosen and written, as software does
            rtc.ports().write(0, 1, record->offset & 0xff);
            rtc.ports().write(1, 1, record->value & 0xff);
            break;
        case 1:
            rtc.ports().write(0, 1, record->offset & 0x0f);
            rtc.ports().write(1, 1, record->value & 0xff);
            break;
        case 2:
            rtc.ports().write(record->offset & 7, record->width, record->value);
            break;
        case 3:
            rtc.ports().write(0, 1, record->value & 0xff);
            fuzz::check_width(rtc.ports().read(record->offset & 7, record->width), record->width);
            break;
        case 4: case 5:
            fuzz::pass_time(clock, *record);
            break;
        case 6:
            (void)rtc.set_time(static_cast<i64>(record->value) >> 24);
            (void)rtc.set_memory(static_cast<unsigned>(record->offset), static_cast<u8>(record->value)).ok();
            (void)rtc.memory(static_cast<unsigned>(record->offset)).ok();
            (void)rtc.time();
            break;
        default:
            fuzz::check_round_trip(rtc);
        }
    }
    return 0;
}
