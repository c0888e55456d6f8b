// Fuzzes the ACPI fixed hardware: any accesses to its registers and the SMI command port, and pushes of the power button.
#include "device/legacy/acpi_pm.hpp"

#include "fuzz/fake_time.hpp"
#include "timer/fake_wires.hpp"

using namespace anyhyve;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    FakeClock clock;
    FakeSink sink;
    AcpiPm pm(clock, IrqLine(sink, AcpiPm::system_control_interrupt), [] {});
    while (auto const record = input.record()) {
        switch (record->operation % 8) {
        case 0: case 1:
            pm.registers().write(record->offset & 15, record->width, record->value);
            break;
        case 2:
            fuzz::check_width(pm.registers().read(record->offset & 15, record->width), record->width);
            break;
        case 3:
            pm.smi_command().write(record->offset & 3, record->width, record->value);
            fuzz::check_width(pm.smi_command().read(record->offset & 3, record->width), record->width);
            break;
        case 4:
            pm.smi_command().write(0, 1, record->offset & 1 ? AcpiPm::smi_enable_acpi : AcpiPm::smi_disable_acpi);
            break;
        case 5:
            fuzz::pass_time(clock, *record);
            break;
        case 6:
            (void)pm.press_power_button();
            break;
        default:
            fuzz::check_round_trip(pm);
        }
    }
    return 0;
}
