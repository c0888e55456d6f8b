// Turns the rows of an opcode map into the arrays that the decoder searches, at compile time.
#pragma once

#include "x86/opcode_table.hpp"

namespace anyhyve::x86::build {

// An always-matching row never fits after itself, so the second of a pair is reached only by its neighbour (count_immediate).
constexpr RowKey never { 0, 1 };

// How many rows a written row stands for: one for each vector length where lengths differ in feature or alignment, one more for
// 16-bit operands that write a register partially, one more for shifts by a constant.
template<Encoding encoding>
constexpr unsigned lengths(Row const& row)
{
    constexpr unsigned all = encoding == Encoding::evex ? 3 : 2;
    if (encoding == Encoding::legacy || row.length_selected)
        return 1;
    if (row.longer_vectors_only)
        return all - 1;
    return row.wide_feature != Feature::base || row.aligned ? all : 1;
}

template<Encoding encoding>
constexpr std::size_t expanded_count(Row const& row)
{
    return lengths<encoding>(row) * (row.partial_write ? 2u : 1u) * (row.info.count_immediate ? 2u : 1u);
}

constexpr bool is_sse_memory(Row const& row) { return row.info.memory != MemoryAccess::none && row.info.width == MemoryWidth::vector; }

template<Encoding encoding>
constexpr void finish(OpcodeInfo& info)
{
    if (encoding == Encoding::legacy)
        return;
    bool const vector = info.reg_kind == FieldKind::vector || info.rm_kind == FieldKind::vector || info.vvvv_kind == FieldKind::vector;
    if (encoding == Encoding::vex && info.unit != Unit::avx512 && (vector || info.unit == Unit::sse))
        info.unit = Unit::avx;
    if (encoding == Encoding::evex)
        info.unit = Unit::avx512;
    info.mandatory_66 = false;
    if (info.size_rule == OperandSize::normal)
        info.size_rule = OperandSize::double_or_quad;
    if (encoding == Encoding::evex) {
        bool const mask_result = info.reg_kind == FieldKind::mask && info.reg_use == use_write;
        if (!(info.evex_options & evex_no_mask)) {
            info.evex_options |= evex_mask;
            if (!mask_result && !(info.evex_options & evex_no_zero))
                info.evex_options |= evex_zero;
            info.masked = info.memory != MemoryAccess::none;
        }
        info.evex_options &= static_cast<u8>(~(evex_no_mask | evex_no_zero));
    }
}

// Writes what `row` stands for to `out`; returns how many.
template<Encoding encoding>
constexpr std::size_t expand(Row row, Row* out)
{
    namespace s = selector;
    auto const* const begin = out;
    bool const wide_only = row.longer_vectors_only;
    auto const count = lengths<encoding>(row);
    finish<encoding>(row.info);
    if (encoding == Encoding::legacy && is_sse_memory(row) && !row.unaligned)
        row.info.alignment = 16;
    for (unsigned n = 0; n < count; ++n) {
        Row one = row;
        u32 const length = wide_only ? n + 1 : n;
        if (count > 1 || wide_only)
            one.key.require(s::length_mask, length << s::length_shift);
        u32 const actual = (one.key.value & s::length_mask) >> s::length_shift;
        if (row.aligned)
            one.info.alignment = static_cast<u8>(16u << actual);
        if (actual > 0 && row.wide_feature != Feature::base)
            one.info.feature = row.wide_feature;
        if (row.partial_write) {
            Row partial = one;
            partial.key.require(s::operand16_mask, s::operand16_mask);
            for (auto* use : { &partial.info.reg_use, &partial.info.rm_use })
                if (*use == use_write)
                    *use = use_read_write;
            *out++ = partial;
        }
        *out++ = one;
        if (row.info.count_immediate) {
            Row with = one;
            with.key = never;
            with.info.flags_written |= with.info.flags_maybe;
            with.info.flags_maybe = 0;
            *out++ = with;
        }
    }
    return static_cast<std::size_t>(out - begin);
}

template<std::size_t count>
struct Arrays {
    std::array<RowKey, count> keys;
    std::array<OpcodeInfo, count> infos;
    std::array<OpcodeIndex, 256> index;
};

template<Encoding encoding, std::size_t written>
consteval std::size_t total(Row const (&rows)[written])
{
    std::size_t sum = 0;
    for (auto const& row : rows)
        sum += expanded_count<encoding>(row);
    return sum;
}

// Rows must be in the order of their opcodes.
template<Encoding encoding, std::size_t count, std::size_t written>
consteval Arrays<count> arrange(Row const (&rows)[written])
{
    Arrays<count> result {};
    std::size_t at = 0;
    unsigned previous = 0;
    for (auto const& row : rows) {
        if (row.opcode < previous)
            throw "rows are out of order";
        previous = row.opcode;
        Row expanded[12];
        auto const n = expand<encoding>(row, expanded);
        for (unsigned opcode = row.opcode; opcode < row.opcode + (row.info.opcode_register ? 8u : 1u); ++opcode) {
            auto& entry = result.index[opcode];
            if (entry.count == 0)
                entry.first = static_cast<u16>(at);
            if (entry.first + entry.count != at)
                throw "rows of an opcode are not together";
            entry.count = static_cast<u8>(entry.count + n);
            entry.has_modrm |= row.modrm;
        }
        for (std::size_t i = 0; i < n; ++i, ++at) {
            result.keys[at] = expanded[i].key;
            result.infos[at] = expanded[i].info;
        }
    }
    return result;
}

} // namespace anyhyve::x86::build

// Defines `name` of opcode_table.hpp out of the array `rows`.
#define ANYHYVE_OPCODE_TABLE(name, table_encoding, table_map, rows)                                                                              \
    namespace {                                                                                                                              \
    constexpr auto name##_arrays = build::arrange<table_encoding, build::total<table_encoding>(rows)>(rows);                                    \
    }                                                                                                                                        \
    constinit OpcodeTable const name { table_encoding, table_map, name##_arrays.keys.data(), name##_arrays.infos.data(),                       \
        static_cast<u16>(name##_arrays.keys.size()), name##_arrays.index };
