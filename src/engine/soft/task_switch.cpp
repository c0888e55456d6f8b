// Hardware task switches, in the order of Intel SDM vol. 3A 7.3: everything that can fail before the old task is left is tried first.
#include "engine/soft/task_switch.hpp"

#include "engine/soft/flag_register.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/stack_frame.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

using x86::Segment;
using x86::SegmentRegister;
namespace rflags = x86::rflags;
namespace vector = x86::vector;

namespace {

// Where a TSS format keeps what a task switch saves and loads (SDM vol. 3A figures 7-2 and 7-10). Fields follow each other.
struct TssLayout {
    unsigned item_size;       // of registers and of the space of each selector
    unsigned instruction_pointer, flags, registers, selectors, ldt; // offsets
    unsigned selector_count;
    u32 least_limit;
};
constexpr TssLayout layout32 { .item_size = 4, .instruction_pointer = 0x20, .flags = 0x24, .registers = 0x28, .selectors = 0x48, .ldt = 0x60,
                               .selector_count = 6, .least_limit = 0x67 };
constexpr TssLayout layout16 { .item_size = 2, .instruction_pointer = 0x0e, .flags = 0x10, .registers = 0x12, .selectors = 0x22, .ldt = 0x2a,
                               .selector_count = 4, .least_limit = 0x2b };
constexpr unsigned tss32_cr3 = 0x1c, tss32_trap = 0x64, largest_tss = 0x68;

TssLayout const& layout_of(u32 access_rights)
{
    return x86::access::type(access_rights) & descriptor_type::wide_bit ? layout32 : layout16;
}

u32 load(u8 const* from, unsigned size)
{
    u32 const low = static_cast<u32>(from[0] | from[1] << 8);
    return size == 2 ? low : low | static_cast<u32>(from[2]) << 16 | static_cast<u32>(from[3]) << 24;
}

void store(u8* to, unsigned size, u64 value)
{
    for (unsigned i = 0; i < size; i++)
        to[i] = static_cast<u8>(value >> (i * 8));
}

// What a new task starts with.
struct TaskState {
    u32 instruction_pointer = 0, flags = 0, cr3 = 0;
    u32 registers[8] {};
    u16 selectors[6] {}; // in the order of x86::Segment
    u16 ldt = 0;
    bool trap = false;
};

Outcome read_tss(Cpu& cpu, Descriptor const& task, TaskState& state)
{
    TssLayout const& layout = layout_of(task.access());
    u8 bytes[largest_tss];
    unsigned const size = layout.least_limit + 1;
    for (unsigned done = 0; done < size; done += 52) {
        unsigned const part = size - done < 52 ? size - done : 52;
        STEP(cpu.mmu->read(wrap_linear(cpu, task.base() + done), bytes + done, part, Rights::supervisor));
    }
    unsigned const item = layout.item_size;
    state.instruction_pointer = load(bytes + layout.instruction_pointer, item);
    state.flags = load(bytes + layout.flags, item);
    for (unsigned i = 0; i < 8; i++)
        state.registers[i] = item == 4 ? load(bytes + layout.registers + i * 4, 4) : 0xffff0000 | load(bytes + layout.registers + i * 2, 2);
    for (unsigned i = 0; i < layout.selector_count; i++)
        state.selectors[i] = static_cast<u16>(load(bytes + layout.selectors + i * item, 2));
    state.ldt = static_cast<u16>(load(bytes + layout.ldt, 2));
    if (item == 4) {
        state.cr3 = load(bytes + tss32_cr3, 4);
        state.trap = bytes[tss32_trap] & 1;
    }
    return Outcome::next;
}

// The part of the current TSS that a switch writes: instruction pointer up to the last selector.
struct OldTask {
    u64 address = 0;
    unsigned size = 0;
    u8 bytes[0x40];
};

Outcome prepare_old_task(Cpu& cpu, TaskSwitch const& request, OldTask& old)
{
    TssLayout const& layout = layout_of(cpu.tr.access);
    if (cpu.tr.limit < layout.least_limit)
        return raise_selector(cpu, vector::invalid_tss, cpu.tr.selector);
    unsigned const item = layout.item_size, first = layout.instruction_pointer;
    u64 const flags = request.cause == TaskSwitchCause::interrupt_return ? request.saved_flags & ~rflags::nt : request.saved_flags;
    old.address = wrap_linear(cpu, cpu.tr.base + first);
    old.size = layout.selectors + layout.selector_count * item - first;
    store(old.bytes, item, request.saved_rip);
    store(old.bytes + layout.flags - first, item, flags);
    for (unsigned i = 0; i < 8; i++)
        store(old.bytes + layout.registers - first + i * item, item, cpu.gpr[i]);
    // The upper half of a selector's space in a 32-bit TSS is written as zero.
    for (unsigned i = 0; i < layout.selector_count; i++)
        store(old.bytes + layout.selectors - first + i * item, item, cpu.segments[i].selector);
    return cpu.mmu->probe(old.address, old.size, Access::write, Rights::supervisor);
}

bool leaves_link(TaskSwitchCause cause)
{
    return cause == TaskSwitchCause::call || cause == TaskSwitchCause::interrupt;
}

// Probes every place that the switch writes, then writes: from the first write on nothing faults.
Outcome write_memory(Cpu& cpu, Descriptor& task, TaskSwitch const& request)
{
    OldTask old;
    STEP(prepare_old_task(cpu, request, old));
    bool const links = leaves_link(request.cause);
    u64 const link = wrap_linear(cpu, task.base());
    if (links)
        STEP(cpu.mmu->probe(link, 2, Access::write, Rights::supervisor));
    STEP(cpu.mmu->probe(wrap_linear(cpu, task.address + 5), 1, Access::write, Rights::supervisor));
    Descriptor current;
    if (!links) {
        STEP(fetch_descriptor(cpu, cpu.tr.selector, vector::invalid_tss, current));
        STEP(mark_busy(cpu, current, Busy::no));
    }
    STEP(cpu.mmu->write(old.address, old.bytes, old.size, Rights::supervisor));
    if (links)
        STEP(cpu.mmu->write_value(link, cpu.tr.selector, Rights::supervisor));
    return request.cause == TaskSwitchCause::interrupt_return ? Outcome::next : mark_busy(cpu, task, Busy::yes);
}

void load_page_tables(Cpu& cpu, u32 cr3)
{
    cpu.cr3 = cr3;
    if ((cpu.cr4 & x86::cr4::pae) && !cpu.mmu->load_pdptes())
        cpu.pdpte.fill(0); // nothing is mapped: the new task's first access faults
    cpu.mmu->flush_non_global();
}

// Steps 10 to 12: the new task is current, with segment registers that hold selectors only.
void load_registers(Cpu& cpu, Descriptor const& task, TaskState const& state, TaskSwitchCause cause)
{
    bool const wide = layout_of(task.access()).item_size == 4;
    cpu.tr = task.segment_register();
    cpu.tr.access |= descriptor_type::busy_bit;
    cpu.cr0 |= x86::cr0::ts;
    constexpr u64 dr7_local_enables = 0x155; // L0-L3 and LE: SDM vol. 3B 17.2.4
    cpu.dr7 &= ~dr7_local_enables;
    if (wide && (cpu.cr0 & x86::cr0::pg))
        load_page_tables(cpu, state.cr3);
    for (unsigned i = 0; i < 8; i++)
        cpu.gpr[i] = state.registers[i];
    u64 const flags = wide ? state.flags : (cpu.rflags & 0xffff0000 & ~(rflags::vm | rflags::rf)) | state.flags;
    set_flags(cpu, (flags & rflags::writable) | (leaves_link(cause) ? rflags::nt : 0));
    cpu.rip = state.instruction_pointer;
    cpu.cpl = cpu.virtual_8086() ? 3 : state.selectors[static_cast<u8>(Segment::cs)] & 3;
    for (unsigned i = 0; i < 6; i++)
        cpu.segments[i] = cpu.virtual_8086() ? virtual_8086_segment(state.selectors[i]) : null_segment(state.selectors[i]);
    cpu.ldtr = null_segment(state.ldt);
}

Outcome check_task_code(Cpu& cpu, u16 selector, SegmentRegister& out)
{
    Descriptor code;
    if (is_null(selector))
        return raise_selector(cpu, vector::invalid_tss, selector);
    STEP(fetch_descriptor(cpu, selector, vector::invalid_tss, code));
    bool const level_fits = code.conforming() ? code.dpl() <= code.rpl() : code.dpl() == code.rpl();
    if (!code.code() || !level_fits)
        return raise_selector(cpu, vector::invalid_tss, selector);
    if (!code.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    STEP(mark_accessed(cpu, code));
    out = code.segment_register();
    return Outcome::next;
}

// Step 13: descriptors, in the context of the new task.
Outcome load_descriptors(Cpu& cpu)
{
    STEP(check_ldt(cpu, cpu.ldtr.selector, vector::invalid_tss, cpu.ldtr));
    if (cpu.virtual_8086())
        return Outcome::next;
    SegmentRegister& ss = cpu.segment(Segment::ss);
    STEP(check_task_code(cpu, cpu.segment(Segment::cs).selector, cpu.segment(Segment::cs)));
    STEP(check_stack_segment(cpu, ss.selector, cpu.cpl, vector::invalid_tss, ss));
    for (auto const name : { Segment::es, Segment::ds, Segment::fs, Segment::gs }) {
        SegmentRegister& segment = cpu.segment(name);
        STEP(check_data_segment(cpu, segment.selector, cpu.cpl, vector::invalid_tss, segment));
    }
    return Outcome::next;
}

Outcome push_error_code(Cpu& cpu, u32 error_code)
{
    AddressSanitizerGuard const guard(cpu);
    StackFrame frame(layout_of(cpu.tr.access).item_size);
    frame.push(error_code);
    u64 pointer = 0;
    STEP(frame.write(cpu, current_stack(cpu), pointer));
    set_stack_pointer(cpu, pointer);
    return Outcome::next;
}

// What can still go wrong once the new task runs.
Outcome finish_in_new_task(Cpu& cpu, TaskSwitch const& request, bool trap)
{
    Outcome const loaded = load_descriptors(cpu);
    cpu.mmu->update_mode();
    STEP(loaded);
    if (request.has_error_code)
        STEP(push_error_code(cpu, request.error_code));
    if (cpu.rip > cpu.segment(Segment::cs).limit)
        return raise_gp(cpu);
    if (trap) {
        constexpr u64 dr6_task_switch = 1 << 15;
        cpu.fault = { .vector = vector::debug, .dr6 = dr6_task_switch };
        return Outcome::fault;
    }
    return Outcome::jump;
}

} // namespace

Outcome fetch_task(Cpu& cpu, u16 selector, TaskSwitchCause cause, Descriptor& task)
{
    bool const returns = cause == TaskSwitchCause::interrupt_return;
    u8 const bad = returns ? vector::invalid_tss : vector::general_protection;
    if (is_null(selector) || in_ldt(selector))
        return raise_selector(cpu, bad, selector);
    STEP(fetch_descriptor(cpu, selector, bad, task));
    u8 const available = task.type() & ~descriptor_type::busy_bit;
    bool const is_tss = task.system() && (available == descriptor_type::tss16_available || available == descriptor_type::tss32_available);
    bool const busy = (task.type() & descriptor_type::busy_bit) != 0;
    if (!is_tss || busy != returns)
        return raise_selector(cpu, bad, selector);
    if (!task.present())
        return raise_selector(cpu, vector::segment_not_present, selector);
    if (task.limit() < layout_of(task.access()).least_limit)
        return raise_selector(cpu, vector::invalid_tss, selector);
    return Outcome::next;
}

Outcome switch_task(Cpu& cpu, Descriptor& task, TaskSwitch const& request)
{
    TaskState state;
    STEP(read_tss(cpu, task, state));
    STEP(write_memory(cpu, task, request));
    load_registers(cpu, task, state, request.cause);
    return finish_in_new_task(cpu, request, state.trap);
}

} // namespace anyhyve::soft
