// Finds the opcode table's row for an instruction: rows by encoding, map and opcode, then by what selects among them.
#pragma once

#include "x86/opcode_row.hpp"

#include <array>
#include <span>

namespace anyhyve::x86 {

// The rows of one opcode: `count` of them from `first` on. They are tried in order.
struct OpcodeIndex {
    u16 first;
    u8 count;
    bool has_modrm;
};

// One opcode map of one encoding.
struct OpcodeTable {
    Encoding encoding;
    OpcodeMap map;
    RowKey const* keys;
    OpcodeInfo const* infos;
    u16 rows;
    std::array<OpcodeIndex, 256> index;
};

// legacy: primary (x87 apart), 0F, 0F 38, 0F 3A. VEX: 0F, 0F 38, 0F 3A. EVEX: those and maps 5 and 6.
extern OpcodeTable const table_primary, table_x87, table_0f, table_0f38, table_0f3a;
extern OpcodeTable const table_vex_0f, table_vex_0f38, table_vex_0f3a;
extern OpcodeTable const table_evex_0f, table_evex_0f38, table_evex_0f3a, table_evex_map5, table_evex_map6;

// Every table, for whoever walks all rows (tests, documentation).
std::span<OpcodeTable const* const> all_opcode_tables();

// The row of an opcode that does not exist.
extern OpcodeInfo const undefined_instruction;

// What a shift by a constant other than 0 does: the row after the one `selected`.
inline OpcodeInfo const* with_count(OpcodeInfo const* selected) { return selected + 1; }

inline OpcodeInfo const* find_row(OpcodeTable const& table, OpcodeIndex entry, u32 selection)
{
    auto const* key = table.keys + entry.first;
    for (auto const* const end = key + entry.count; key != end; ++key)
        if ((selection & key->mask) == key->value)
            return table.infos + (key - table.keys);
    return &undefined_instruction;
}

} // namespace anyhyve::x86
