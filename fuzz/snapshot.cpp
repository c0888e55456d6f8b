// Fuzzes the snapshot decoder: any bytes, and damaged chunks (with a good checksum) of every part of a machine that keeps state. Either
// way the file is refused with a reason or restored to a state that works, and that can itself be saved and restored.
#include "vmm/snapshot.hpp"

#include "device/legacy/acpi_pm.hpp"
#include "device/legacy/keyboard_controller.hpp"
#include "device/legacy/reset_port.hpp"
#include "device/pci/config_access.hpp"
#include "device/timer/hpet.hpp"
#include "device/timer/pit.hpp"
#include "device/timer/rtc.hpp"
#include "device/virtio/virtio_rnd.hpp"
#include "vmm/cpu_state_codec.hpp"

#include "fuzz/fake_time.hpp"
#include "irqchip/fake_processor.hpp"
#include "virtio/guest_driver.hpp"

using namespace anyhyve;

namespace {

struct Processor final : Persistent {
    std::string_view state_name() const override { return "vcpu0"; }
    u32 state_version() const override { return cpu_state_version; }
    void save(Encoder& encoder) const override { encode_cpu_state(state, encoder); }
    Result<void> restore(Decoder& decoder, u32 version) override { return decode_cpu_state(decoder, version, state); }
    void reset() override { state = CpuState {}; }
    CpuState state {};
};

struct Machine {
    ApicBoard apics { 2 };
    FakeClock& clock = apics.clock;
    FakeSink sink;
    FakeMessages messages;
    Processor processor;
    IoApic io_apic { messages };
    Pic pic { [](bool) {} };
    PirqRouter pirq { pic };
    Pit pit { clock, IrqLine(sink, 0) };
    Rtc rtc { clock, IrqLine(sink, 8), 1'700'000'000, 3 * GiB, 0 };
    Hpet hpet { clock, { sink, sink, messages, [](bool) {} } };
    AcpiPm pm { clock, IrqLine(sink, 9), [] {} };
    KeyboardController keyboard { IrqLine(sink, 1), IrqLine(sink, 12), [] {} };
    ResetPort reset { [] {} };
    VirtioBoard board;
    std::unique_ptr<VirtioRnd> random = VirtioRnd::create(board.wires(), { 0, 4, 0 }, {}).release_value();
    PciConfigPorts ports { board.pci };
    std::vector<Persistent*> parts { &processor, apics.apics[0].get(), apics.apics[1].get(), &io_apic, &pic, &pirq, &pit, &rtc, &hpet, &pm, &keyboard,
        &reset, random.get(), &ports };

    Machine() { board.plug(*random); }

    // Every part goes on from what was restored.
    void run()
    {
        for (u64 offset = 0; offset < 0x400; offset += 8)
            (void)hpet.read(offset, 8);
        for (u64 offset = 0; offset < 0x400; offset += 16)
            (void)apics.apics[0]->read_page(offset, 4);
        for (u8 index = 0; index < 128; ++index) {
            rtc.ports().write(0, 1, index);
            (void)rtc.ports().read(1, 1);
            (void)random->config_read(index, 2);
        }
        (void)pit.counters().read(0, 4);
        (void)pm.registers().read(0, 8);
        (void)keyboard.data().read(0, 1);
        (void)apics.receivers();
        board.memory_bus.write(random->bar_address(4) + 0x3000, 2, 0);
        clock.advance(50'000);
        pic.set_level(3, true);
        io_apic.set_level(3, true);
        (void)pic.acknowledge();
        pic.set_level(3, false);
        io_apic.set_level(3, false);
    }
};

// The machine's own chunks, damaged as the input says: {chunk, two bytes of position, what to do, value}.
std::vector<u8> damaged(Machine& machine, fuzz::Input& input)
{
    auto chunks = decode_chunks(save_all(machine.parts), "saved").release_value();
    while (!input.empty()) {
        Chunk& chunk = chunks[input.byte() % chunks.size()];
        u64 const at = input.number(2);
        u8 const action = input.byte();
        u8 const value = input.byte();
        auto& bytes = chunk.bytes;
        if (action == 0xff)
            chunk.version = value;
        else if (action == 0xfe)
            chunk.name += static_cast<char>(value);
        else if (action == 0xfd)
            bytes.push_back(value);
        else if (action == 0xfc && !bytes.empty())
            bytes.resize(at % bytes.size());
        else if (!bytes.empty())
            bytes[at % bytes.size()] = action & 1 ? value : static_cast<u8>(bytes[at % bytes.size()] ^ 1U << (value & 7));
    }
    return encode_chunks(chunks);
}

} // namespace

std::vector<std::vector<u8>> anyhyve::fuzz::seeds()
{
    Machine machine;
    auto file = save_all(machine.parts);
    file.insert(file.begin(), 1);
    return { file };
}

// An odd first byte: the rest is the file.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    Machine machine;
    bool const whole = input.byte() & 1;
    auto const file = whole ? std::vector<u8>(input.rest().begin(), input.rest().end()) : damaged(machine, input);
    auto const restored = restore_all(file, machine.parts, "file");
    ASSERT(restored.ok() || !restored.error().message().empty(), "a refusal has a reason");
    if (restored.ok()) {
        auto const saved_again = save_all(machine.parts);
        auto const again = restore_all(saved_again, machine.parts, "again");
        ASSERT(again.ok(), "what was restored can be saved and restored");
        ASSERT(save_all(machine.parts) == saved_again, "saving changes nothing");
    }
    machine.run();
    return 0;
}
