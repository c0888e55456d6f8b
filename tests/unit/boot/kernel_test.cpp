// Kernel loading: the Linux boot protocol and PVH, with good files, and with files that lie.
#include <cstdlib>

#include <gmock/gmock.h>

#include "boot/elf.hpp"
#include "boot/kernel.hpp"
#include "boot/linux_header.hpp"
#include "boot/memory_map.hpp"
#include "x86/instruction.hpp"

using namespace anyhyve;
using namespace anyhyve::boot;
using linux_protocol::BootParams;
using linux_protocol::SetupHeader;
using testing::HasSubstr;

namespace {

constexpr u64 code_size = 0x5000;

std::unique_ptr<GuestMemory> memory_of(u64 size)
{
    return GuestMemory::create_anonymous(size).release_value();
}

SetupHeader good_header()
{
    SetupHeader header {};
    header.setup_sects = 3;
    header.syssize = code_size / 16;
    header.boot_flag = 0xaa55;
    header.jump_opcode = 0xeb;
    header.jump_offset = sizeof(SetupHeader) - offsetof(SetupHeader, header);
    header.header = 0x53726448;
    header.version = 0x20f;
    header.loadflags = 1;
    header.code32_start = 0x100000;
    header.initrd_addr_max = 0x7fffffff;
    header.kernel_alignment = 0x200000;
    header.relocatable_kernel = 1;
    header.xloadflags = 1;
    header.cmdline_size = 2047;
    header.payload_offset = 0x100;
    header.payload_length = 0x200;
    header.pref_address = 0x1000000;
    header.init_size = 0x800000;
    return header;
}

std::vector<u8> image_of(SetupHeader const& header, u64 code = code_size)
{
    std::vector<u8> bytes((header.setup_sects + 1u) * 512 + code);
    std::memcpy(bytes.data() + 0x1f1, &header, sizeof header);
    for (u64 i = (header.setup_sects + 1u) * 512; i < bytes.size(); ++i)
        bytes[i] = static_cast<u8>(i * 7);
    return bytes;
}

Result<LoadedGuest> load(GuestMemory& memory, std::vector<u8> bytes, KernelEntry entry = KernelEntry::automatic, std::string command_line = "console=ttyS0",
    std::vector<u8> const* initrd = nullptr)
{
    MemorySource const kernel("kernel", std::move(bytes));
    MemorySource const initrd_source("initrd", initrd ? *initrd : std::vector<u8> {});
    return load_kernel(memory, { kernel, initrd ? &initrd_source : nullptr, std::move(command_line), entry });
}

std::string error_of(std::vector<u8> bytes, u64 ram = 64 * MiB, KernelEntry entry = KernelEntry::automatic)
{
    auto memory = memory_of(ram);
    auto const result = load(*memory, std::move(bytes), entry);
    EXPECT_FALSE(result.ok());
    return result.ok() ? "" : result.error().message();
}

BootParams params_of(GuestMemory& memory)
{
    BootParams params;
    EXPECT_TRUE(memory.read(Gpa(memory_map::loader::linux_boot_params), &params, sizeof params));
    return params;
}

// Where the tables at CR3 lead; all ones when nowhere.
u64 walk(GuestMemory& memory, u64 cr3, u64 address)
{
    u64 entry = cr3;
    for (unsigned level = 4; level >= 2; --level) {
        u64 const index = address >> (12 + 9 * (level - 1)) & 511;
        if (!memory.read_value(Gpa((entry & ~u64 { 0xfff }) + index * 8), entry) || !(entry & 1))
            return ~u64 { 0 };
        if (level == 2)
            return (entry & 0x80) ? (entry & ~u64 { 0x1fffff }) + (address & 0x1fffff) : ~u64 { 0 };
    }
    return ~u64 { 0 };
}

} // namespace

TEST(LinuxImage, Enters64BitCode)
{
    auto memory = memory_of(64 * MiB);
    auto const loaded = load(*memory, image_of(good_header()));
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    auto const& cpu = loaded.value().bsp;
    EXPECT_EQ(loaded.value().entry, KernelEntry::long64);
    EXPECT_EQ(cpu.rip, 0x1000200u);
    EXPECT_EQ(cpu.gpr[x86::rsi], memory_map::loader::linux_boot_params);
    EXPECT_EQ(cpu.efer, x86::efer::lme | x86::efer::lma);
    EXPECT_EQ(cpu.cr0, x86::cr0::pg | x86::cr0::pe | x86::cr0::et);
    EXPECT_EQ(cpu.cr4, x86::cr4::pae);
    auto const& cs = cpu.segments[static_cast<u8>(x86::Segment::cs)];
    EXPECT_EQ(cs.selector, 0x10);
    EXPECT_EQ(cs.access, 0xa09bu);
    EXPECT_EQ(cpu.segments[static_cast<u8>(x86::Segment::ds)].selector, 0x18);
    EXPECT_EQ(cpu.rflags, 2u);
    for (u64 address : { u64 { 0 }, u64 { 0x1000200 }, u64 { 0x3fffffff }, u64 { 0x40000000 }, u64 { 0xfee00000 }, u64 { 0xffffffff } })
        EXPECT_EQ(walk(*memory, cpu.cr3, address), address);
    EXPECT_EQ(walk(*memory, cpu.cr3, 4 * GiB), ~u64 { 0 });
}

TEST(LinuxImage, EntersFlat32BitCode)
{
    auto memory = memory_of(64 * MiB);
    auto const loaded = load(*memory, image_of(good_header()), KernelEntry::flat32);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    auto const& cpu = loaded.value().bsp;
    EXPECT_EQ(cpu.rip, 0x1000000u);
    EXPECT_EQ(cpu.cr0, x86::cr0::pe | x86::cr0::et);
    EXPECT_EQ(cpu.cr4, 0u);
    EXPECT_EQ(cpu.efer, 0u);
    auto const& cs = cpu.segments[static_cast<u8>(x86::Segment::cs)];
    EXPECT_EQ(cs.access, 0xc09bu);
    EXPECT_EQ(cs.limit, 0xffffffffu);
    EXPECT_EQ(cpu.segments[static_cast<u8>(x86::Segment::ss)].access, 0xc093u);
    EXPECT_EQ(cpu.tr.access, 0x8bu);
    EXPECT_EQ(cpu.tr.limit, 0x67u);
    EXPECT_TRUE(cpu.ldtr.access & x86::access::unusable);
    EXPECT_EQ(cpu.gpr[x86::rbp] | cpu.gpr[x86::rdi] | cpu.gpr[x86::rbx], 0u);
    // The descriptors in memory say what the registers do.
    u64 code = 0, data = 0;
    EXPECT_TRUE(memory->read_value(Gpa(cpu.gdtr.base + 0x10), code));
    EXPECT_TRUE(memory->read_value(Gpa(cpu.gdtr.base + 0x18), data));
    EXPECT_EQ(code, 0x00cf9b000000ffffu);
    EXPECT_EQ(data, 0x00cf93000000ffffu);
}

TEST(LinuxImage, ZeroPageSaysWhereEverythingIs)
{
    auto memory = memory_of(64 * MiB);
    std::vector<u8> const initrd(5000, 0x5a);
    auto const loaded = load(*memory, image_of(good_header()), KernelEntry::automatic, "root=/dev/vda", &initrd);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    auto const params = params_of(*memory);
    EXPECT_EQ(params.hdr.type_of_loader, 0xff);
    EXPECT_EQ(params.sentinel, 0);
    EXPECT_EQ(params.acpi_rsdp_addr, memory_map::acpi_tables);
    EXPECT_EQ(params.hdr.init_size, 0x800000u);
    EXPECT_EQ(params.hdr.ramdisk_size, 5000u);
    EXPECT_EQ(params.hdr.ramdisk_image, 64 * MiB - 8192);
    EXPECT_EQ(*memory->range(Gpa(params.hdr.ramdisk_image + 4999), 1), 0x5a);
    EXPECT_STREQ(reinterpret_cast<char const*>(memory->range(Gpa(params.hdr.cmd_line_ptr), 14)), "root=/dev/vda");
    EXPECT_GE(params.e820_entries, 4);
    auto const bytes = image_of(good_header());
    EXPECT_EQ(std::memcmp(memory->range(Gpa(0x1000000), code_size), bytes.data() + 2048, code_size), 0);
}

TEST(LinuxImage, InitrdStaysBelowTheKernelsLimit)
{
    auto memory = memory_of(64 * MiB);
    auto header = good_header();
    header.initrd_addr_max = 0x2ffffff;
    std::vector<u8> const initrd(4096, 1);
    ASSERT_TRUE(load(*memory, image_of(header), KernelEntry::automatic, "", &initrd).ok());
    EXPECT_EQ(params_of(*memory).hdr.ramdisk_image, 0x2fff000u);
}

TEST(LinuxImage, InitrdThatDoesNotFitIsAnError)
{
    auto memory = memory_of(32 * MiB);
    std::vector<u8> const exact(8 * MiB, 1), large(8 * MiB + 1, 1), huge(64 * MiB, 1), empty;
    EXPECT_TRUE(load(*memory, image_of(good_header()), KernelEntry::automatic, "", &exact).ok());
    for (auto const* initrd : { &large, &huge, &empty }) {
        auto const result = load(*memory, image_of(good_header()), KernelEntry::automatic, "", initrd);
        ASSERT_FALSE(result.ok());
        EXPECT_THAT(result.error().message(), HasSubstr("initrd"));
    }
}

TEST(LinuxImage, CommandLineLimit)
{
    auto memory = memory_of(64 * MiB);
    EXPECT_TRUE(load(*memory, image_of(good_header()), KernelEntry::automatic, std::string(2047, 'a')).ok());
    auto const result = load(*memory, image_of(good_header()), KernelEntry::automatic, std::string(2048, 'a'));
    ASSERT_FALSE(result.ok());
    EXPECT_THAT(result.error().message(), HasSubstr("2047"));
    auto header = good_header();
    header.cmdline_size = 0xffffffff;
    EXPECT_FALSE(load(*memory, image_of(header), KernelEntry::automatic, std::string(0x10000, 'a')).ok());
    EXPECT_FALSE(load(*memory, image_of(header), KernelEntry::automatic, std::string(1, '\0')).ok());
}

TEST(LinuxImage, LoadsLowerWhenMemoryIsScarce)
{
    auto memory = memory_of(16 * MiB);
    auto const loaded = load(*memory, image_of(good_header()));
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded.value().bsp.rip, 0x200200u);
    auto header = good_header();
    header.relocatable_kernel = 0;
    EXPECT_THAT(error_of(image_of(header), 16 * MiB), HasSubstr("memory"));
    EXPECT_THAT(error_of(image_of(good_header()), 8 * MiB), HasSubstr("memory"));
    EXPECT_THAT(error_of(image_of(good_header()), 64 * KiB), HasSubstr("memory"));
}

TEST(LinuxImage, OlderProtocols)
{
    auto memory = memory_of(64 * MiB);
    auto header = good_header();
    header.version = 0x206;
    header.jump_offset = offsetof(SetupHeader, hardware_subarch) - offsetof(SetupHeader, header);
    auto const loaded = load(*memory, image_of(header));
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded.value().entry, KernelEntry::flat32);
    EXPECT_EQ(loaded.value().bsp.rip, 0x100000u);
    EXPECT_EQ(params_of(*memory).acpi_rsdp_addr, 0u);
    EXPECT_EQ(params_of(*memory).hdr.init_size, 0u);
    header.version = 0x205;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("2.05"));
}

TEST(LinuxImage, BadFilesAreRefusedWithAReason)
{
    EXPECT_THAT(error_of({}), HasSubstr("empty"));
    EXPECT_THAT(error_of({ 0x7f }), HasSubstr("not a kernel"));
    EXPECT_THAT(error_of(std::vector<u8>(100000, 'x')), HasSubstr("not a kernel"));
    auto const good = image_of(good_header());
    for (std::size_t size = 0; size < good.size(); size += size < 0x300 ? 1 : 509)
        EXPECT_FALSE(error_of({ good.begin(), good.begin() + static_cast<long>(size) }).empty());

    auto header = good_header();
    header.setup_sects = 0xff;
    auto truncated = image_of(good_header());
    std::memcpy(truncated.data() + 0x1f1, &header, sizeof header);
    EXPECT_THAT(error_of(truncated), HasSubstr("truncated"));
    header = good_header();
    header.syssize = 0xffffffff;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("truncated"));
    header = good_header();
    header.payload_offset = 0xffffffff;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("payload"));
    header = good_header();
    header.payload_length = 0xffffffff;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("payload"));
    header = good_header();
    header.init_size = 0xffffffff;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("memory"));
    for (u64 address : { ~u64 { 0 }, 4 * GiB, u64 { 0xc0000000 }, ~u64 { 0 } - 0x800000 }) {
        header = good_header();
        header.pref_address = address;
        header.relocatable_kernel = 0;
        EXPECT_THAT(error_of(image_of(header)), HasSubstr("memory"));
    }
    header = good_header();
    header.pref_address = 0x1000;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("damaged"));
    header = good_header();
    header.loadflags = 0;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("zImage"));
    header = good_header();
    header.jump_offset = 0;
    EXPECT_THAT(error_of(image_of(header)), HasSubstr("damaged"));
    header = good_header();
    header.xloadflags = 0;
    EXPECT_THAT(error_of(image_of(header), 64 * MiB, KernelEntry::long64), HasSubstr("64-bit"));
    EXPECT_THAT(error_of(image_of(good_header()), 64 * MiB, KernelEntry::pvh), HasSubstr("PVH"));
}

namespace {

struct ElfImage {
    u64 entry_note = 0x1000000;
    u64 offset = 0x1000, physical = 0x1000000, file_size = 0x100, memory_size = 0x3000;
    u64 note_offset = 0x800, note_size = 0;
    u16 count = 2, entry_size = 56, machine = 62, type = 2;
    u64 header_offset = 64;
    u32 name_size = 4, value_size = 8;

    std::vector<u8> build() const
    {
        std::vector<u8> bytes(0x2000);
        auto const put = [&](u64 at, u64 value, unsigned width) { std::memcpy(bytes.data() + at, &value, width); };
        put(0, elf_magic, 4);
        put(4, 2, 1);
        put(5, 1, 1);
        put(6, 1, 1);
        put(16, type, 2);
        put(18, machine, 2);
        put(32, header_offset, 8);
        put(54, entry_size, 2);
        put(56, count, 2);
        u64 at = 64;
        for (bool note : { false, true }) {
            put(at, note ? 4 : 1, 4);
            put(at + 8, note ? note_offset : offset, 8);
            put(at + 16, physical, 8);
            put(at + 24, physical, 8);
            put(at + 32, note ? (note_size ? note_size : 24) : file_size, 8);
            put(at + 40, note ? 24 : memory_size, 8);
            at += 56;
        }
        put(0x800, name_size, 4);
        put(0x804, value_size, 4);
        put(0x808, 18, 4);
        std::memcpy(bytes.data() + 0x80c, "Xen", 4);
        put(0x810, entry_note, 8);
        std::fill(bytes.begin() + 0x1000, bytes.begin() + 0x1100, u8 { 0xcc });
        return bytes;
    }
};

} // namespace

TEST(PvhImage, EntersWithStartInfo)
{
    auto memory = memory_of(64 * MiB);
    std::memset(memory->range(Gpa(0x1000000), 0x3000), 0xff, 0x3000);
    std::vector<u8> const initrd(100, 7);
    auto const loaded = load(*memory, ElfImage {}.build(), KernelEntry::automatic, "hello", &initrd);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    auto const& cpu = loaded.value().bsp;
    EXPECT_EQ(loaded.value().entry, KernelEntry::pvh);
    EXPECT_EQ(cpu.rip, 0x1000000u);
    EXPECT_EQ(cpu.cr0, x86::cr0::pe | x86::cr0::et);
    u64 const info = cpu.gpr[x86::rbx];
    auto const number = [&](u64 address, unsigned width) {
        u64 value = 0;
        EXPECT_TRUE(memory->read(Gpa(address), &value, width));
        return value;
    };
    EXPECT_EQ(number(info, 4), 0x336ec578u);
    EXPECT_EQ(number(info + 4, 4), 1u);
    EXPECT_EQ(number(info + 12, 4), 1u);
    u64 const module = number(info + 16, 8);
    EXPECT_EQ(number(module, 8), 64 * MiB - 4096);
    EXPECT_EQ(number(module + 8, 8), 100u);
    EXPECT_STREQ(reinterpret_cast<char const*>(memory->range(Gpa(number(info + 24, 8)), 6)), "hello");
    EXPECT_EQ(number(info + 32, 8), memory_map::acpi_tables);
    EXPECT_GE(number(info + 48, 4), 4u);
    EXPECT_EQ(number(number(info + 40, 8) + 16, 4), 1u);
    EXPECT_EQ(number(0x10000ff, 1), 0xccu);
    EXPECT_EQ(number(0x1000100, 8), 0u); // the rest of the segment is cleared
    EXPECT_EQ(number(0x1002ff8, 8), 0u);
}

TEST(PvhImage, BadFilesAreRefusedWithAReason)
{
    auto const refuse = [](auto const& change, char const* reason) {
        ElfImage image;
        change(image);
        EXPECT_THAT(error_of(image.build()), HasSubstr(reason));
    };
    refuse([](ElfImage& i) { i.physical = ~u64 { 0 } - 0x100; }, "damaged");
    refuse([](ElfImage& i) { i.physical = 0x1000; }, "boot information");
    refuse([](ElfImage& i) { i.physical = 64 * MiB - 0x1000; }, "does not fit");
    refuse([](ElfImage& i) { i.physical = 0xc0000000; }, "does not fit");
    refuse([](ElfImage& i) { i.memory_size = 0x80; }, "damaged");
    refuse([](ElfImage& i) { i.memory_size = ~u64 { 0 }; }, "damaged");
    refuse([](ElfImage& i) { i.memory_size = ~u64 { 0 } - 0x1000000; }, "does not fit");
    refuse([](ElfImage& i) { i.offset = ~u64 { 0 } - 0x80; }, "truncated");
    refuse([](ElfImage& i) { i.file_size = i.memory_size = ~u64 { 0 } >> 1; }, "truncated");
    refuse([](ElfImage& i) { i.memory_size = i.file_size = 0; }, "nothing to load");
    refuse([](ElfImage& i) { i.count = 0; }, "program headers");
    refuse([](ElfImage& i) { i.count = 0xffff; }, "damaged");
    refuse([](ElfImage& i) { i.entry_size = 8; }, "damaged");
    refuse([](ElfImage& i) { i.header_offset = ~u64 { 0 } - 64; }, "truncated");
    refuse([](ElfImage& i) { i.header_offset = 0x1ff0; }, "truncated");
    refuse([](ElfImage& i) { i.machine = 40; }, "another processor");
    refuse([](ElfImage& i) { i.type = 1; }, "no executable");
    refuse([](ElfImage& i) { i.name_size = 0xffffffff; }, "without a PVH entry");
    refuse([](ElfImage& i) { i.value_size = 0xfffffffc; }, "without a PVH entry");
    refuse([](ElfImage& i) { i.note_size = ~u64 { 0 } >> 1; }, "truncated");
    refuse([](ElfImage& i) { i.entry_note = 4 * GiB; }, "not in the guest's memory");
    EXPECT_THAT(error_of(ElfImage {}.build(), 64 * MiB, KernelEntry::long64), HasSubstr("PVH"));
    auto const good = ElfImage {}.build();
    for (std::size_t size = 4; size < 0x1100; size += 13)
        EXPECT_FALSE(error_of({ good.begin(), good.begin() + static_cast<long>(size) }).empty());
}

TEST(KernelEntryNames, ParseBack)
{
    for (auto entry : { KernelEntry::automatic, KernelEntry::flat32, KernelEntry::long64, KernelEntry::pvh, KernelEntry::multiboot })
        EXPECT_EQ(parse_kernel_entry(to_string(entry)).value(), entry);
    EXPECT_FALSE(parse_kernel_entry("real16").ok());
}

TEST(FileSource, NamesTheFileInErrors)
{
    auto const missing = FileSource::open("/nonexistent/kernel");
    ASSERT_FALSE(missing.ok());
    EXPECT_THAT(missing.error().message(), HasSubstr("/nonexistent/kernel"));
    EXPECT_FALSE(FileSource::open("/").ok());
    EXPECT_FALSE(FileSource::open("/dev/zero").ok());
}

// ANYHYVE_KERNEL names a distribution's vmlinuz, ANYHYVE_VMLINUX the ELF file inside it.
TEST(RealKernel, LoadsByEveryProtocol)
{
    char const* const path = std::getenv("ANYHYVE_KERNEL");
    if (!path)
        GTEST_SKIP() << "ANYHYVE_KERNEL names no kernel";
    auto const file = FileSource::open(path);
    ASSERT_TRUE(file.ok()) << file.error().message();
    auto memory = memory_of(512 * MiB);
    for (auto entry : { KernelEntry::flat32, KernelEntry::long64 }) {
        auto const loaded = load_kernel(*memory, { *file.value(), nullptr, "console=ttyS0", entry });
        ASSERT_TRUE(loaded.ok()) << loaded.error().message();
        EXPECT_THAT(loaded.value().description, HasSubstr("boot protocol 2."));
    }
    char const* const elf_path = std::getenv("ANYHYVE_VMLINUX");
    if (!elf_path)
        GTEST_SKIP() << "ANYHYVE_VMLINUX names no ELF kernel";
    auto const elf = FileSource::open(elf_path);
    ASSERT_TRUE(elf.ok()) << elf.error().message();
    auto const loaded = load_kernel(*memory, { *elf.value(), nullptr, "console=ttyS0" });
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded.value().entry, KernelEntry::pvh);
}
