// The ACPI tables as fw_cfg files, with the commands by which firmware allocates, links and sums them.
// Spec: QEMU's etc/table-loader: entries of 128 bytes, {u32 command, arguments}, file names of 56 bytes.
#include "boot/acpi_header.hpp"
#include "boot/acpi_tables.hpp"

namespace anyhyve::boot {

namespace {

constexpr std::string_view tables_file = "etc/acpi/tables", root_file = "etc/acpi/rsdp", script_file = "etc/table-loader";
constexpr std::size_t command_size = 128, file_name_size = 56;
enum class Command : u32 { allocate = 1, add_pointer = 2, add_checksum = 3 };
enum class Zone : u8 { high = 1, fseg = 2 };

struct Script {
    ByteWriter out;

    void begin(Command command) { out.put_u32(static_cast<u32>(command)); }
    void file(std::string_view name) { out.text(name, file_name_size, '\0'); }
    void end() { out.zeros((command_size - out.size() % command_size) % command_size); }

    void allocate(std::string_view name, u32 alignment, Zone zone)
    {
        begin(Command::allocate);
        file(name);
        out.put_u32(alignment);
        out.put_u8(static_cast<u8>(zone));
        end();
    }
    void add_pointer(std::string_view in, std::string_view to, std::size_t offset, unsigned width)
    {
        begin(Command::add_pointer);
        file(in);
        file(to);
        out.put_u32(offset);
        out.put_u8(width);
        end();
    }
    void add_checksum(std::string_view in, std::size_t offset, std::size_t start, std::size_t length)
    {
        begin(Command::add_checksum);
        file(in);
        out.put_u32(offset);
        out.put_u32(start);
        out.put_u32(length);
        end();
    }
};

} // namespace

// The tables keep their distances; in a pointer stands the offset of its target in the file, to which firmware adds the base.
std::vector<FirmwareFile> AcpiTables::firmware_files() const
{
    u64 const base = m_tables[1].address;
    auto const offset_of = [&](std::size_t table) { return table == 0 ? 0 : m_tables[table].address - base; };
    auto const file_of = [](std::size_t table) { return table == 0 ? root_file : tables_file; };
    constexpr std::size_t root_checksum = 8, root_checksum_length = 20, root_extended_checksum = 32;

    ByteWriter tables, root;
    root.bytes(m_tables[0].bytes);
    for (std::size_t i = 1; i < m_tables.size(); ++i) {
        tables.zeros(offset_of(i) - tables.size());
        tables.bytes(m_tables[i].bytes);
        if (m_tables[i].signature != "FACS")
            tables.patch(offset_of(i) + acpi_header::checksum_offset, 0, 1);
    }
    root.patch(root_checksum, 0, 1);
    root.patch(root_extended_checksum, 0, 1);

    Script script;
    script.allocate(root_file, 16, Zone::fseg);
    script.allocate(tables_file, 64, Zone::high);
    for (auto const& pointer : m_pointers) {
        std::size_t const offset = offset_of(pointer.table) + pointer.offset;
        (pointer.table == 0 ? root : tables).patch(offset, offset_of(pointer.target), pointer.width);
        script.add_pointer(file_of(pointer.table), tables_file, offset, pointer.width);
    }
    for (std::size_t i = 1; i < m_tables.size(); ++i) {
        if (m_tables[i].signature != "FACS")
            script.add_checksum(tables_file, offset_of(i) + acpi_header::checksum_offset, offset_of(i), m_tables[i].bytes.size());
    }
    script.add_checksum(root_file, root_checksum, 0, root_checksum_length);
    script.add_checksum(root_file, root_extended_checksum, 0, m_tables[0].bytes.size());
    return { { std::string(tables_file), tables.take() }, { std::string(root_file), root.take() }, { std::string(script_file), script.out.take() } };
}

} // namespace anyhyve::boot
