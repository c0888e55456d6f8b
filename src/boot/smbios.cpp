// Builds the SMBIOS entry point and structures.
#include "boot/smbios.hpp"

#include <algorithm>
#include <array>

#include "boot/byte_writer.hpp"

namespace anyhyve::boot {

namespace {

namespace map = memory_map;

enum Type : u8 {
    bios_type = 0, system_type = 1, board_type = 2, chassis_type = 3, processor_type = 4, oem_strings_type = 11, memory_array_type = 16, memory_device_type = 17,
    memory_mapping_type = 19, boot_information_type = 32, end_type = 127
};

constexpr std::size_t entry_point_size = 31, intermediate_size = 15, entry_point_room = 32;
constexpr std::size_t room = map::acpi_tables - map::smbios_table - entry_point_room;
constexpr std::size_t longest_string = 64;
constexpr u8 major = 2, minor = 8;
constexpr u64 bytes_per_kib = KiB;

// One structure: formatted area first, then its strings. string() returns a string's number (0 for an empty one).
class Structure {
public:
    Structure(Type type, u16 handle)
    {
        m_out.put_u8(type);
        m_out.put_u8(0);
        m_out.put_u16(handle);
    }
    ByteWriter& out() { return m_out; }
    void string(std::string_view text)
    {
        if (text.empty()) {
            m_out.put_u8(0);
            return;
        }
        add_string(text);
        m_out.put_u8(m_strings);
    }
    void add_string(std::string_view text)
    {
        m_text += text.substr(0, longest_string).substr(0, text.find('\0'));
        m_text.push_back('\0');
        ++m_strings;
    }
    std::vector<u8> finish()
    {
        constexpr std::size_t length_offset = 1;
        m_out.patch(length_offset, m_out.size(), 1);
        m_out.text(m_text);
        m_out.zeros(m_strings == 0 ? 2 : 1);
        return m_out.take();
    }

private:
    ByteWriter m_out;
    std::string m_text;
    u8 m_strings = 0;
};

class SmbiosBuilder {
public:
    explicit SmbiosBuilder(SmbiosConfiguration const& configuration) : m_configuration(configuration) {}
    Result<std::vector<u8>> build();

private:
    std::vector<u8> bios();
    std::vector<u8> system();
    std::vector<u8> board();
    std::vector<u8> chassis();
    std::vector<u8> processor(u32 socket);
    std::vector<u8> oem_strings();
    std::vector<u8> memory_array();
    std::vector<u8> memory_device();
    std::vector<u8> memory_mapping(u64 base, u64 size);
    std::vector<u8> boot_information();

    Structure start(Type type) { return Structure(type, m_next_handle++); }
    void add(std::vector<u8> const& structure)
    {
        m_out.bytes(structure);
        m_largest = std::max(m_largest, structure.size());
        ++m_count;
    }
    void add_memory();
    std::vector<u8> entry_point() const;

    SmbiosConfiguration const& m_configuration;
    ByteWriter m_out;
    std::size_t m_largest = 0;
    u16 m_count = 0;
    u16 m_next_handle = 0;
    u16 m_chassis_handle = 0, m_memory_array_handle = 0;
};

std::vector<u8> SmbiosBuilder::bios()
{
    u64 const pci = u64 { 1 } << 7, boot_from_cd = u64 { 1 } << 15, selectable_boot = u64 { 1 } << 16, edd = u64 { 1 } << 19;
    u8 const acpi = 1, virtual_machine = 1 << 4;
    u8 const rom_64_kib = 0;
    auto s = start(bios_type);
    s.string(m_configuration.bios_vendor);
    s.string(m_configuration.bios_version);
    s.out().put_u16(map::table_area >> 4);
    s.string(m_configuration.bios_release_date);
    s.out().put_u8(rom_64_kib);
    s.out().put_u64(pci | boot_from_cd | selectable_boot | edd);
    s.out().put_u8(acpi);
    s.out().put_u8(virtual_machine);
    s.out().put_u8(0); // release
    s.out().put_u8(0);
    s.out().put_u8(0xff); // no embedded controller
    s.out().put_u8(0xff);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::system()
{
    u8 const power_switch = 6;
    auto const& uuid = m_configuration.uuid.bytes;
    // The first three fields are little-endian (DSP0134 7.2.1).
    std::array<u8, 16> const order { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    auto s = start(system_type);
    s.string(m_configuration.system_manufacturer);
    s.string(m_configuration.system_product_name);
    s.string(m_configuration.system_version);
    s.string(m_configuration.system_serial_number);
    for (u8 index : order)
        s.out().put_u8(uuid[index]);
    s.out().put_u8(power_switch);
    s.string(m_configuration.system_sku);
    s.string(m_configuration.system_family_name);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::board()
{
    u8 const hosting = 1, motherboard = 10;
    auto s = start(board_type);
    s.string(m_configuration.board_manufacturer);
    s.string(m_configuration.board_product_name);
    s.string(m_configuration.board_version);
    s.string(m_configuration.board_serial_number);
    s.string(m_configuration.board_asset_tag);
    s.out().put_u8(hosting);
    s.string(m_configuration.board_location);
    s.out().put_u16(m_chassis_handle);
    s.out().put_u8(motherboard);
    s.out().put_u8(0); // contained objects
    return s.finish();
}

std::vector<u8> SmbiosBuilder::chassis()
{
    u8 const other = 1, safe = 3, no_security = 3;
    Structure s(chassis_type, m_chassis_handle);
    s.string(m_configuration.chassis_manufacturer);
    s.out().put_u8(other);
    s.string(m_configuration.chassis_version);
    s.string(m_configuration.chassis_serial_number);
    s.string(m_configuration.chassis_asset_tag);
    s.out().put_u8(safe); // boot-up, power supply and thermal state
    s.out().put_u8(safe);
    s.out().put_u8(safe);
    s.out().put_u8(no_security);
    s.out().put_u32(0);
    s.out().put_u8(0); // height
    s.out().put_u8(1); // power cords
    s.out().put_u8(0); // contained elements: count and size
    s.out().put_u8(0);
    s.string(m_configuration.chassis_sku);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::processor(u32 socket)
{
    u8 const central = 3, unknown_family = 2, populated_enabled = 0x41, no_upgrade = 6;
    u16 const no_cache = 0xffff;
    u16 const is_64_bit = 1 << 2, multi_core = 1 << 3, multi_thread = 1 << 4, execute_protection = 1 << 5;
    u32 const logical = m_configuration.cores * m_configuration.threads;
    auto s = start(processor_type);
    s.string(fmt::format("CPU #{}", socket));
    s.out().put_u8(central);
    s.out().put_u8(unknown_family);
    s.string("");
    s.out().put_u64(0); // CPUID: the guest asks the processor itself
    s.string("");
    s.out().put_u8(0);  // voltage
    s.out().put_u16(0); // external clock, maximum and current speed: unknown
    s.out().put_u16(0);
    s.out().put_u16(0);
    s.out().put_u8(populated_enabled);
    s.out().put_u8(no_upgrade);
    s.out().put_u16(no_cache);
    s.out().put_u16(no_cache);
    s.out().put_u16(no_cache);
    s.string("");
    s.string("");
    s.string("");
    s.out().put_u8(std::min<u32>(m_configuration.cores, 255));
    s.out().put_u8(std::min<u32>(m_configuration.cores, 255));
    s.out().put_u8(std::min<u32>(logical, 255));
    s.out().put_u16(is_64_bit | execute_protection | (m_configuration.cores > 1 ? multi_core : 0) | (m_configuration.threads > 1 ? multi_thread : 0));
    s.out().put_u16(unknown_family);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::oem_strings()
{
    auto s = start(oem_strings_type);
    s.out().put_u8(m_configuration.oem_strings.size());
    for (auto const& text : m_configuration.oem_strings)
        s.add_string(text.empty() ? " " : text);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::memory_array()
{
    u8 const motherboard = 3, system_memory = 3, no_correction = 3;
    u32 const extended = 0x80000000;
    u64 const kib = m_configuration.ram_size / bytes_per_kib;
    m_memory_array_handle = m_next_handle;
    auto s = start(memory_array_type);
    s.out().put_u8(motherboard);
    s.out().put_u8(system_memory);
    s.out().put_u8(no_correction);
    s.out().put_u32(kib < extended ? kib : extended);
    s.out().put_u16(0xfffe); // no error information
    s.out().put_u16(1);      // devices
    s.out().put_u64(kib < extended ? 0 : m_configuration.ram_size);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::memory_device()
{
    u16 const unknown_width = 0xffff, size_is_extended = 0x7fff, unknown_detail = 1 << 2;
    u8 const unknown = 2;
    u64 const mib = m_configuration.ram_size / MiB;
    auto s = start(memory_device_type);
    s.out().put_u16(m_memory_array_handle);
    s.out().put_u16(0xfffe); // no error information
    s.out().put_u16(unknown_width);
    s.out().put_u16(unknown_width);
    s.out().put_u16(mib < size_is_extended ? mib : size_is_extended);
    s.out().put_u8(unknown); // form factor
    s.out().put_u8(0);       // device set
    s.string("DIMM 0");
    s.string("");
    s.out().put_u8(unknown); // memory type
    s.out().put_u16(unknown_detail);
    s.out().put_u16(0); // speed
    for (unsigned i = 0; i < 4; ++i)
        s.string(""); // manufacturer, serial number, asset tag, part number
    s.out().put_u8(0); // rank
    s.out().put_u32(mib < size_is_extended ? 0 : mib);
    s.out().put_u16(0); // clock, voltages
    s.out().zeros(6);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::memory_mapping(u64 base, u64 size)
{
    u64 const last_kib = (base + size) / bytes_per_kib - 1;
    bool const extended = last_kib >= 0xffffffff;
    auto s = start(memory_mapping_type);
    s.out().put_u32(extended ? 0xffffffff : base / bytes_per_kib);
    s.out().put_u32(extended ? 0xffffffff : last_kib);
    s.out().put_u16(m_memory_array_handle);
    s.out().put_u8(1); // partition width
    s.out().put_u64(extended ? base : 0);
    s.out().put_u64(extended ? base + size - 1 : 0);
    return s.finish();
}

std::vector<u8> SmbiosBuilder::boot_information()
{
    auto s = start(boot_information_type);
    s.out().zeros(6);
    s.out().put_u8(0); // no errors
    return s.finish();
}

void SmbiosBuilder::add_memory()
{
    add(memory_array());
    add(memory_device());
    u64 const low = std::min(m_configuration.ram_size, map::low_ram_limit);
    if (low != 0)
        add(memory_mapping(0, low));
    if (m_configuration.ram_size > low)
        add(memory_mapping(map::high_ram, m_configuration.ram_size - low));
}

// DSP0134 5.2.1.
std::vector<u8> SmbiosBuilder::entry_point() const
{
    enum : std::size_t { checksum = 4, intermediate = 16, intermediate_checksum = 21 };
    ByteWriter out;
    out.text("_SM_");
    out.put_u8(0);
    out.put_u8(entry_point_size);
    out.put_u8(major);
    out.put_u8(minor);
    out.put_u16(m_largest);
    out.put_u8(0); // revision
    out.zeros(5);
    out.text("_DMI_");
    out.put_u8(0);
    out.put_u16(m_out.size());
    out.put_u32(map::smbios_table + entry_point_room);
    out.put_u16(m_count);
    out.put_u8(major << 4 | minor);
    ASSERT(out.size() == entry_point_size, "the SMBIOS entry point has 31 bytes");
    out.patch_checksum(intermediate_checksum, intermediate, intermediate_size);
    out.patch_checksum(checksum, 0, entry_point_size);
    out.zeros(entry_point_room - entry_point_size);
    return out.take();
}

Result<std::vector<u8>> SmbiosBuilder::build()
{
    constexpr std::size_t most_oem_strings = 255;
    if (m_configuration.oem_strings.size() > most_oem_strings)
        return make_error(E2BIG, "SMBIOS takes at most {} OEM strings, not {}", most_oem_strings, m_configuration.oem_strings.size());
    add(bios());
    add(system());
    m_chassis_handle = static_cast<u16>(m_next_handle + 1);
    add(board());
    add(chassis());
    m_next_handle = static_cast<u16>(m_chassis_handle + 1);
    if (!m_configuration.oem_strings.empty())
        add(oem_strings());
    add_memory();
    add(boot_information());

    Structure end(end_type, 0xfeff);
    auto const last = end.finish();
    if (m_out.size() + last.size() > room)
        return make_error(E2BIG, "the SMBIOS strings need more than the {} bytes that the board has for them", room);
    for (u32 socket = 0; socket < m_configuration.sockets; ++socket) {
        auto const structure = processor(socket);
        if (m_out.size() + structure.size() + last.size() > room)
            break;
        add(structure);
    }
    add(last);
    auto bytes = entry_point();
    auto const structures = m_out.take();
    bytes.insert(bytes.end(), structures.begin(), structures.end());
    return bytes;
}

} // namespace

Result<std::vector<u8>> build_smbios(SmbiosConfiguration const& configuration)
{
    return SmbiosBuilder(configuration).build();
}

} // namespace anyhyve::boot
