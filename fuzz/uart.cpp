// Fuzzes the serial port: any accesses to its registers, received text, a back end that is full at times.
#include "console/uart_fixture.hpp"
#include "fuzz/input.hpp"

using namespace anyhyve;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    ManualClock clock;
    OneLine line;
    auto backend = std::make_unique<RecordingConsole>();
    RecordingConsole& console = *backend;
    Uart uart("com1", IrqLine(line, 4), clock, std::move(backend));
    while (auto const record = input.record()) {
        switch (record->operation % 8) {
        case 0: case 1: case 2:
            uart.write(record->offset & 7, record->width, record->value);
            break;
        case 3:
            fuzz::check_width(uart.read(record->offset & 7, record->width), record->width);
            break;
        case 4: {
            std::string const text(record->offset & 63, static_cast<char>(record->value));
            ASSERT(console.type(text).size() <= text.size(), "no more is taken than there was");
            break;
        }
        case 5:
            console.room = !console.room;
            if (console.room)
                console.drained();
            break;
        case 6:
            clock.advance(record->value & 0xffffffff);
            break;
        default:
            fuzz::check_round_trip(uart);
        }
    }
    return 0;
}
