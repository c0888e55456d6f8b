// Guest linear memory as C++ code of the engine reaches it: page walk, rights, device memory, code tracking.
// All of it is compiled for general registers only, so guest vector state stays where it is.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

class Mmu {
public:
    explicit Mmu(Cpu& cpu) : m_cpu(cpu) {}

    // Linear addresses; `size` up to 64 bytes (copy_in/copy_out: any, by pages). In 64-bit code the caller has checked that the address
    // is canonical (or uses *_segment below). A write that crosses a page checks both pages first: all or nothing.
    Outcome read(u64 linear, void* to, unsigned size, Rights = Rights::current);
    Outcome write(u64 linear, void const* from, unsigned size, Rights = Rights::current);
    // Checks without effect but the accessed/dirty bits.
    Outcome probe(u64 linear, unsigned size, Access, Rights = Rights::current);
    template<typename T>
    Outcome read_value(u64 linear, T& value, Rights rights = Rights::current) { return read(linear, &value, sizeof value, rights); }
    template<typename T>
    Outcome write_value(u64 linear, T value, Rights rights = Rights::current) { return write(linear, &value, sizeof value, rights); }

    // Host memory for [linear, linear+size) within one page, for string instructions: nullptr in `host` when it is device memory or needs the
    // slow way (watched pages for writes), then use read()/write(). Faults as an access would.
    Outcome host_pointer(u64 linear, unsigned size, Access, u8*& host);

    // Segmented: adds the base and checks limit, rights and canonical form as the current mode does (#GP or #SS).
    Outcome linear_address(x86::Segment, u64 offset, unsigned size, Access, u64& linear);
    Outcome read_segment(x86::Segment segment, u64 offset, void* to, unsigned size);
    Outcome write_segment(x86::Segment segment, u64 offset, void const* from, unsigned size);

    // Effective address of the ModRM operand, address size applied, without the segment base.
    u64 effective_address(x86::Instruction const&) const;
    // Linear address of the ModRM memory operand for `size` bytes.
    Outcome operand_address(x86::Instruction const&, unsigned size, Access, u64& linear);
    // The rm operand of 1, 2, 4 or 8 bytes: register or memory.
    Outcome read_rm(x86::Instruction const&, unsigned width, u64& value);
    Outcome write_rm(x86::Instruction const&, unsigned width, u64 value);

    // Invalidation (SDM vol. 3A 4.10.4).
    void flush_all();            // global entries too: CR0/CR4 paging bits, PGE toggles
    void flush_non_global();     // MOV to CR3
    void flush_page(u64 linear); // INVLPG
    // After a change of CPL, CR0, CR4, EFER, RFLAGS.AC/VM, segments: recomputes cpu.mode and the fast segment limits.
    // Loads the PAE pointers when asked to (MOV CR3, CR0/CR4 changes): false in PAE mode with a bad entry (#GP).
    void update_mode();
    bool load_pdptes();

    // The physical address a linear one maps to, without faults or side effects (debuggers); false when unmapped.
    bool translate_debug(u64 linear, Gpa& physical);

    // Ports, through the bus, with the guest's vector state put away. (I/O permission is the caller's.)
    u64 port_in(u16 port, unsigned width);
    void port_out(u16 port, unsigned width, u64 value);

private:
    Cpu& m_cpu;
};

} // namespace anyhyve::soft
