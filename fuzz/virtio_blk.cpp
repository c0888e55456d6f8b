// Fuzzes the block device on a disk in memory: any register accesses, any rings. See virtio_guest.hpp.
#include "device/virtio/virtio_blk.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/virtio_guest.hpp"

using namespace anyhyve;

namespace {

constexpr u64 disk_size = 64 * KiB;

// A file without a name; the back end opens it by its descriptor.
std::string disk_path()
{
    static int const file = memfd_create("disk", MFD_CLOEXEC);
    ASSERT(file >= 0 && ftruncate(file, disk_size) == 0, "there is memory for a disk");
    return "/proc/self/fd/" + std::to_string(file);
}

} // namespace

// The first byte chooses MSI or MSI-X, and the options of the disk.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    fuzz::Input input(data, size);
    VirtioBoard board;
    u8 const choice = input.byte();
    auto const interrupts = choice & 1 ? VirtioWires::Interrupts::msi : VirtioWires::Interrupts::msix;
    std::string const options = disk_path() + (choice & 6 ? "" : ",ro") + (choice & 8 ? ",nodelete" : "") + (choice & 16 ? ",direct" : "");
    auto created = VirtioBlk::create(board.wires(interrupts), { 0, 4, 0 }, DeviceOptions::parse(options, "path"));
    ASSERT(created.ok(), "a disk in memory can be opened");
    auto const device = created.release_value();
    fuzz::VirtioGuest guest(board, *device);
    while (auto const record = input.record())
        guest.apply(*record);
    device->quiesce();
    return 0;
}
