// Multiboot 1: header search, flat images and ELF files of both classes, modules, the information structure, and files that lie.
#include <gmock/gmock.h>

#include "boot/kernel.hpp"
#include "boot/memory_map.hpp"
#include "boot/multiboot.hpp"
#include "x86/instruction.hpp"

using namespace anyhyve;
using namespace anyhyve::boot;
using testing::HasSubstr;

namespace {

constexpr u32 magic = 0x1badb002;

void put32(std::vector<u8>& bytes, u64 at, u64 value)
{
    for (unsigned i = 0; i < 4; ++i)
        bytes[at + i] = static_cast<u8>(value >> (8 * i));
}

void put_header(std::vector<u8>& bytes, u64 at, u32 flags, u32 error = 0)
{
    put32(bytes, at, magic);
    put32(bytes, at + 4, flags);
    put32(bytes, at + 8, 0 - magic - flags + error);
}

// A flat image whose header says where it goes.
struct Flat {
    u64 size = 0x2000, header = 0x40;
    u32 flags = 1 << 16 | 3;
    u32 error = 0;
    u32 header_address = 0x100040, load = 0x100000, load_end = 0, bss_end = 0x104000, entry = 0x100080;

    std::vector<u8> build() const
    {
        std::vector<u8> bytes(size, 0x90);
        put_header(bytes, header, flags, error);
        u64 at = header + 12;
        for (u32 const field : { header_address, load, load_end, bss_end, entry }) {
            if (at + 4 <= size)
                put32(bytes, at, field);
            at += 4;
        }
        return bytes;
    }
};

// An ELF file of one segment, whose addresses are virtual_base above where it goes.
std::vector<u8> elf_image(bool wide, u64 virtual_base, u32 header_at = 0x200)
{
    std::vector<u8> bytes(0x1100, 0x90);
    std::fill_n(bytes.begin(), 0x200, u8 { 0 });
    auto const put = [&](u64 at, u64 value, unsigned width) {
        for (unsigned i = 0; i < width; ++i)
            bytes[at + i] = static_cast<u8>(value >> (8 * i));
    };
    put(0, 0x464c457f, 4);
    put(4, wide ? 2 : 1, 1);
    put(5, 1, 1);
    put(6, 1, 1);
    put(16, 2, 2);
    put(18, wide ? 62 : 3, 2);
    unsigned const word = wide ? 8 : 4;
    put(24, virtual_base + 0x100010, word);
    put(24 + word, wide ? 64 : 52, word);
    u64 const sizes = wide ? 54 : 42, program = wide ? 64 : 52;
    put(sizes, wide ? 56 : 32, 2);
    put(sizes + 2, 1, 2);
    put(program, 1, 4);
    u64 at = program + (wide ? 8 : 4);
    for (u64 const value : { u64 { 0x100 }, virtual_base + 0x100000, u64 { 0x100000 }, u64 { 0x1000 }, u64 { 0x3000 } }) {
        put(at, value, word);
        at += word;
    }
    put_header(bytes, header_at, 0);
    return bytes;
}

class Multiboot : public testing::Test {
protected:
    std::unique_ptr<GuestMemory> memory = GuestMemory::create_anonymous(64 * MiB).release_value();

    Result<LoadedGuest> load(std::vector<u8> bytes, std::vector<KernelModule> modules = {}, std::string command_line = "one two", ImageSource const* initrd = nullptr)
    {
        MemorySource const kernel("/boot/kernel", std::move(bytes));
        KernelRequest request { .kernel = kernel, .initrd = initrd, .command_line = std::move(command_line) };
        request.modules = std::move(modules);
        return load_kernel(*memory, request);
    }
    std::string error_of(std::vector<u8> bytes)
    {
        auto const result = load(std::move(bytes));
        EXPECT_FALSE(result.ok());
        return result.ok() ? "" : result.error().message();
    }
    u32 word(u64 address)
    {
        u32 value = 0;
        EXPECT_TRUE(memory->read_value(Gpa(address), value));
        return value;
    }
    std::string text(u64 address)
    {
        std::string out;
        for (u8 c = 0; memory->read_value(Gpa(address), c) && c; ++address)
            out += static_cast<char>(c);
        return out;
    }
};

} // namespace

TEST_F(Multiboot, EntersAFlatImage)
{
    std::memset(memory->range(Gpa(0x102000), 0x3000), 0xff, 0x3000);
    auto const loaded = load(Flat {}.build());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    auto const& cpu = loaded.value().bsp;
    EXPECT_EQ(loaded.value().entry, KernelEntry::multiboot);
    EXPECT_EQ(cpu.rip, 0x100080u);
    EXPECT_EQ(cpu.gpr[x86::rax], 0x2badb002u);
    EXPECT_EQ(cpu.cr0, x86::cr0::pe | x86::cr0::et);
    EXPECT_EQ(cpu.rflags & x86::rflags::interrupt, 0u);
    EXPECT_EQ(word(0x100040), magic);
    EXPECT_EQ(word(0x102000), 0u); // cleared behind the image
    EXPECT_EQ(word(0x103ffc), 0u);
    EXPECT_EQ(word(0x104000), 0xffffffffu);
}

TEST_F(Multiboot, LoadsElfFilesAtTheirPhysicalAddresses)
{
    for (bool const wide : { false, true }) {
        auto const loaded = load(elf_image(wide, wide ? 0xffffffff80000000 : 0x40000000));
        ASSERT_TRUE(loaded.ok()) << loaded.error().message();
        EXPECT_EQ(loaded.value().bsp.rip, 0x100010u);
        EXPECT_EQ(word(0x100100), magic);
        EXPECT_EQ(word(0x101000), 0u);
    }
}

TEST_F(Multiboot, InformationTellsOfMemoryAndModules)
{
    MemorySource const first("/a/first", std::vector<u8>(5000, 7)), second("second", std::vector<u8>(10, 8)), empty("none", {});
    auto const loaded = load(Flat {}.build(), { { &first, "x=1,2 y" }, { &second, "" }, { &empty, "" } });
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    u64 const information = loaded.value().bsp.gpr[x86::rbx];
    EXPECT_EQ(word(information), 1u << 0 | 1u << 2 | 1u << 3 | 1u << 6 | 1u << 9);
    EXPECT_EQ(word(information + 4), 640u);
    EXPECT_EQ(word(information + 8), 63u * 1024);
    EXPECT_EQ(text(word(information + 16)), "kernel one two");
    EXPECT_EQ(text(word(information + 64)), "anyhyve");
    ASSERT_EQ(word(information + 20), 3u);
    u64 const list = word(information + 24);
    EXPECT_EQ(word(list), 0x104000u);
    EXPECT_EQ(word(list + 4), 0x104000u + 5000);
    EXPECT_EQ(text(word(list + 8)), "first x=1,2 y");
    EXPECT_EQ(word(0x104000), 0x07070707u);
    EXPECT_EQ(word(list + 16), 0x106000u);
    EXPECT_EQ(text(word(list + 24)), "second");
    EXPECT_EQ(word(list + 32), word(list + 36));
    // The map: every entry says how long it is, and RAM is in it.
    u64 const map = word(information + 48), end = map + word(information + 44);
    u64 ram = 0;
    for (u64 at = map; at < end; at += word(at) + 4) {
        ASSERT_EQ(word(at), 20u);
        if (word(at + 20) == 1)
            ram += word(at + 12);
    }
    EXPECT_EQ(ram, 64 * MiB - (1 * MiB - 640 * KiB));
}

TEST_F(Multiboot, TheInitrdIsTheFirstModule)
{
    MemorySource const initrd("initrd.img", std::vector<u8>(100, 7)), module("m", std::vector<u8>(10, 8));
    auto const loaded = load(Flat {}.build(), { { &module, "" } }, "", &initrd);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    u64 const information = loaded.value().bsp.gpr[x86::rbx];
    EXPECT_EQ(text(word(information + 16)), "kernel");
    ASSERT_EQ(word(information + 20), 2u);
    EXPECT_EQ(text(word(word(information + 24) + 8)), "initrd.img");
}

TEST_F(Multiboot, TheHeaderIsInTheFirst8KiBAndAligned)
{
    auto const detected = [](std::vector<u8> bytes) { return is_multiboot_image(MemorySource("k", std::move(bytes))).value(); };
    auto const at = [](u64 header, u64 size) { return Flat { .size = size, .header = header }.build(); };
    EXPECT_TRUE(detected(at(0, 0x4000)));
    EXPECT_TRUE(detected(at(8192 - 12, 0x4000)));
    EXPECT_FALSE(detected(at(8192 - 8, 0x4000)));
    EXPECT_FALSE(detected(at(0x42, 0x4000)));
    EXPECT_TRUE(detected(at(0x40, 0x4c)));
    EXPECT_FALSE(detected(Flat { .error = 1 }.build()));
    EXPECT_FALSE(detected({}));
    EXPECT_FALSE(detected({ 2, 0xb0, 0xad }));
}

TEST_F(Multiboot, BadFilesAreRefusedWithAReason)
{
    auto const refuse = [this](auto const& change, char const* reason) {
        Flat image;
        change(image);
        EXPECT_THAT(error_of(image.build()), HasSubstr(reason));
    };
    refuse([](Flat& i) { i.flags |= 8; }, "flags 0x8");
    refuse([](Flat& i) { i.flags = 0; }, "no ELF file");
    refuse([](Flat& i) { i.header_address = 0xfffff; }, "damaged");
    refuse([](Flat& i) { i.header_address = 0x100044; }, "damaged");
    refuse([](Flat& i) { i.load_end = 0x100000 - 1; }, "damaged");
    refuse([](Flat& i) { i.load_end = 0x102001; }, "damaged");
    refuse([](Flat& i) { i.bss_end = 0x101fff; }, "damaged");
    refuse([](Flat& i) { i.bss_end = 0xffffffff; }, "does not fit");
    refuse([](Flat& i) { i.load = 0x4000, i.header_address = 0x4040, i.bss_end = 0; }, "boot information");
    refuse([](Flat& i) { i.load = 0xfffff000, i.header_address = 0xfffff040, i.bss_end = 0; }, "does not fit");
    refuse([](Flat& i) { i.entry = 0xc0000000; }, "not in the guest's memory");
    refuse([](Flat& i) { i.size = 0x50; }, "truncated");
    auto const elf = elf_image(false, 0);
    for (std::size_t size = 0x20c; size < elf.size(); size += 13)
        EXPECT_FALSE(error_of({ elf.begin(), elf.begin() + static_cast<long>(size) }).empty());
}

TEST_F(Multiboot, ModulesAndCommandLinesMustFit)
{
    MemorySource const large("large", std::vector<u8>(63 * MiB)), small("small", std::vector<u8>(1));
    auto const error = [this](std::vector<KernelModule> modules, std::string command_line) {
        auto const result = load(Flat {}.build(), std::move(modules), std::move(command_line));
        return result.ok() ? std::string() : result.error().message();
    };
    EXPECT_THAT(error({ { &large, "" } }, ""), HasSubstr("large: the module has"));
    EXPECT_THAT(error(std::vector<KernelModule>(257, { &small, "" }), ""), HasSubstr("too many"));
    EXPECT_EQ(error(std::vector<KernelModule>(256, { &small, "" }), ""), "");
    EXPECT_THAT(error({}, std::string(9000, 'a')), HasSubstr("longer than"));
    EXPECT_THAT(error({ { &small, std::string(9000, 'a') } }, ""), HasSubstr("longer than"));
    EXPECT_THAT(error({}, std::string(1, '\0')), HasSubstr("NUL"));
}

TEST_F(Multiboot, OtherKernelsTakeNoModules)
{
    MemorySource const module("m", std::vector<u8>(1)), kernel("k", std::vector<u8>(0x1000));
    KernelRequest request { .kernel = kernel, .command_line = "" };
    request.modules = { { &module, "" } };
    auto const result = load_kernel(*memory, request);
    ASSERT_FALSE(result.ok());
    EXPECT_THAT(result.error().message(), HasSubstr("only multiboot"));
}
