// The opcode table by itself: every row can be reached, rows are consistent, every map answers for every opcode.
#include "x86/opcode_iterator.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <string_view>

namespace anyhyve::x86 {
namespace {

std::string describe(OpcodeForm const& form)
{
    return fmt::format("encoding {} map {} opcode {:02x} {} (key {:x}/{:x})", static_cast<int>(form.encoding()), static_cast<int>(form.map()), form.opcode, form.info().name, form.key().value, form.key().mask);
}

// For all values of the selecting fields: which rows of which table come out?
TEST(OpcodeTable, EveryRowIsReached)
{
    constexpr unsigned selections = 1u << (selector::rex_b_shift + 1);
    for (auto const* table : all_opcode_tables()) {
        std::set<OpcodeInfo const*> reached;
        for (auto const& entry : table->index)
            for (u32 selection = 0; entry.count && selection < selections; ++selection) {
                auto const* info = find_row(*table, entry, selection);
                reached.insert(info);
                if (info->count_immediate)
                    reached.insert(with_count(info));
            }
        for_each_opcode_form([&](OpcodeForm const& form) {
            if (form.table == table) {
                EXPECT_TRUE(reached.contains(&form.info())) << describe(form);
            }
        });
    }
}

// What no row claims is the undefined instruction, never a stray pointer.
TEST(OpcodeTable, MapsAreTotal)
{
    for (auto const* table : all_opcode_tables())
        for (auto const& entry : table->index) {
            ASSERT_LE(entry.first + entry.count, table->rows);
            for (u32 selection = 0; selection < 1u << 15; selection += 7) {
                auto const* info = find_row(*table, entry, selection);
                EXPECT_TRUE(info == &undefined_instruction || (info >= table->infos && info < table->infos + table->rows));
            }
        }
}

TEST(OpcodeTable, RowsAreConsistent)
{
    for_each_opcode_form([](OpcodeForm const& form) {
        auto const& info = form.info();
        auto const text = describe(form);
        EXPECT_NE(info.name, nullptr) << text;
        EXPECT_EQ(info.flags_written & info.flags_maybe, 0) << text;
        EXPECT_EQ((info.flags_written | info.flags_maybe | info.flags_read) & ~arithmetic_flags, 0) << text;
        if (info.lockable) {
            EXPECT_EQ(info.memory, MemoryAccess::read_write) << text;
        }
        if (info.alignment) {
            EXPECT_NE(info.memory, MemoryAccess::none) << text;
        }
        if (info.operation == Operation::copy && (info.memory == MemoryAccess::read || info.memory == MemoryAccess::write)) {
            EXPECT_NE(info.width, MemoryWidth::none) << text;
        }
        if (form.encoding() != Encoding::legacy) {
            EXPECT_FALSE(info.lockable) << text;
        }
        if (info.rm_kind == FieldKind::gpr8) {
            EXPECT_NE(info.rm_use, use_write) << "a byte write keeps the rest of the register: " << text;
        }
        if (info.reg_kind == FieldKind::gpr8) {
            EXPECT_NE(info.reg_use, use_write) << "a byte write keeps the rest of the register: " << text;
        }
        if (info.memory != MemoryAccess::none && info.immediate != Immediate::memory_offset) {
            EXPECT_TRUE(form.has_modrm()) << text;
        }
    });
}

// What touches more than named registers and one memory operand must not be copied.
TEST(OpcodeTable, UnsafeInstructionsAreNotCopied)
{
    using namespace std::string_view_literals;
    std::set const copied_nowhere { "push"sv, "pop"sv, "call"sv, "ret"sv, "jmp"sv, "enter"sv, "leave"sv, "pushf"sv, "popf"sv, "pusha"sv, "popa"sv, "iret"sv, "in"sv, "out"sv, "cld"sv,
        "std"sv, "cli"sv, "sti"sv, "hlt"sv, "xlat"sv, "maskmovq"sv, "maskmovdqu"sv, "vmaskmovdqu"sv, "fxsave"sv, "fxrstor"sv, "xsave"sv, "xrstor"sv, "fnsave"sv, "frstor"sv, "fldenv"sv,
        "fnstenv"sv, "rdtsc"sv, "rdtscp"sv, "cpuid"sv, "rdmsr"sv, "wrmsr"sv, "syscall"sv, "sysenter"sv, "int"sv, "int3"sv, "lea"sv, "les"sv, "lds"sv, "lss"sv, "lfs"sv, "lgs"sv, "bound"sv,
        "rdfsbase"sv, "wrfsbase"sv, "rdgsbase"sv, "wrgsbase"sv, "rdpkru"sv, "wrpkru"sv, "xgetbv"sv, "xsetbv"sv, "rdpid"sv, "pause"sv, "arpl"sv, "lar"sv, "lsl"sv, "verr"sv, "verw"sv };
    for_each_opcode_form([&](OpcodeForm const& form) {
        auto const& info = form.info();
        if (info.operation != Operation::copy)
            return;
        EXPECT_FALSE(copied_nowhere.contains(info.name)) << describe(form);
        EXPECT_FALSE(info.vsib) << describe(form);
        for (auto const kind : { info.reg_kind, info.rm_kind })
            EXPECT_TRUE(kind != FieldKind::segment && kind != FieldKind::control && kind != FieldKind::debug) << describe(form);
        EXPECT_FALSE((info.implicit_read | info.implicit_write) & ~0x0fu) << "implicit registers other than RAX, RCX, RDX, RBX: " << describe(form);
    });
}

} // namespace
} // namespace anyhyve::x86
