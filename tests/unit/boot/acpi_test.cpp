// The ACPI tables: layout, checksums, links, and what Intel's compiler says about the DSDT.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>

#include "boot/acpi_tables.hpp"
#include "boot/byte_writer.hpp"
#include "../temporary_folder.hpp"
#include "table_number.hpp"

using namespace anyhyve;
using namespace anyhyve::boot;
using testing::HasSubstr;
using testing::Not;

namespace {

AcpiConfiguration full_board()
{
    AcpiConfiguration configuration;
    configuration.vcpus = 4;
    configuration.ram_size = 5 * GiB;
    for (u8 slot = 0; slot < 32; ++slot) {
        for (u8 pin = 1; pin <= 4; ++pin)
            configuration.routes.push_back({ 0, slot, pin, static_cast<u8>(16 + (4 + slot + pin) % 8), static_cast<u8>((slot + pin) % 8) });
    }
    configuration.com_ports = { { ports::com1, board::com1_irq }, { ports::com2, board::com2_irq } };
    configuration.has_keyboard_controller = configuration.has_vga = configuration.has_display = configuration.has_firmware_config = true;
    return configuration;
}

std::string text_of(std::filesystem::path const& path)
{
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

bool have_iasl()
{
    return std::system("command -v iasl >/dev/null 2>&1") == 0;
}

// What iasl makes of a table, and its exit status.
struct Disassembly {
    int status;
    std::string text, messages;
};

Disassembly disassemble(TemporaryFolder const& folder, AcpiTable const& table)
{
    std::string const base = folder.path() + "/" + table.signature;
    std::ofstream(base + ".dat", std::ios::binary).write(reinterpret_cast<char const*>(table.bytes.data()), static_cast<std::streamsize>(table.bytes.size()));
    int const status = std::system(fmt::format("cd {} && iasl -d {}.dat >{}.log 2>&1", folder.path(), table.signature, table.signature).c_str());
    return { status, text_of(base + ".dsl"), text_of(base + ".log") };
}

} // namespace

TEST(AcpiTables, EveryChecksumIsZeroAndEveryLengthTrue)
{
    auto const tables = AcpiTables::build(full_board());
    ASSERT_TRUE(tables.ok());
    for (auto const& table : tables.value().tables()) {
        SCOPED_TRACE(table.signature);
        if (table.signature == "RSD ") {
            EXPECT_EQ(ByteWriter::sum(std::span(table.bytes).first(20)), 0);
            EXPECT_EQ(ByteWriter::sum(table.bytes), 0);
            EXPECT_EQ(number(table.bytes, 20, 4), table.bytes.size());
            continue;
        }
        EXPECT_EQ(number(table.bytes, 4, 4), table.bytes.size());
        if (table.signature == "FACS") {
            EXPECT_EQ(table.address % 64, 0u);
            continue;
        }
        EXPECT_EQ(ByteWriter::sum(table.bytes), 0);
        EXPECT_EQ(std::string(table.bytes.begin() + 10, table.bytes.begin() + 16), "BHYVE ");
    }
}

TEST(AcpiTables, RootLeadsToEveryTable)
{
    auto const built = AcpiTables::build(full_board());
    ASSERT_TRUE(built.ok());
    auto const& tables = built.value();
    auto const& root = *tables.find("RSD ");
    EXPECT_EQ(root.address, memory_map::acpi_tables);
    EXPECT_EQ(root.address % 16, 0u);
    EXPECT_EQ(number(root.bytes, 16, 4), tables.find("RSDT")->address);
    EXPECT_EQ(number(root.bytes, 24, 8), tables.find("XSDT")->address);

    std::vector<std::string> const expected { "FACP", "APIC", "HPET", "MCFG" };
    auto const& rsdt = *tables.find("RSDT");
    auto const& xsdt = *tables.find("XSDT");
    ASSERT_EQ(xsdt.bytes.size(), 36 + 8 * expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(number(xsdt.bytes, 36 + 8 * i, 8), tables.find(expected[i])->address);
        EXPECT_EQ(number(rsdt.bytes, 36 + 4 * i, 4), tables.find(expected[i])->address);
    }
    auto const& fadt = *tables.find("FACP");
    EXPECT_EQ(number(fadt.bytes, 40, 4), tables.find("DSDT")->address);
    EXPECT_EQ(number(fadt.bytes, 140, 8), tables.find("DSDT")->address);
    EXPECT_EQ(number(fadt.bytes, 132, 8), tables.find("FACS")->address);
}

TEST(AcpiTables, FixedRegistersAreTheBoards)
{
    auto const built = AcpiTables::build({});
    ASSERT_TRUE(built.ok());
    auto const& fadt = built.value().find("FACP")->bytes;
    EXPECT_EQ(fadt.size(), 268u);
    EXPECT_EQ(number(fadt, 46, 2), 9u);      // SCI
    EXPECT_EQ(number(fadt, 48, 4), 0xb2u);   // SMI command
    EXPECT_EQ(number(fadt, 52, 1), 0xa0u);
    EXPECT_EQ(number(fadt, 53, 1), 0xa1u);
    EXPECT_EQ(number(fadt, 56, 4), 0x400u);  // PM1a event
    EXPECT_EQ(number(fadt, 64, 4), 0x404u);  // PM1a control
    EXPECT_EQ(number(fadt, 76, 4), 0x408u);  // PM timer
    EXPECT_EQ(number(fadt, 108, 1), 0x32u);  // century
    EXPECT_EQ(number(fadt, 120, 8), 0xcf9u); // reset register
    EXPECT_EQ(number(fadt, 128, 1), 6u);
    EXPECT_EQ(number(fadt, 109, 2) & 2, 0u); // no 8042
    EXPECT_EQ(number(fadt, 109, 2) & 4, 4u); // no VGA
}

TEST(AcpiTables, IaslAcceptsEveryTable)
{
    if (!have_iasl())
        GTEST_SKIP() << "iasl (package acpica-tools) is not installed";
    TemporaryFolder const folder;
    auto const built = AcpiTables::build(full_board());
    ASSERT_TRUE(built.ok());
    for (auto const& table : built.value().tables()) {
        if (table.signature == "RSD ")
            continue; // iasl takes no file of a bare root pointer
        SCOPED_TRACE(table.signature);
        auto const result = disassemble(folder, table);
        EXPECT_EQ(result.status, 0) << result.messages;
        EXPECT_THAT(result.messages, Not(HasSubstr("Error")));
        EXPECT_THAT(result.messages, Not(HasSubstr("Warning")));
        EXPECT_THAT(result.text, Not(HasSubstr("Incorrect checksum")));
        EXPECT_THAT(result.text, Not(HasSubstr("Invalid")));
    }
}

TEST(AcpiTables, DsdtCompilesAgainToTheSameBytes)
{
    if (!have_iasl())
        GTEST_SKIP() << "iasl (package acpica-tools) is not installed";
    for (auto const& configuration : { full_board(), AcpiConfiguration {} }) {
        TemporaryFolder const folder;
        auto const built = AcpiTables::build(configuration);
        ASSERT_TRUE(built.ok());
        AcpiTable const& dsdt = *built.value().find("DSDT");
        auto const result = disassemble(folder, dsdt);
        ASSERT_EQ(result.status, 0) << result.messages;
        int const status = std::system(fmt::format("cd {} && iasl -oa -p again DSDT.dsl >again.log 2>&1", folder.path()).c_str());
        std::string const log = text_of(folder.path() + "/again.log");
        EXPECT_EQ(status, 0) << log;
        EXPECT_THAT(log, HasSubstr("0 Errors, 0 Warnings")) << log;
        std::string const again = text_of(folder.path() + "/again.aml");
        // The header names the compiler; the body is ours.
        ASSERT_EQ(again.size(), dsdt.bytes.size());
        EXPECT_TRUE(std::equal(again.begin() + 36, again.end(), dsdt.bytes.begin() + 36, [](char a, u8 b) { return static_cast<u8>(a) == b; }));
        if (configuration.has_vga) {
            EXPECT_THAT(result.text, HasSubstr("Device (COM2)"));
            EXPECT_THAT(result.text, HasSubstr("Device (LNKH)"));
            EXPECT_THAT(result.text, HasSubstr("Name (PPRT"));
        }
    }
}

TEST(AcpiTables, ManyProcessorsHaveX2ApicEntriesAndTooManyAreAnError)
{
    AcpiConfiguration configuration;
    configuration.vcpus = 300;
    auto const built = AcpiTables::build(configuration);
    ASSERT_TRUE(built.ok());
    auto const& madt = built.value().find("APIC")->bytes;
    EXPECT_EQ(madt[44], 0);
    EXPECT_EQ(madt[44 + 255 * 8], 9);

    configuration.vcpus = 60000;
    auto const refused = AcpiTables::build(configuration);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message(), HasSubstr("ACPI"));
}

// Plays firmware: allocates the files somewhere, runs the script, and finds a good set of tables.
TEST(AcpiTables, FirmwareScriptLinksTheTables)
{
    auto const built = AcpiTables::build(full_board());
    ASSERT_TRUE(built.ok());
    auto files = built.value().firmware_files();
    ASSERT_EQ(files.size(), 3u);
    auto const find = [&](std::string const& name) -> FirmwareFile& {
        return *std::find_if(files.begin(), files.end(), [&](auto const& file) { return file.name == name; });
    };
    std::map<std::string, u64> const bases { { "etc/acpi/tables", 0x7f000000 }, { "etc/acpi/rsdp", 0xf5000 } };
    auto const name_at = [](std::vector<u8> const& bytes, std::size_t offset) { return std::string(reinterpret_cast<char const*>(bytes.data() + offset)); };

    auto const script = find("etc/table-loader").bytes;
    ASSERT_EQ(script.size() % 128, 0u);
    for (std::size_t at = 0; at < script.size(); at += 128) {
        std::string const first = name_at(script, at + 4);
        if (number(script, at, 4) == 2) {
            std::string const second = name_at(script, at + 60);
            std::size_t const offset = number(script, at + 116, 4);
            auto const width = static_cast<unsigned>(script[at + 120]);
            ByteWriter patched;
            patched.bytes(find(first).bytes);
            patched.patch(offset, number(find(first).bytes, offset, width) + bases.at(second), width);
            find(first).bytes = patched.take();
        } else if (number(script, at, 4) == 3) {
            ByteWriter patched;
            patched.bytes(find(first).bytes);
            patched.patch_checksum(number(script, at + 60, 4), number(script, at + 64, 4), number(script, at + 68, 4));
            find(first).bytes = patched.take();
        }
    }
    auto const& root = find("etc/acpi/rsdp").bytes;
    auto const& tables = find("etc/acpi/tables").bytes;
    EXPECT_EQ(ByteWriter::sum(root), 0);
    u64 const xsdt = number(root, 24, 8) - bases.at("etc/acpi/tables");
    EXPECT_EQ(std::string(tables.begin() + static_cast<long>(xsdt), tables.begin() + static_cast<long>(xsdt) + 4), "XSDT");
    u64 const length = number(tables, xsdt + 4, 4);
    EXPECT_EQ(ByteWriter::sum(std::span(tables).subspan(xsdt, length)), 0);
    u64 const fadt = number(tables, xsdt + 36, 8) - bases.at("etc/acpi/tables");
    EXPECT_EQ(ByteWriter::sum(std::span(tables).subspan(fadt, 268)), 0);
    u64 const dsdt = number(tables, fadt + 140, 8) - bases.at("etc/acpi/tables");
    EXPECT_EQ(tables[dsdt], 'D');
}

TEST(AcpiTables, AreWrittenToMemory)
{
    auto memory = GuestMemory::create_anonymous(2 * MiB);
    ASSERT_TRUE(memory.ok());
    auto const built = AcpiTables::build({});
    ASSERT_TRUE(built.ok());
    ASSERT_TRUE(built.value().install(*memory.value()).ok());
    EXPECT_EQ(std::memcmp(memory.value()->range(Gpa(0xf2400), 8), "RSD PTR ", 8), 0);

    auto small = GuestMemory::create_anonymous(64 * KiB);
    ASSERT_TRUE(small.ok());
    EXPECT_FALSE(built.value().install(*small.value()).ok());
}
