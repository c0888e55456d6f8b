// What a translated block depends on besides its bytes: the bits of ModeBits.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft::mode {

constexpr ModeBits code_size_mask = 3;          // x86::CodeSize
constexpr unsigned tlb_shift = 2;               // TlbIndex, 2 bits
constexpr ModeBits tlb_mask = 3 << tlb_shift;
constexpr ModeBits stack32 = 1 << 5;            // SS.B
constexpr ModeBits flat = 1 << 6;               // CS DS ES SS: base 0, limit 4 GiB, data writable
constexpr ModeBits task_switched = 1 << 7;      // CR0.TS
constexpr ModeBits fpu_emulation = 1 << 8;      // CR0.EM
constexpr ModeBits monitor_fpu = 1 << 9;        // CR0.MP
constexpr ModeBits sse_enabled = 1 << 10;       // CR4.OSFXSR
constexpr ModeBits avx_enabled = 1 << 11;       // CR4.OSXSAVE and XCR0 has SSE and AVX
constexpr ModeBits avx512_enabled = 1 << 12;    // and the three AVX-512 parts
constexpr ModeBits real_addressing = 1 << 13;   // real or virtual-8086 mode
constexpr ModeBits single_step = 1 << 14;       // blocks of one instruction, never linked
constexpr ModeBits alignment_check = 1 << 15;   // CR0.AM, RFLAGS.AC, CPL 3

constexpr x86::CodeSize code_size(ModeBits m) { return static_cast<x86::CodeSize>(m & code_size_mask); }
constexpr TlbIndex tlb(ModeBits m) { return static_cast<TlbIndex>((m & tlb_mask) >> tlb_shift); }
constexpr bool is64(ModeBits m) { return code_size(m) == x86::CodeSize::bits64; }
// May a block be entered by an address alone, with CS.base out of the picture?
constexpr bool linkable(ModeBits m) { return (is64(m) || (m & flat)) && !(m & single_step); }

constexpr ModeBits careful = 1 << 16;           // not of a vCPU: every access of the block is looked up by itself (stack_runs.cpp)

constexpr ModeBits ring0 = 1 << 17;             // CPL 0, protected mode
constexpr ModeBits smap = 1 << 18;              // CR4.SMAP

constexpr ModeBits time_stamp_disabled = 1 << 19; // CR4.TSD

// From the registers of `cpu`.
ModeBits current(Cpu const&);

} // namespace anyhyve::soft::mode
