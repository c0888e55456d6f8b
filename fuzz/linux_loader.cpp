// Fuzzes the kernel loaders: a bzImage or ELF file of any bytes is loaded or refused with a reason, and nothing else happens.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/assert.hpp"
#include "boot/kernel.hpp"

using namespace anyhyve;

// The first byte chooses the entry and whether there is an initrd, the second the length of the command line; the rest is the file.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    static auto const memory = GuestMemory::create_anonymous(32 * MiB).release_value();
    if (size < 2)
        return 0;
    u8 const choice = data[0];
    boot::MemorySource const kernel("kernel", std::vector<u8>(data + 2, data + size));
    boot::MemorySource const initrd("initrd", std::vector<u8>(1 + choice * 64u, 0x11));
    boot::KernelRequest const request { kernel, (choice & 4) ? &initrd : nullptr, std::string(data[1] * 16u, 'a'), static_cast<boot::KernelEntry>(choice & 3) };
    auto const loaded = boot::load_kernel(*memory, request);
    if (loaded.ok())
        ASSERT(memory->is_ram(Gpa(loaded.value().bsp.rip)), "a loaded kernel starts in RAM");
    else
        ASSERT(!loaded.error().message().empty(), "a refusal has a reason");
    return 0;
}
