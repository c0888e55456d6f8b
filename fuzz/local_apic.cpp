// Fuzzes local APICs: any accesses to the pages and MSRs of three that share a bus, messages from devices, acknowledge cycles, time.
#include "fuzz/fake_time.hpp"
#include "irqchip/fake_processor.hpp"

using namespace anyhyve;

namespace {

constexpr unsigned count = 3;

void apply(ApicBoard& board, fuzz::Record const& record)
{
    unsigned const id = record.operation / 16 % count;
    LocalApic& apic = *board.apics[id];
    u32 const msr = 0x800 + (record.offset & 0x3f);
    u64 value = 0;
    switch (record.operation % 16) {
    case 0: case 1: case 2:
        apic.write_page((record.offset & 0x3f) << 4, 4, record.value & 0xffffffff);
        break;
    case 3:
        apic.write_page(record.offset & 0xfff, record.width, record.value);
        break;
    case 4:
        fuzz::check_width(apic.read_page(record.offset & 0xfff, record.width), record.width);
        break;
    case 5:
        (void)apic.write_msr(msr, record.value);
        break;
    case 6:
        (void)apic.read_msr(msr, value);
        (void)apic.read_msr(static_cast<u32>(record.value), value);
        break;
    case 7: // IA32_APIC_BASE: all legal and illegal changes of mode
        (void)apic.write_msr(0x1b, LocalApic::default_base | (record.offset & 3) << 10 | (id == 0 ? 1 << 8 : 0) | (record.value & 0x100));
        break;
    case 8: // IA32_TSC_DEADLINE
        (void)apic.write_msr(0x6e0, board.clock.tsc() + record.value);
        break;
    case 9: case 10:
        fuzz::pass_time(board.clock, record);
        break;
    case 11: {
        int const vector = apic.acknowledge();
        ASSERT(vector >= -1 && vector <= 0xff, "an acknowledge cycle gives a vector or none");
        break;
    }
    case 12:
        board.bus.send_msi(MsiMessage::address_base | (record.offset << 2 & 0xfffff), static_cast<u32>(record.value));
        break;
    case 13:
        board.bus.set_external_output(record.offset & 1);
        board.bus.set_nmi_line(record.offset & 2);
        apic.set_cr8(record.value & 15);
        ASSERT(apic.cr8() < 16, "CR8 has four bits");
        break;
    case 14:
        apic.trigger(static_cast<LvtEntry>(record.offset % lvt_entries));
        if (record.offset & 0x8000)
            apic.reset_by_init();
        break;
    default:
        fuzz::check_restore(apic); // forgets the periods that a masked timer has passed
        fuzz::check_round_trip(apic);
    }
}

} // namespace

// The first byte says whether x2APIC mode exists.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    u8 const choice = input.byte();
    ApicBoard board(count, choice & 1 ? LocalApic::X2Apic::offered : LocalApic::X2Apic::hidden);
    if (choice & 2)
        board.enable_all();
    while (auto const record = input.record())
        apply(board, *record);
    return 0;
}
