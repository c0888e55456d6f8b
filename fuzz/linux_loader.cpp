// Fuzzes the kernel loaders: a bzImage or ELF file of any bytes is loaded or refused with a reason, and nothing else happens.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz/kernel_loader.hpp"

using namespace anyhyve;

// The first byte chooses the entry and whether there is an initrd, the second the length of the command line; the rest is the file.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    if (size < 2)
        return 0;
    u8 const choice = data[0];
    boot::MemorySource const kernel("kernel", std::vector<u8>(data + 2, data + size));
    boot::MemorySource const initrd("initrd", std::vector<u8>(1 + choice * 64u, 0x11));
    boot::KernelRequest const request { kernel, (choice & 4) ? &initrd : nullptr, std::string(data[1] * 16u, 'a'), static_cast<boot::KernelEntry>(choice & 3) };
    try_to_load(request);
    return 0;
}
