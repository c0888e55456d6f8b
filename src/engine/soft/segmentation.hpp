// Segment descriptors, and loading segment registers in every mode.
// Source: Intel SDM vol. 3A 3.4-3.5 (descriptors), 5.5-5.8 (privilege), 20.1 and 20.2 (real and virtual-8086 addresses); vol. 2 MOV, POP, LDS.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// System descriptor types (SDM vol. 3A table 3-2).
namespace descriptor_type {
constexpr u8 tss16_available = 1, ldt = 2, tss16_busy = 3, call_gate16 = 4, task_gate = 5, interrupt_gate16 = 6, trap_gate16 = 7,
             tss32_available = 9, tss32_busy = 11, call_gate32 = 12, interrupt_gate32 = 14, trap_gate32 = 15;
constexpr u8 tss64_available = tss32_available, tss64_busy = tss32_busy, call_gate64 = call_gate32, interrupt_gate64 = interrupt_gate32,
             trap_gate64 = trap_gate32;
constexpr u8 busy_bit = 2;  // tells a busy TSS from an available one
constexpr u8 wide_bit = 8;  // tells a 32-bit TSS or gate from a 16-bit one
} // namespace descriptor_type

// One entry of the GDT, LDT or IDT, as read; `high` is the second half of a 16-byte entry (long mode system descriptors).
struct Descriptor {
    u16 selector = 0;
    u64 address = 0; // linear
    u64 low = 0, high = 0;

    u32 access() const { return static_cast<u32>(low >> 40) & 0xf0ff; }
    u8 type() const { return x86::access::type(access()); }
    u8 dpl() const { return x86::access::dpl(access()); }
    u8 rpl() const { return selector & 3; }
    bool is(u32 bits) const { return (access() & bits) == bits; }
    bool present() const { return is(x86::access::present); }
    bool system() const { return !is(x86::access::non_system); }
    bool code() const { return is(x86::access::non_system | x86::access::code); }
    bool data() const { return !system() && !code(); }
    bool conforming() const { return is(x86::access::non_system | x86::access::code | x86::access::conforming); }
    bool writable_data() const { return data() && is(x86::access::writable); }
    bool readable() const { return data() || (code() && is(x86::access::readable)); }
    bool code64() const { return is(x86::access::long_mode) && !is(x86::access::big); }

    u64 base() const { return ((low >> 16) & 0xffffff) | ((low >> 56) << 24) | (high << 32); }
    u32 limit() const
    {
        u32 const raw = static_cast<u32>((low & 0xffff) | ((low >> 32) & 0xf0000));
        return is(x86::access::granular) ? (raw << 12) | 0xfff : raw;
    }
    x86::SegmentRegister segment_register() const { return { .selector = selector, .access = access(), .limit = limit(), .base = base() }; }

    // Read as a gate.
    u16 gate_selector() const { return static_cast<u16>(low >> 16); }
    u32 gate_offset32() const { return static_cast<u32>((low & 0xffff) | ((low >> 32) & 0xffff0000)); }
    u64 gate_offset64() const { return gate_offset32() | (high << 32); }
    u8 gate_interrupt_stack() const { return (low >> 32) & 7; }
    u8 gate_parameter_count() const { return (low >> 32) & 31; }
};

constexpr bool is_null(u16 selector) { return (selector & 0xfffc) == 0; }
constexpr bool in_ldt(u16 selector) { return (selector & 4) != 0; }
constexpr bool is_canonical(u64 address) { return static_cast<u64>(static_cast<i64>(address << 16) >> 16) == address; }

// A linear address as wide as the mode has them.
inline u64 wrap_linear(Cpu const& cpu, u64 linear) { return cpu.long_mode() ? linear : static_cast<u32>(linear); }

// An exception whose error code names a selector.
inline Outcome raise_selector(Cpu& cpu, u8 vector, u16 selector) { return raise_with_code(cpu, vector, selector & 0xfffcu); }

// Reads the descriptor that `selector` (not null) names; `vector`(selector) when it lies beyond its table.
Outcome fetch_descriptor(Cpu&, u16 selector, u8 vector, Descriptor&);
// The same for an entry known to be a system descriptor: in long mode all 16 bytes, the second type field checked to be 0.
Outcome fetch_system_half(Cpu&, u8 vector, Descriptor&);
// Sets the accessed bit in the table, if it is not set.
Outcome mark_accessed(Cpu&, Descriptor&);
// Changes the busy bit of a TSS descriptor in the table.
enum class Busy : u8 { no, yes };
Outcome mark_busy(Cpu&, Descriptor&, Busy);

// What a segment register holds after a null selector; `dpl` is kept because SS.DPL is the CPL.
x86::SegmentRegister null_segment(u16 selector, u8 dpl = 0);
// After a load in real mode: limit and size bits of before stay ("unreal mode", SDM vol. 3A 9.9.2).
x86::SegmentRegister real_mode_segment(x86::Segment, x86::SegmentRegister const& before, u16 selector);
x86::SegmentRegister virtual_8086_segment(u16 selector);

// The checks of a load in protected mode, without changing the register. `bad` is the exception for what is not simply absent:
// #GP, or #TS when the selector comes from a TSS. The accessed bit is set in memory.
Outcome check_data_segment(Cpu&, u16 selector, u8 cpl, u8 bad, x86::SegmentRegister& out);
Outcome check_stack_segment(Cpu&, u16 selector, u8 cpl, u8 bad, x86::SegmentRegister& out);
// LLDT and task switches.
Outcome check_ldt(Cpu&, u16 selector, u8 bad, x86::SegmentRegister& out);

// The checks of loading ES, SS, DS, FS or GS in the current mode.
Outcome check_segment(Cpu&, x86::Segment, u16 selector, x86::SegmentRegister& out);
// The same, and the load. The register is changed only on `next`, and the memory unit is told.
Outcome load_segment(Cpu&, x86::Segment, u16 selector);

// Data segments that the code of a less privileged level must not keep (SDM vol. 2 RET, IRET).
void drop_inner_segments(Cpu&);

} // namespace anyhyve::soft
