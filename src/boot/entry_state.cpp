// Descriptor tables, page tables and registers for the entry points of kernels.
// Spec: Intel SDM vol. 3A 3.4.5 (segment descriptors), 7.2 (TSS), 4.5 (4-level paging); Linux Documentation/arch/x86/boot.rst.
#include "boot/entry_state.hpp"

#include <array>
#include <vector>

#include "base/bits.hpp"
#include "boot/memory_map.hpp"
#include "x86/instruction.hpp"

namespace anyhyve::boot {

namespace {

namespace loader = memory_map::loader;
using x86::Segment;

enum Selector : u16 { code_selector = 0x10, data_selector = 0x18, task_selector = 0x20 };

constexpr u32 task_state_limit = 0x67; // the smallest TSS of 32 and of 64 bits
constexpr u8 busy_tss = 11;
constexpr u32 flat_access = x86::access::present | x86::access::non_system | x86::access::granular | x86::access::accessed;
constexpr u32 data_access = flat_access | x86::access::big | x86::access::writable;
constexpr u32 code32_access = flat_access | x86::access::big | x86::access::code | x86::access::readable;
constexpr u32 code64_access = flat_access | x86::access::long_mode | x86::access::code | x86::access::readable;

constexpr u64 descriptor(u32 base, u32 limit, u32 access)
{
    u64 const units = (access & x86::access::granular) ? limit >> 12 : limit;
    return (units & 0xffff) | (u64 { base } & 0xffffff) << 16 | (u64 { access } & 0xff) << 40 | (units >> 16 & 0xf) << 48
        | (u64 { access } >> 12 & 0xf) << 52 | (u64 { base } >> 24) << 56;
}

enum PageFlags : u64 { page_present = 1, page_writable = 2, page_large = 0x80 };

Result<void> put(GuestMemory& memory, u64 address, void const* from, u64 size)
{
    if (!memory.write(Gpa(address), from, size))
        return make_error(ENOMEM, "the guest's memory of {} KiB is too small to start a kernel", memory.size() / KiB);
    return {};
}

Result<void> write_page_tables(GuestMemory& memory)
{
    constexpr u64 large_page = 2 * MiB, entries_per_table = 512, directories = 4;
    constexpr u64 pdpt = loader::page_tables + GuestMemory::page_size, first_directory = pdpt + GuestMemory::page_size;
    static_assert(first_directory + directories * GuestMemory::page_size == loader::page_tables_end);

    std::vector<u64> tables((2 + directories) * entries_per_table);
    tables[0] = pdpt | page_present | page_writable;
    for (u64 i = 0; i < directories; ++i)
        tables[entries_per_table + i] = (first_directory + i * GuestMemory::page_size) | page_present | page_writable;
    for (u64 i = 0; i < directories * entries_per_table; ++i)
        tables[2 * entries_per_table + i] = i * large_page | page_present | page_writable | page_large;
    return put(memory, loader::page_tables, tables.data(), tables.size() * sizeof tables[0]);
}

Result<CpuState> common_state(GuestMemory& memory, Gpa entry, u32 code_access)
{
    // The task descriptor has 16 bytes in 64-bit mode: its upper half, zero, is the last entry.
    std::array<u64, 6> const table { 0, 0, descriptor(0, 0xffffffff, code_access), descriptor(0, 0xffffffff, data_access),
        descriptor(static_cast<u32>(loader::task_state), task_state_limit, x86::access::present | busy_tss), 0 };
    TRY(put(memory, loader::descriptor_table, table.data(), sizeof table));
    std::array<u8, task_state_limit + 1> const task_state {};
    TRY(put(memory, loader::task_state, task_state.data(), task_state.size()));

    CpuState state = CpuState::after_reset(true);
    state.gpr.fill(0);
    state.rip = entry.value();
    state.gpr[x86::rsp] = loader::stack_top;
    state.cr0 = x86::cr0::pe | x86::cr0::et;
    state.segments.fill({ data_selector, data_access, 0xffffffff, 0 });
    state.segments[static_cast<u8>(Segment::cs)] = { code_selector, code_access, 0xffffffff, 0 };
    // TR must be a busy TSS: VT-x refuses to enter a guest whose TR is anything else (SDM vol. 3C 26.3.1.2).
    state.tr = { task_selector, x86::access::present | busy_tss, task_state_limit, loader::task_state };
    state.ldtr = { 0, x86::access::unusable, 0, 0 };
    state.gdtr = { loader::descriptor_table, sizeof table - 1 };
    state.idtr = { 0, 0 };
    return state;
}

} // namespace

Result<CpuState> flat32_state(GuestMemory& memory, Gpa entry)
{
    return common_state(memory, entry, code32_access);
}

Result<CpuState> long64_state(GuestMemory& memory, Gpa entry)
{
    CpuState state = TRY(common_state(memory, entry, code64_access));
    TRY(write_page_tables(memory));
    state.cr0 |= x86::cr0::pg;
    state.cr3 = loader::page_tables;
    state.cr4 = x86::cr4::pae;
    state.efer = x86::efer::lme | x86::efer::lma;
    return state;
}

} // namespace anyhyve::boot
