// Fuzzes the two 8259s: any accesses to their ports, wires up and down, acknowledge cycles.
#include "device/irqchip/pic.hpp"

#include <array>

#include "fuzz/input.hpp"

using namespace anyhyve;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    bool output = false;
    Pic pic([&output](bool asserted) {
        ASSERT(asserted != output, "INTR is told of changes only");
        output = asserted;
    });
    std::array const chips { &pic.master(), &pic.slave(), &pic.edge_level() };
    std::array<bool, 32> levels {};
    while (auto const record = input.record()) {
        BusDevice& chip = *chips[record->offset / 2 % chips.size()];
        switch (record->operation % 8) {
        case 0: case 1: case 2:
            chip.write(record->offset & 1, record->width, record->value);
            break;
        case 3:
            fuzz::check_width(chip.read(record->offset & 1, record->width), record->width);
            break;
        case 4: case 5:
            pic.set_level(record->offset & 31, levels[record->offset & 31] = !levels[record->offset & 31]);
            break;
        case 6: {
            int const vector = pic.acknowledge();
            ASSERT(vector >= -1 && vector <= 0xff, "the 8259 answers with a vector");
            break;
        }
        default:
            fuzz::check_round_trip(pic);
        }
        ASSERT(pic.output() == output, "INTR is what the last change said");
    }
    return 0;
}
