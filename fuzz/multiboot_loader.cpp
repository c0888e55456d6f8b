// Fuzzes the multiboot loader: a file of any bytes behind a header of any flags is loaded or refused with a reason, and nothing else happens.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fuzz/kernel_loader.hpp"

using namespace anyhyve;

// The first byte says where the header with a right checksum goes and how many modules there are; the rest is the file.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    if (size < 1)
        return 0;
    u8 const choice = data[0];
    std::vector<u8> bytes(data + 1, data + size);
    u64 const header = (choice & 15u) * 4;
    if (choice & 0x80 && header + 12 <= bytes.size()) {
        constexpr u32 magic = 0x1badb002;
        u32 flags = 0;
        std::memcpy(&flags, bytes.data() + header + 4, sizeof flags);
        flags &= 0x10007;
        u32 const words[] = { magic, flags, 0 - magic - flags };
        std::memcpy(bytes.data() + header, words, sizeof words);
    }
    boot::MemorySource const kernel("kernel", std::move(bytes));
    boot::MemorySource const module("module", std::vector<u8>(size * 16, 0x11));
    boot::KernelRequest request { .kernel = kernel, .command_line = "a b", .entry = boot::KernelEntry::multiboot };
    request.modules.assign(choice >> 4 & 7, { &module, "words" });
    try_to_load(request);
    return 0;
}
