// Encodings of names, numbers, package lengths and resource descriptors.
#include "boot/aml_writer.hpp"

#include "base/bits.hpp"

namespace anyhyve::boot {

namespace {

// ACPI specification 20.2.
enum Opcode : u8 {
    zero_op = 0x00, one_op = 0x01, name_op = 0x08, byte_prefix = 0x0a, word_prefix = 0x0b, dword_prefix = 0x0c, string_prefix = 0x0d,
    qword_prefix = 0x0e, dual_name_prefix = 0x2e, multi_name_prefix = 0x2f, region_op = 0x80, field_op = 0x81
};
constexpr std::size_t segment_length = 4;

// ACPI specification 6.4.2 (small) and 6.4.3 (large items).
enum Descriptor : u8 {
    irq_item_2 = 0x22, irq_item_3 = 0x23, io_item = 0x47, memory32_fixed_item = 0x86, dword_window_item = 0x87, word_window_item = 0x88,
    interrupt_item = 0x89, qword_window_item = 0x8a
};

} // namespace

// ACPI specification 20.2.4: the length counts itself.
void AmlWriter::package_length(std::size_t of_contents)
{
    if (of_contents + 1 < 0x40) {
        m_out.put_u8(of_contents + 1);
        return;
    }
    unsigned more = 1;
    while (more < 3 && of_contents + 1 + more >= bit(4 + 8 * more))
        ++more;
    std::size_t const length = of_contents + 1 + more;
    ASSERT(length < bit(28), "an AML package is shorter than 256 MiB");
    m_out.put_u8(more << 6 | (length & 0xf));
    m_out.number(length >> 4, more);
}

void AmlWriter::name_segment(std::string_view segment)
{
    ASSERT(!segment.empty() && segment.size() <= segment_length, "an ACPI name has one to four characters");
    m_out.text(segment, segment_length, '_');
}

void AmlWriter::name_string(std::string_view path)
{
    while (!path.empty() && (path.front() == '\\' || path.front() == '^')) {
        m_out.put_u8(static_cast<u8>(path.front()));
        path.remove_prefix(1);
    }
    std::vector<std::string_view> segments;
    while (!path.empty()) {
        std::size_t const dot = path.find('.');
        segments.push_back(path.substr(0, dot));
        path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
    }
    if (segments.empty())
        m_out.put_u8(0);
    if (segments.size() == 2)
        m_out.put_u8(dual_name_prefix);
    if (segments.size() > 2) {
        m_out.put_u8(multi_name_prefix);
        m_out.put_u8(segments.size());
    }
    for (auto segment : segments)
        name_segment(segment);
}

void AmlWriter::name(std::string_view path)
{
    m_out.put_u8(name_op);
    name_string(path);
}

void AmlWriter::integer(u64 value)
{
    if (value <= 1) {
        m_out.put_u8(value == 0 ? zero_op : one_op);
        return;
    }
    unsigned const width = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    m_out.put_u8(width == 1 ? byte_prefix : width == 2 ? word_prefix : width == 4 ? dword_prefix : qword_prefix);
    m_out.number(value, width);
}

void AmlWriter::string(std::string_view text)
{
    m_out.put_u8(string_prefix);
    m_out.text(text);
    m_out.put_u8(0);
}

// ACPI specification 19.6.37: three letters of five bits, four hexadecimal digits, bytes swapped.
void AmlWriter::eisa_id(std::string_view id)
{
    ASSERT(id.size() == 7, "an EISA id has three letters and four digits");
    auto const digit = [](char c) { return static_cast<u32>(c <= '9' ? c - '0' : c - 'A' + 10); };
    u32 value = 0;
    for (unsigned i = 0; i < 3; ++i)
        value = value << 5 | (static_cast<u32>(id[i] - 'A' + 1) & 0x1f);
    for (unsigned i = 3; i < 7; ++i)
        value = value << 4 | digit(id[i]);
    integer(__builtin_bswap32(value));
}

void AmlWriter::operation_region(std::string_view path, AmlRegionSpace space, u64 offset, u64 length)
{
    m_out.put_u8(extended);
    m_out.put_u8(region_op);
    name_string(path);
    m_out.put_u8(static_cast<u8>(space));
    integer(offset);
    integer(length);
}

void AmlWriter::field(std::string_view region, AmlFieldAccess access, std::initializer_list<AmlField> fields)
{
    block({ extended, field_op }, [&] {
        name_string(region);
        m_out.put_u8(static_cast<u8>(access)); // no lock, bits outside a field are preserved
        for (auto const& field : fields) {
            if (field.name.empty())
                m_out.put_u8(0);
            else
                name_segment(field.name);
            // A field's width is a PkgLength that does not count itself.
            if (field.bits < 0x40) {
                m_out.put_u8(field.bits);
            } else {
                m_out.put_u8(0x40 | (field.bits & 0xf));
                m_out.put_u8(field.bits >> 4);
            }
        }
    });
}

void AmlWriter::io(u16 first, u8 length)
{
    m_out.put_u8(io_item);
    m_out.put_u8(1); // decodes 16 bits of address
    m_out.put_u16(first);
    m_out.put_u16(first);
    m_out.put_u8(1); // alignment
    m_out.put_u8(length);
}

void AmlWriter::irq_no_flags(u16 mask)
{
    m_out.put_u8(irq_item_2);
    m_out.put_u16(mask);
}

void AmlWriter::irq(u16 mask, Trigger trigger, Sharing sharing)
{
    u8 const edge_high = 1, level_low = 1 << 3, shared = 1 << 4;
    m_out.put_u8(irq_item_3);
    m_out.put_u16(mask);
    m_out.put_u8((trigger == Trigger::edge ? edge_high : level_low) | (sharing == Sharing::shared ? shared : 0));
}

void AmlWriter::interrupt(u32 number, Trigger trigger, Sharing sharing)
{
    u8 const consumer = 1, edge = 1 << 1, active_low = 1 << 2, shared = 1 << 3;
    m_out.put_u8(interrupt_item);
    m_out.put_u16(6);
    m_out.put_u8(consumer | (trigger == Trigger::edge ? edge : active_low) | (sharing == Sharing::shared ? shared : 0));
    m_out.put_u8(1);
    m_out.put_u32(number);
}

void AmlWriter::memory32_fixed(u32 base, u32 length)
{
    m_out.put_u8(memory32_fixed_item);
    m_out.put_u16(9);
    m_out.put_u8(1); // writable
    m_out.put_u32(base);
    m_out.put_u32(length);
}

void AmlWriter::window(WindowKind kind, unsigned width_bits, u64 first, u64 last)
{
    unsigned const width = width_bits / 8;
    u8 const fixed_ends = 3 << 2; // minimum and maximum are fixed, positive decode, a producer
    u8 const entire_range = 3, writable_uncached = 1;
    m_out.put_u8(width == 2 ? word_window_item : width == 4 ? dword_window_item : qword_window_item);
    m_out.put_u16(3 + 5 * width);
    m_out.put_u8(static_cast<u8>(kind));
    m_out.put_u8(fixed_ends);
    m_out.put_u8(kind == WindowKind::io ? entire_range : kind == WindowKind::memory ? writable_uncached : 0);
    m_out.number(0, width); // granularity
    m_out.number(first, width);
    m_out.number(last, width);
    m_out.number(0, width); // translation
    m_out.number(last - first + 1, width);
}

} // namespace anyhyve::boot
