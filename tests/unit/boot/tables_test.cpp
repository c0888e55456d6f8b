// MP table, SMBIOS, the memory map and identifiers.
#include <gmock/gmock.h>

#include "boot/byte_writer.hpp"
#include "boot/e820.hpp"
#include "boot/memory_map.hpp"
#include "boot/mp_table.hpp"
#include "boot/smbios.hpp"
#include "boot/uuid.hpp"
#include "table_number.hpp"

using namespace anyhyve;
using namespace anyhyve::boot;
using testing::HasSubstr;

namespace {

// The structures behind an SMBIOS entry point: type, formatted bytes, strings.
struct Structure {
    u8 type;
    std::vector<u8> bytes;
    std::vector<std::string> strings;
};

std::vector<Structure> parse_smbios(std::vector<u8> const& table)
{
    std::vector<Structure> result;
    std::size_t at = number(table, 24, 4) - memory_map::smbios_table;
    for (u64 i = 0; i < number(table, 28, 2); ++i) {
        Structure structure { table.at(at), { table.begin() + static_cast<long>(at), table.begin() + static_cast<long>(at + table.at(at + 1)) }, {} };
        at += table.at(at + 1);
        while (table.at(at) != 0) {
            structure.strings.emplace_back(reinterpret_cast<char const*>(table.data() + at));
            at += structure.strings.back().size() + 1;
        }
        at += structure.strings.empty() ? 2 : 1;
        result.push_back(structure);
    }
    EXPECT_EQ(at, table.size());
    return result;
}

} // namespace

TEST(MpTable, DescribesProcessorsAndWires)
{
    MpConfiguration configuration;
    configuration.vcpus = 3;
    configuration.routes = { { 0, 3, 1, 17, 0 }, { 0, 4, 2, 18, 1 }, { 1, 0, 1, 19, 2 } };
    auto const built = build_mp_table(configuration);
    ASSERT_TRUE(built.ok());
    auto const& table = built.value();
    EXPECT_EQ(std::string(table.begin(), table.begin() + 4), "_MP_");
    EXPECT_EQ(number(table, 4, 4), 0xf0010u);
    EXPECT_EQ(ByteWriter::sum(std::span(table).first(16)), 0);
    EXPECT_EQ(std::string(table.begin() + 16, table.begin() + 20), "PCMP");
    u64 const length = number(table, 20, 2);
    EXPECT_EQ(length + 16, table.size());
    EXPECT_EQ(ByteWriter::sum(std::span(table).subspan(16)), 0);

    // Walk the entries: processors have 20 bytes, all others 8.
    std::size_t at = 16 + 44;
    u64 entries = 0, processors = 0, pci = 0;
    for (; at < table.size(); at += table[at] == 0 ? 20 : 8) {
        ++entries;
        if (table[at] == 0)
            ++processors;
        if (table[at] == 3 && table[at + 4] == 0) {
            ++pci;
            EXPECT_EQ(table[at + 2], 0xf); // level, active low
        }
        if (table[at] == 3 && table[at + 4] == 0 && pci == 2) {
            EXPECT_EQ(table[at + 5], 4 << 2 | 1);
            EXPECT_EQ(table[at + 7], 18);
        }
    }
    EXPECT_EQ(at, table.size());
    EXPECT_EQ(entries, number(table, 16 + 34, 2));
    EXPECT_EQ(processors, 3u);
    EXPECT_EQ(pci, 2u);
}

TEST(MpTable, RefusesMoreProcessorsThanFit)
{
    for (u32 vcpus : { 256u, 250u }) {
        auto const built = build_mp_table({ vcpus, 0, 0, {} });
        ASSERT_FALSE(built.ok());
        EXPECT_THAT(built.error().message(), HasSubstr("-Y"));
    }
}

TEST(Smbios, StructuresAndChecksums)
{
    SmbiosConfiguration configuration;
    configuration.ram_size = 5 * GiB;
    configuration.sockets = 2;
    configuration.cores = 4;
    configuration.threads = 2;
    configuration.oem_strings = { "one", "two" };
    configuration.board_manufacturer = std::string(100, 'x');
    configuration.uuid = Uuid::parse("00112233-4455-6677-8899-aabbccddeeff").release_value();
    auto const built = build_smbios(configuration);
    ASSERT_TRUE(built.ok());
    auto const& table = built.value();
    EXPECT_EQ(ByteWriter::sum(std::span(table).first(31)), 0);
    EXPECT_EQ(ByteWriter::sum(std::span(table).subspan(16, 15)), 0);
    EXPECT_EQ(number(table, 22, 2) + 32, table.size());

    auto const structures = parse_smbios(table);
    std::vector<u8> types;
    for (auto const& structure : structures)
        types.push_back(structure.type);
    EXPECT_THAT(types, testing::ElementsAre(0, 1, 2, 3, 11, 16, 17, 19, 19, 32, 4, 4, 127));
    EXPECT_THAT(structures[0].strings, testing::ElementsAre("BHYVE", "14.0", "10/17/2021"));
    EXPECT_EQ(structures[1].bytes.size(), 27u);
    EXPECT_EQ(number(structures[1].bytes, 8, 4), 0x00112233u);
    EXPECT_EQ(number(structures[1].bytes, 12, 2), 0x4455u);
    EXPECT_EQ(structures[1].bytes[23], 0xff);
    EXPECT_EQ(structures[2].strings[0].size(), 64u);
    EXPECT_EQ(number(structures[2].bytes, 11, 2), number(structures[3].bytes, 2, 2)); // the board is in the chassis
    EXPECT_THAT(structures[4].strings, testing::ElementsAre("one", "two"));
    EXPECT_EQ(number(structures[6].bytes, 12, 2), 5u * 1024);
    EXPECT_EQ(number(structures[8].bytes, 4, 4), 4u * 1024 * 1024);
    EXPECT_EQ(structures[10].bytes.size(), 42u);
    EXPECT_EQ(structures[10].bytes[35], 4);
    EXPECT_EQ(structures[10].bytes[37], 8);
    std::set<u64> handles;
    for (auto const& structure : structures)
        EXPECT_TRUE(handles.insert(number(structure.bytes, 2, 2)).second);
}

TEST(Smbios, HugeMachinesFitAndHugeStringsAreRefused)
{
    SmbiosConfiguration configuration;
    configuration.sockets = 4096;
    configuration.ram_size = 8192 * GiB;
    auto const built = build_smbios(configuration);
    ASSERT_TRUE(built.ok());
    EXPECT_LE(built.value().size(), memory_map::acpi_tables - memory_map::smbios_table);
    auto const structures = parse_smbios(built.value());
    EXPECT_EQ(structures.back().type, 127);
    EXPECT_EQ(number(structures[5].bytes, 28, 4), 8192u * 1024); // type 17: extended size in MiB
    EXPECT_EQ(number(structures[7].bytes, 4, 4), 0xffffffffu);   // type 19 beyond 4 TiB: extended addresses
    EXPECT_EQ(number(structures[7].bytes, 15, 8), 4 * GiB);

    configuration.oem_strings.assign(200, std::string(60, 'a'));
    EXPECT_FALSE(build_smbios(configuration).ok());
    configuration.oem_strings.assign(256, "a");
    EXPECT_FALSE(build_smbios(configuration).ok());
}

TEST(E820, IsSortedAndCoversRam)
{
    for (u64 size : { 16 * MiB, 512 * MiB, 3 * GiB, 3 * GiB + 4096, 64 * GiB }) {
        auto const map = build_e820(size);
        u64 end = 0, ram = 0;
        for (auto const& entry : map) {
            EXPECT_GE(entry.base, end);
            end = entry.base + entry.size;
            if (entry.type == E820Type::ram)
                ram += entry.size;
        }
        EXPECT_EQ(ram, size - 384 * KiB);
        EXPECT_EQ(encode_e820(map).size(), map.size() * 20);
        EXPECT_LE(map.size(), 16u);
    }
}

TEST(Uuid, TextAndBack)
{
    auto const uuid = Uuid::parse("00112233-4455-6677-8899-AABBCCDDEEFF");
    ASSERT_TRUE(uuid.ok());
    EXPECT_EQ(uuid.value().text(), "00112233-4455-6677-8899-aabbccddeeff");
    for (auto bad : { "", "0011", "00112233-4455-6677-8899-aabbccddeefg", "00112233 4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff0" })
        EXPECT_FALSE(Uuid::parse(bad).ok()) << bad;
}

TEST(Uuid, Md5OfTheStandardsExamples)
{
    auto const hex = [](std::string_view text) {
        std::string result;
        for (u8 byte : md5(text))
            result += fmt::format("{:02x}", byte);
        return result;
    };
    // RFC 1321 A.5.
    EXPECT_EQ(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
    EXPECT_EQ(hex("12345678901234567890123456789012345678901234567890123456789012345678901234567890"), "57edf4a22be3c955ac49da2e2107b67a");
}

TEST(Uuid, OfNamesIsStable)
{
    auto const uuid = Uuid::from_names("vm", "host");
    EXPECT_EQ(uuid, Uuid::from_names("vm", "host"));
    EXPECT_NE(uuid, Uuid::from_names("vm2", "host"));
    EXPECT_EQ(uuid.text()[14], '3');
    EXPECT_EQ(uuid.bytes[8] & 0xc0, 0x80);
    EXPECT_EQ(uuid_from_name("vm"), uuid_from_name("vm"));
}
