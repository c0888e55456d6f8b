// Fuzzes the entropy device: any register accesses, any rings. See virtio_guest.hpp.
#include "device/virtio/virtio_rnd.hpp"

#include "fuzz/virtio_guest.hpp"

using namespace anyhyve;

// The first byte chooses MSI or MSI-X.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    VirtioBoard board;
    auto const interrupts = input.byte() & 1 ? VirtioWires::Interrupts::msi : VirtioWires::Interrupts::msix;
    auto const device = VirtioRnd::create(board.wires(interrupts), { 0, 4, 0 }, {}).release_value();
    fuzz::VirtioGuest guest(board, *device);
    while (auto const record = input.record())
        guest.apply(*record);
    return 0;
}
