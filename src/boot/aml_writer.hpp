// Writes ACPI machine language: the bytes of a DSDT, from C++ that reads like ASL.
// Spec: ACPI specification 6.5 chapter 20 (AML grammar) and 6.4 (resource descriptors).
//
//   aml.scope("\\_SB", [&] { aml.device("PC00", [&] { aml.name("_HID"); aml.eisa_id("PNP0A08"); }); });
//
// A term's operands follow it, in the order of the grammar. Packages nest by callables.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "boot/byte_writer.hpp"

namespace anyhyve::boot {

enum class AmlLocal : u8 { local0 = 0x60, local1, local2 };
enum class AmlArgument : u8 { arg0 = 0x68, arg1, arg2 };
enum class AmlSerialization : u8 { none = 0, serialized = 8 };
enum class AmlRegionSpace : u8 { system_memory = 0, system_io = 1, pci_configuration = 2 };
enum class AmlFieldAccess : u8 { any = 0, byte = 1 };

// One field of an operation region; without a name it is a gap.
struct AmlField {
    std::string_view name;
    u32 bits;
};

class AmlWriter {
public:
    // Named objects: name() is followed by the object itself.
    void name(std::string_view path);
    template<typename Body>
    void scope(std::string_view path, Body const& body) { block({ 0x10 }, [&] { name_string(path); body(); }); }
    template<typename Body>
    void device(std::string_view path, Body const& body) { block({ extended, 0x82 }, [&] { name_string(path); body(); }); }
    template<typename Body>
    void method(std::string_view path, u8 arguments, AmlSerialization serialization, Body const& body)
    {
        block({ 0x14 }, [&] {
            name_string(path);
            m_out.put_u8(arguments | static_cast<u8>(serialization));
            body();
        });
    }
    void operation_region(std::string_view path, AmlRegionSpace, u64 offset, u64 length);
    void field(std::string_view region, AmlFieldAccess, std::initializer_list<AmlField>);

    // Data.
    void integer(u64 value);
    void string(std::string_view);
    void eisa_id(std::string_view seven_characters);
    void name_string(std::string_view path); // a reference to the object of that name
    void local(AmlLocal which) { m_out.put_u8(static_cast<u8>(which)); }
    void argument(AmlArgument which) { m_out.put_u8(static_cast<u8>(which)); }
    template<typename Body>
    void package(u8 elements, Body const& body) { block({ 0x12 }, [&] { m_out.put_u8(elements); body(); }); }

    // Statements and operators.
    template<typename Body>
    void if_(Body const& condition_and_body) { block({ 0xa0 }, condition_and_body); }
    template<typename Body>
    void else_(Body const& body) { block({ 0xa1 }, body); }
    void return_() { m_out.put_u8(0xa4); }
    void store() { m_out.put_u8(0x70); }             // source, target
    void and_() { m_out.put_u8(0x7b); }              // left, right, target
    void or_() { m_out.put_u8(0x7d); }               // left, right, target
    void shift_left() { m_out.put_u8(0x79); }        // value, count, target
    void less() { m_out.put_u8(0x95); }              // left, right
    void decrement() { m_out.put_u8(0x76); }         // object
    void find_set_right_bit() { m_out.put_u8(0x82); } // value, target
    void create_word_field() { m_out.put_u8(0x8b); } // buffer, byte index, name
    void no_target() { m_out.put_u8(0); }

    // Resources: resource_template() is a buffer whose body is made of the descriptors below.
    template<typename Body>
    void resource_template(Body const& body)
    {
        AmlWriter inner;
        body(inner);
        inner.m_out.put_u16(0x0079); // end tag, without a checksum
        block({ 0x11 }, [&] {
            integer(inner.m_out.size());
            m_out.bytes(inner.m_out.view());
        });
    }
    enum class Sharing { exclusive, shared };
    enum class Trigger { edge, level };
    void io(u16 first, u8 length);
    void irq_no_flags(u16 mask);                  // edge, active high
    void irq(u16 mask, Trigger, Sharing);         // level is active low
    void interrupt(u32 number, Trigger, Sharing); // extended; level is active low
    void memory32_fixed(u32 base, u32 length);
    enum class WindowKind : u8 { memory = 0, io = 1, bus = 2 };
    // A window that the bridge passes on, in descriptors of 16, 32 or 64 bits.
    void window(WindowKind, unsigned width_bits, u64 first, u64 last);

    std::vector<u8> const& view() const { return m_out.view(); }
    std::size_t size() const { return m_out.size(); }

private:
    static constexpr u8 extended = 0x5b;

    template<typename Body>
    void block(std::initializer_list<u8> opcode, Body const& body)
    {
        for (u8 byte : opcode)
            m_out.put_u8(byte);
        ByteWriter outer = std::exchange(m_out, {});
        body();
        std::swap(outer, m_out);
        package_length(outer.size());
        m_out.bytes(outer.view());
    }
    void package_length(std::size_t of_contents);
    void name_segment(std::string_view);

    ByteWriter m_out;
};

} // namespace anyhyve::boot
