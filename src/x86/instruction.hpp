// One decoded instruction, and the table row that says what it does to registers, memory and flags.
// Source: Intel SDM volume 2, appendix A (opcode maps) and chapter 2 (formats); AMD APM volume 3 where it differs.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::x86 {

enum class OpcodeMap : u8 { primary, map_0f, map_0f38, map_0f3a, map_5, map_6 };
enum class Encoding : u8 { legacy, vex, evex };
enum class RepeatPrefix : u8 { none, repne, rep }; // F2, F3

// In the order of the ModRM.reg encoding of segment registers.
enum class Segment : u8 { es, cs, ss, ds, fs, gs, none };

// How the CPU decodes: what CS.L and CS.D (or real mode) make of the code.
enum class CodeSize : u8 { bits16, bits32, bits64 };

// Who carries the instruction out. `copy`: the host CPU, byte for byte but for its operands. All others have code of ours,
// named after the operation: `execute_<operation>` in src/engine/soft, or a case in the translator.
enum class Operation : u8 {
    undefined, // #UD
    copy,
    nop, // hints, multi-byte NOP, prefetches, ENDBR: no effect, the memory operand is not accessed
    // near control flow (translator)
    jump_conditional, jump_relative, jump_indirect, call_relative, call_indirect, return_near, loop, jump_cx_zero,
    // stack (translator, except as noted in the table)
    push, pop, push_immediate, push_segment, pop_segment, push_flags, pop_flags, push_all, pop_all, enter, leave,
    // address and odd memory operands
    lea, move_offset /* A0-A3 */, bit_test_memory /* BT/BTS/BTR/BTC m, r: bit offset reaches beyond the operand */,
    xlat, mask_move /* MASKMOVQ/MASKMOVDQU */, gather_scatter /* VSIB */, exchange_accumulator /* 90+r XCHG, but not NOP */,
    // far control flow and gates
    jump_far, call_far, return_far, interrupt, interrupt3, interrupt_overflow, interrupt1, interrupt_return,
    syscall, sysret, sysenter, sysexit,
    // strings
    string_move, string_compare, string_store, string_load, string_scan, string_in, string_out,
    // I/O
    in, out,
    // flags
    cli, sti, cld, std, stac, clac,
    // segments
    move_to_segment, move_from_segment, load_far_pointer /* LDS LES LFS LGS LSS */,
    load_access_rights, load_segment_limit, verify_read, verify_write, adjust_rpl,
    // system tables and registers
    lgdt, sgdt, lidt, sidt, lldt, sldt, ltr, str, smsw, lmsw, clts,
    move_from_control, move_to_control, move_from_debug, move_to_debug,
    invd, wbinvd, invlpg, invpcid, swapgs, hlt, monitor, mwait, pause,
    rdmsr, wrmsr, rdtsc, rdtscp, rdpmc, cpuid, rdpid, xgetbv, xsetbv, rdpkru, wrpkru,
    read_fs_base, read_gs_base, write_fs_base, write_gs_base,
    // legacy ALU that 64-bit mode lacks
    aaa, aas, aam, aad, daa, das, bound, salc, inc_dec_short /* 40-4F in 16/32-bit code */,
    // FPU and extended state images
    fxsave, fxrstor, xsave, xsavec, xsaveopt, xsaves, xrstor, xrstors, fnsave, frstor, fnstenv, fldenv,
    count
};

// What the memory operand named by ModRM (or implied) is used for.
enum class MemoryAccess : u8 { none, read, write, read_write, address_only };

// How wide the memory operand is. Numbers are bytes.
enum class MemoryWidth : u8 {
    none, b1, b2, b4, b8, b10, b16, b32, b64,
    operand,        // operand size: 2, 4 or 8
    vector,         // vector length: 16, 32 or 64
    vector_half, vector_quarter, vector_eighth,
    broadcast32, broadcast64, // EVEX: vector, or one element of 4 / 8 bytes when EVEX.b is set
    broadcast32_half, // EVEX conversions: half a vector, or one element of 4 bytes when EVEX.b is set
    broadcast16,
    broadcast16_half, broadcast16_quarter, // AVX512-FP16 conversions: a part of a vector, or one element of 2 bytes when EVEX.b is set
    operand_pair,   // twice the operand size (BOUND)
    far_pointer,    // operand size + 2
    pseudo_descriptor, // 6, or 10 in 64-bit mode
    x87_environment, x87_state, fx_state, xsave_state
};

// What a register field of the encoding names.
enum class FieldKind : u8 { none, gpr, gpr8, vector, mask, mmx, segment, control, debug, opcode_extension };

// Bits for FieldUse.
enum FieldUse : u8 { use_none = 0, use_read = 1, use_write = 2, use_read_write = 3 };

// Which unit's state the instruction needs; decides #NM, #UD and the vector state checks.
enum class Unit : u8 { integer, x87, mmx, sse, avx, avx512 };

// When the row may be executed, beyond what its encoding says. Feature names as in src/x86/cpuid.hpp. Two things the enum leaves
// to its user: EVEX forms of 128 and 256 bits that are not scalar need avx512vl besides, VEX and EVEX forms of gfni, aes, vaes and
// pclmulqdq need avx or avx512f besides.
enum class Feature : u8 {
    base, cmov, mmx, sse, sse2, sse3, ssse3, sse4_1, sse4_2, sse4a, popcnt, lzcnt, bmi1, bmi2, adx, movbe, aes, pclmulqdq, sha,
    gfni, vaes, vpclmulqdq, f16c, fma, avx, avx2, avx512f, avx512bw, avx512dq, avx512cd, avx512vl, avx512_ifma, avx512_vbmi,
    avx512_vbmi2, avx512_vnni, avx512_bitalg, avx512_vpopcntdq, avx512_bf16, avx512_fp16, avx512_vp2intersect, avx_vnni,
    rdrand, rdseed, clflush, clflushopt, clwb, cmpxchg8b, cmpxchg16b, lahf64, fsgsbase, rdtscp, rdpid, invpcid, xsave, xsaveopt,
    xsavec, xsaves, smap, pku, syscall, sysenter, monitor, movdiri, serialize, prefetchw, cldemote, wbnoinvd, x87,
    fxsr,
    count
};

// What follows the operands in the instruction's bytes.
enum class Immediate : u8 {
    none,
    byte,             // zero-extended
    signed_byte,      // sign-extended
    word,
    operand,          // operand size, but 4 sign-extended bytes for a 64-bit operand
    operand_full,     // operand size, 8 bytes too (MOV r, imm64)
    relative_byte, relative, // branch displacement, sign-extended
    far_pointer,      // offset of operand size, then a selector (immediate2)
    memory_offset,    // address size; goes to `displacement`
    word_byte,        // ENTER: size, then level (immediate2)
    byte_byte,        // EXTRQ/INSERTQ: length, then index (immediate2)
};

// How the operand size follows from mode, 66 and REX.W.
enum class OperandSize : u8 {
    normal,           // by mode; 66 toggles, REX.W makes it 8
    byte,             // always 1
    default64,        // 8 in 64-bit mode unless 66 makes it 2
    force64,          // 8 in 64-bit mode, 66 is ignored there (near branches, Intel's way)
    double_or_quad,   // 4, or 8 with REX.W/VEX.W in 64-bit mode; 66 has no say
    mode,             // 8 in 64-bit mode, else 4 (control and debug registers)
    input_output,     // as normal, but never 8
};

// What an EVEX form allows beyond its operands; bits.
enum EvexOption : u8 {
    evex_none = 0,
    evex_mask = 1,     // EVEX.aaa may name a mask
    evex_zero = 2,     // EVEX.z may be set
    evex_sae = 4,      // EVEX.b in the register form suppresses exceptions
    evex_rounding = 8, // EVEX.b in the register form overrides rounding with L'L
    evex_no_mask = 16, // the table's way to say that a form lacks what EVEX forms usually have
    evex_no_zero = 32,
};

// Arithmetic flags, as bits of RFLAGS.
constexpr u16 flag_cf = 0x001, flag_pf = 0x004, flag_af = 0x010, flag_zf = 0x040, flag_sf = 0x080, flag_of = 0x800;
constexpr u16 arithmetic_flags = flag_cf | flag_pf | flag_af | flag_zf | flag_sf | flag_of;

// One row of the opcode table. Rows that differ by mandatory prefix, ModRM.reg, ModRM.mod, VEX.W or VEX.L are separate rows.
struct OpcodeInfo {
    char const* name;          // lower-case mnemonic, for reports
    Operation operation;
    Unit unit;
    Feature feature;
    MemoryAccess memory;       // of the ModRM memory form (register forms have no memory access)
    MemoryWidth width;
    FieldKind reg_kind;        // what ModRM.reg names
    FieldUse reg_use;
    FieldKind rm_kind;         // what ModRM.rm names in the register form (mod == 3)
    FieldUse rm_use;
    FieldKind vvvv_kind;       // what VEX/EVEX.vvvv names
    FieldUse vvvv_use;
    u16 implicit_read;         // general registers read without being named, bit n = register n (RAX 0 .. R15 15)
    u16 implicit_write;
    u16 flags_read;            // arithmetic flags only
    u16 flags_written;         // always set or cleared to a defined or undefined value (unconditionally overwritten)
    u16 flags_maybe;           // may be written depending on operands (shifts by CL): not a kill, not a read by itself
    u8 alignment;              // #GP when the memory operand is not aligned to so many bytes (0: any alignment)
    bool lockable;             // LOCK allowed with a memory destination
    bool opcode_register;      // low three opcode bits (+REX.B) name a register: kind/use are in rm_kind/rm_use
    bool byte_operand;         // general operands are 8 bits wide
    bool masked;               // a mask may suppress elements of the memory operand: always (VMASKMOV), or where is_masked() says so (EVEX)
    bool vsib;                 // the memory operand's index is a vector register
    bool count_immediate;      // a shift by an immediate: the row that follows holds when the masked count is not 0
    bool distinct_destination; // #UD when the destination is also a source (AVX512-FP16 complex products)
    bool mandatory_66;         // 66 is part of the opcode, not an operand size
    Immediate immediate;
    OperandSize size_rule;
    u8 evex_options;           // EvexOption bits
    u8 displacement_scale;     // EVEX disp8 is multiplied by this; 0: by the memory operand's width
};

struct Instruction {
    OpcodeInfo const* info;    // never null; `undefined` rows for what does not exist
    u8 length;                 // bytes, 1..15
    u8 opcode;                 // last opcode byte
    OpcodeMap map;
    Encoding encoding;
    CodeSize code_size;
    RepeatPrefix repeat;       // last of F2/F3 seen, legacy encodings (also when it is a mandatory prefix)
    Segment segment_override;  // Segment::none if absent; in 64-bit mode only FS and GS are kept
    u8 operand_size;           // effective: 2, 4 or 8 bytes (byte_operand rows: 1)
    u8 address_size;           // effective: 2, 4 or 8 bytes
    bool lock;
    bool operand_size_prefix;  // 66
    bool address_size_prefix;  // 67
    u8 rex;                    // the REX byte, 0 if absent; for VEX and EVEX in 64-bit code what REX would be: 0x40 | W R X B
    bool vex_w;
    u8 vector_length;          // VEX.L / EVEX.L'L: 0 = 128, 1 = 256, 2 = 512
    u8 vvvv;                   // 0..31 already un-inverted (EVEX.V' included, but not with VSIB, whose index it extends)
    u8 evex_aaa;
    bool evex_z, evex_b;
    u8 vex_pp;                 // 0, 1 = 66, 2 = F3, 3 = F2
    bool has_modrm;
    u8 modrm;                  // raw byte
    u8 mod;
    u8 reg;                    // with REX.R / VEX.R / EVEX.R'
    u8 rm;                     // with REX.B; register number for mod == 3
    bool has_memory;           // a ModRM memory operand (mod != 3, or MOV moffs)
    bool has_sib;
    bool rip_relative;
    u8 base;                   // 0..15, 0xff: none
    u8 index;                  // 0..15 (VSIB: 0..31), 0xff: none
    u8 scale;                  // 1, 2, 4, 8
    i64 displacement;          // sign-extended; EVEX disp8*N already multiplied; for 16-bit addressing too
    u8 modrm_offset;           // where in the instruction's bytes; 0 if absent
    u8 opcode_offset;          // of the last opcode byte
    u8 immediate_offset;
    u8 immediate_size;         // bytes of all immediates together; 0: none
    u64 immediate;             // sign-extended where the instruction does so; far pointers: offset
    u16 immediate2;            // ENTER's level, far pointer's selector
    Segment segment;           // the segment of the memory operand, default or override
    u8 memory_size;            // bytes accessed by the memory operand (0: none, or too large for a byte: see info->width)
    u8 bytes[16];              // the instruction's bytes; those beyond `length` are what follows it in memory, or 0
};

enum class DecodeStatus : u8 {
    ok,
    need_more,   // `available` bytes do not hold the whole instruction
    too_long,    // more than 15 bytes: #GP
};

// Decodes one instruction at `code`, of which `available` bytes may be read. Never reads beyond them. An opcode that does not exist,
// is not in the table, or is invalid in this code size yields `ok` with info->operation == undefined (LOCK on a form that forbids it too).
DecodeStatus decode(u8 const* code, unsigned available, CodeSize, Instruction& out);

// Does a mask suppress elements of the memory operand?
inline bool is_masked(Instruction const& insn)
{
    return insn.encoding == Encoding::evex ? insn.evex_aaa != 0 : insn.info->masked;
}

// Bytes the ModRM memory operand of this instruction takes, however many; 0 for none and for XSAVE's, whose size XCR0 decides.
unsigned memory_operand_size(Instruction const&);

// General registers that an instruction reads and writes: bit n = register n. AH to BH count as RAX to RBX, a partial write as a read, too.
struct RegisterUse {
    u16 read;
    u16 written;
};

// All of them: by fields, implied, and in addresses of memory operands named by ModRM.
RegisterUse general_registers(Instruction const&);

} // namespace anyhyve::x86
