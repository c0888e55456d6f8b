// What all opcode maps share: the list of tables and the row of opcodes that do not exist.
#include "x86/opcode_table.hpp"

namespace anyhyve::x86 {

namespace {

constexpr OpcodeTable const* tables[] = {
    &table_primary, &table_x87, &table_0f, &table_0f38, &table_0f3a,
    &table_vex_0f, &table_vex_0f38, &table_vex_0f3a,
    &table_evex_0f, &table_evex_0f38, &table_evex_0f3a, &table_evex_map5, &table_evex_map6,
};

constexpr OpcodeInfo make_undefined()
{
    OpcodeInfo info {};
    info.name = "undefined";
    info.operation = Operation::undefined;
    return info;
}

} // namespace

constinit OpcodeInfo const undefined_instruction = make_undefined();

std::span<OpcodeTable const* const> all_opcode_tables() { return tables; }

} // namespace anyhyve::x86
