// The decoder against Zydis: length, validity, operands, memory accesses, registers and flags of random instructions must agree.
//
// ANYHYVE_DECODER_SEED and ANYHYVE_DECODER_ROUNDS (instructions per mode and source) override the defaults.
#include "x86/opcode_iterator.hpp"

#if __has_include(<Zydis/Zydis.h>)
#include <Zydis/Zydis.h>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

namespace anyhyve::x86 {
namespace {

// xorshift64*: fast, and good enough to choose bytes.
struct Random {
    u64 state;
    u64 operator()()
    {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545f4914f6cdd1du >> 8;
    }
};

u64 setting(char const* name, u64 otherwise)
{
    auto const* const text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

template<typename Value>
bool is_one_of(Value value, std::initializer_list<Value> values)
{
    return std::find(values.begin(), values.end(), value) != values.end();
}

// Instructions that exist and that we declare undefined by policy: CPUID does not offer them.
bool is_undefined_by_policy(ZydisDecodedInstruction const& other)
{
    switch (other.meta.isa_ext) {
    case ZYDIS_ISA_EXT_AMD3DNOW:
    case ZYDIS_ISA_EXT_AMD_INVLPGB:
    case ZYDIS_ISA_EXT_AMX_BF16:
    case ZYDIS_ISA_EXT_AMX_INT8:
    case ZYDIS_ISA_EXT_AMX_TILE:
    case ZYDIS_ISA_EXT_CET:
    case ZYDIS_ISA_EXT_CLZERO:
    case ZYDIS_ISA_EXT_ENQCMD:
    case ZYDIS_ISA_EXT_FMA4:
    case ZYDIS_ISA_EXT_HRESET:
    case ZYDIS_ISA_EXT_KEYLOCKER:
    case ZYDIS_ISA_EXT_KEYLOCKER_WIDE:
    case ZYDIS_ISA_EXT_MCOMMIT:
    case ZYDIS_ISA_EXT_MONITORX:
    case ZYDIS_ISA_EXT_PADLOCK:
    case ZYDIS_ISA_EXT_PCONFIG:
    case ZYDIS_ISA_EXT_PT:
    case ZYDIS_ISA_EXT_RDPRU:
    case ZYDIS_ISA_EXT_RTM:
    case ZYDIS_ISA_EXT_SGX:
    case ZYDIS_ISA_EXT_SGX_ENCLV:
    case ZYDIS_ISA_EXT_SMX:
    case ZYDIS_ISA_EXT_SNP:
    case ZYDIS_ISA_EXT_SVM:
    case ZYDIS_ISA_EXT_TBM:
    case ZYDIS_ISA_EXT_TDX:
    case ZYDIS_ISA_EXT_TSX_LDTRK:
    case ZYDIS_ISA_EXT_UINTR:
    case ZYDIS_ISA_EXT_VMFUNC:
    case ZYDIS_ISA_EXT_VTX:
    case ZYDIS_ISA_EXT_WAITPKG:
    case ZYDIS_ISA_EXT_XOP: return true;
    default: break;
    }
    switch (other.meta.isa_set) {
    case ZYDIS_ISA_SET_AVX512ER_512:
    case ZYDIS_ISA_SET_AVX512ER_SCALAR:
    case ZYDIS_ISA_SET_AVX512PF_512:
    case ZYDIS_ISA_SET_AVX512_4FMAPS_512:
    case ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR:
    case ZYDIS_ISA_SET_AVX512_4VNNIW_512: return true;
    default: break;
    }
    return is_one_of(other.mnemonic, { ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1, ZYDIS_MNEMONIC_UD2, ZYDIS_MNEMONIC_RSM, ZYDIS_MNEMONIC_MOVDIR64B });
}

struct Registers {
    u32 read = 0;
    u32 maybe_written = 0; // what is written on a condition keeps its value otherwise: to call it read is right, too
    u32 written = 0;

    void add(unsigned number, bool reads, bool writes)
    {
        read |= u32 { reads } << number;
        written |= u32 { writes } << number;
    }
};

class Comparison {
public:
    Comparison(CodeSize size, u8 const* bytes, unsigned available) : m_bytes(bytes), m_available(available)
    {
        m_status = decode(bytes, available, size, m_ours);
        static auto const decoders = make_decoders();
        m_other_status = ZydisDecoderDecodeFull(&decoders[static_cast<unsigned>(size)], bytes, available, &m_other, m_operands);
    }

    // Empty when both agree.
    std::string run()
    {
        if (m_other_status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
            return m_status == DecodeStatus::too_long ? "" : "too long";
        if (m_other_status == ZYDIS_STATUS_NO_MORE_DATA)
            return m_status == DecodeStatus::need_more || (m_status == DecodeStatus::ok && m_ours.info == &undefined_instruction) ? "" : "needs more";
        bool const ours_valid = m_status == DecodeStatus::ok && m_ours.info->operation != Operation::undefined;
        if (!ZYAN_SUCCESS(m_other_status))
            return !ours_valid || is_valid_for_us_only() ? "" : fmt::format("valid for us only: ({:x})", m_other_status & 0xff);
        if (!ours_valid)
            return is_undefined_by_policy(m_other) || is_valid_for_zydis_only() ? "" : "valid for Zydis only";
        if (m_ours.length != m_other.length)
            return fmt::format("length: {} {}", m_ours.length, m_other.length);
        // Zydis takes [disp32] through SIB with REX.B and 67 for [R13D].
        if (m_ours.has_sib && m_ours.base == 0xff && m_ours.address_size == 4 && (m_ours.rex & 1))
            return "";
        for (auto check : { &Comparison::memory, &Comparison::fields, &Comparison::registers, &Comparison::flags, &Comparison::immediates })
            if (auto text = (this->*check)(); !text.empty())
                return text;
        return "";
    }

    std::string name() const
    {
        if (ZYAN_SUCCESS(m_other_status))
            return ZydisMnemonicGetString(m_other.mnemonic);
        return m_status == DecodeStatus::ok ? m_ours.info->name : "?";
    }

    std::string bytes() const
    {
        std::string text;
        for (unsigned n = 0; n < std::min(m_available, 15u); ++n)
            text += fmt::format("{:02x} ", m_bytes[n]);
        return text;
    }

private:
    static std::array<ZydisDecoder, 3> make_decoders()
    {
        std::array<ZydisDecoder, 3> decoders;
        ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
        ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
        ZydisDecoderInit(&decoders[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
        for (auto& decoder : decoders) // what a CPU without them takes for no-operations, we do too
            for (auto mode : { ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_CLDEMOTE })
                ZydisDecoderEnableMode(&decoder, mode, ZYAN_FALSE);
        return decoders;
    }

    bool is_valid_for_us_only() const;
    bool is_valid_for_zydis_only() const;
    bool has_size_of_its_own() const;
    bool claims_more_registers() const;
    bool has_incomparable_registers() const;
    bool changes_more_flags() const;
    ZydisDecodedOperand const* memory_operand() const;
    std::string memory() const;
    std::string fields() const;
    std::string field(ZydisDecodedOperand const& operand) const;
    std::string registers() const;
    std::string flags() const;
    std::string immediates() const;
    Registers other_registers() const;

    u8 const* m_bytes;
    unsigned m_available;
    Instruction m_ours;
    DecodeStatus m_status;
    ZydisDecodedInstruction m_other;
    ZydisDecodedOperand m_operands[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus m_other_status;
};

// Zydis has no W1 rows outside of 64-bit mode for the conversions between general and vector registers, where the manuals say that W is
// ignored ("Outside of 64b mode, the EVEX.W field is ignored").
bool Comparison::is_valid_for_us_only() const
{
    auto const& info = *m_ours.info;
    bool const converts = m_ours.encoding == Encoding::evex && (info.reg_kind == FieldKind::gpr || info.rm_kind == FieldKind::gpr);
    return converts && m_ours.vex_w && m_ours.code_size != CodeSize::bits64;
}

// Knights Corner shares VEX and EVEX opcode space with nobody else's CPUs.
bool Comparison::is_valid_for_zydis_only() const
{
    return m_other.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX || is_one_of(m_other.meta.isa_ext, { ZYDIS_ISA_EXT_KNC, ZYDIS_ISA_EXT_KNCE, ZYDIS_ISA_EXT_KNCV });
}

// CLFLUSH and kin are treated as reads of one byte; the size of XSAVE's area depends on XCR0.
bool Comparison::has_size_of_its_own() const
{
    return is_one_of(m_ours.info->feature, { Feature::clflush, Feature::clflushopt, Feature::clwb }) || m_ours.info->width == MemoryWidth::xsave_state;
}

// Instructions for which we claim more registers than Zydis does: string instructions use RCX only with a repeat prefix, BSF and BSR keep
// their destination when there is no bit (and TZCNT and LZCNT are those on CPUs without BMI1 and LZCNT), IN's destination size is not told apart, POPA.
bool Comparison::claims_more_registers() const
{
    auto const operation = m_ours.info->operation;
    return (operation >= Operation::string_move && operation <= Operation::in) || operation == Operation::pop_all
        || is_one_of(m_other.mnemonic, { ZYDIS_MNEMONIC_BSF, ZYDIS_MNEMONIC_BSR, ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_LZCNT });
}

// No-operations do not read what ModRM names; Zydis decides for PAUSE where the CPU executes XCHG R8, RAX (F3 REX.B 90); it takes RCX and R11
// of SYSCALL for 16-bit registers in 16-bit code.
bool Comparison::has_incomparable_registers() const
{
    return is_one_of(m_other.mnemonic, { ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PAUSE }) || (m_other.mnemonic == ZYDIS_MNEMONIC_SYSCALL && m_ours.code_size != CodeSize::bits64);
}

// PTEST's VEX forms and VTESTPS clear OF, SF, AF and PF like PTEST does (SDM vol. 2B and 2C); MOV to and from debug registers leaves flags
// undefined like that of control registers (SDM vol. 2B). REPE and REPNE test the ZF of the comparison before, not that of before.
bool Comparison::changes_more_flags() const
{
    return is_one_of(m_other.mnemonic, { ZYDIS_MNEMONIC_VPTEST, ZYDIS_MNEMONIC_VTESTPS, ZYDIS_MNEMONIC_VTESTPD })
        || is_one_of(m_ours.info->operation, { Operation::move_from_debug, Operation::move_to_debug, Operation::move_from_control, Operation::move_to_control });
}

ZydisDecodedOperand const* Comparison::memory_operand() const
{
    for (unsigned n = 0; n < m_other.operand_count; ++n)
        if (m_operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY && m_operands[n].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            return &m_operands[n];
    return nullptr;
}

// 0..15, or 0xff for no general register (or RIP).
u8 general_register(ZydisRegister name)
{
    auto const enclosing = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, name);
    if (enclosing >= ZYDIS_REGISTER_RAX && enclosing <= ZYDIS_REGISTER_R15)
        return static_cast<u8>(enclosing - ZYDIS_REGISTER_RAX);
    return 0xff;
}

std::string Comparison::memory() const
{
    auto const& info = *m_ours.info;
    auto const* const other = memory_operand();
    if (!other)
        return m_ours.has_memory && info.memory != MemoryAccess::address_only ? "memory operand for us only" : "";
    if (!m_ours.has_memory)
        return "memory operand for Zydis only";
    bool const reads = info.memory == MemoryAccess::read || info.memory == MemoryAccess::read_write;
    bool const writes = info.memory == MemoryAccess::write || info.memory == MemoryAccess::read_write;
    bool const address_only = other->mem.type == ZYDIS_MEMOP_TYPE_AGEN || info.memory == MemoryAccess::address_only;
    if (!address_only) {
        if (reads != ((other->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0) || writes != ((other->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0))
            return fmt::format("memory use: {} {}", static_cast<int>(info.memory), other->actions);
        if (!has_size_of_its_own() && memory_operand_size(m_ours) != other->size / 8u)
            return fmt::format("memory size: {} {}", memory_operand_size(m_ours), other->size / 8);
    }
    // Zydis sign-extends the offset of MOV moffs.
    auto const other_displacement = other->mem.disp.has_displacement ? other->mem.disp.value : 0;
    auto const difference = static_cast<u64>(m_ours.displacement ^ other_displacement);
    u64 const compared = m_ours.info->operation == Operation::move_offset && m_ours.address_size < 8 ? (u64 { 1 } << m_ours.address_size * 8) - 1 : ~u64 {};
    if (difference & compared)
        return fmt::format("displacement: {:x} {:x}", m_ours.displacement, other_displacement);
    if (m_ours.base != general_register(other->mem.base))
        return fmt::format("base: {} {}", m_ours.base, other->mem.base);
    auto const other_index = other->mem.type == ZYDIS_MEMOP_TYPE_VSIB ? static_cast<u8>(ZydisRegisterGetId(other->mem.index)) : general_register(other->mem.index);
    if (m_ours.index != other_index || (other_index != 0xff && m_ours.scale != std::max<u8>(other->mem.scale, 1)))
        return fmt::format("index: {}*{} {}*{}", m_ours.index, m_ours.scale, other_index, other->mem.scale);
    if (m_ours.rip_relative != is_one_of(other->mem.base, { ZYDIS_REGISTER_RIP, ZYDIS_REGISTER_EIP }))
        return "RIP-relative";
    if (info.operation != Operation::lea && static_cast<int>(m_ours.segment) != other->mem.segment - ZYDIS_REGISTER_ES)
        return fmt::format("segment: {} {}", static_cast<int>(m_ours.segment), other->mem.segment - ZYDIS_REGISTER_ES);
    return "";
}

FieldKind kind_of(ZydisRegister name)
{
    switch (ZydisRegisterGetClass(name)) {
    case ZYDIS_REGCLASS_GPR8: return FieldKind::gpr8;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return FieldKind::gpr;
    case ZYDIS_REGCLASS_MMX: return FieldKind::mmx;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM: return FieldKind::vector;
    case ZYDIS_REGCLASS_MASK: return FieldKind::mask;
    case ZYDIS_REGCLASS_SEGMENT: return FieldKind::segment;
    case ZYDIS_REGCLASS_CONTROL: return FieldKind::control;
    case ZYDIS_REGCLASS_DEBUG: return FieldKind::debug;
    default: return FieldKind::none;
    }
}

std::string Comparison::fields() const
{
    for (unsigned n = 0; n < m_other.operand_count; ++n)
        if (m_operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER)
            if (auto text = field(m_operands[n]); !text.empty())
                return text;
    return "";
}

// Whether the field that encodes a register operand of Zydis' has the same kind, number and use for us.
std::string Comparison::field(ZydisDecodedOperand const& operand) const
{
    auto const kind = kind_of(operand.reg.value);
    if (kind == FieldKind::none || has_incomparable_registers())
        return "";
    auto number = ZydisRegisterGetId(operand.reg.value);
    if (kind == FieldKind::gpr8 && m_ours.rex != 0 && number >= 4)
        number -= 4; // Zydis: AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B ...
    auto const& info = *m_ours.info;
    auto const compare = [&](FieldKind our_kind, FieldUse use, unsigned our_number) -> std::string {
        bool const writes = operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        bool const merges = (kind == FieldKind::vector || kind == FieldKind::mask) && m_ours.evex_aaa != 0; // the destination's old elements count as read for Zydis
        bool const reads = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) && !(merges && writes);
        if (our_kind != kind || our_number != static_cast<unsigned>(number))
            return fmt::format("field: kind {} {} number {} {}", static_cast<int>(our_kind), static_cast<int>(kind), our_number, number);
        if (writes != ((use & use_write) != 0) || (reads && !(use & use_read)))
            return fmt::format("field use: kind {} {} {}", static_cast<int>(kind), static_cast<int>(use), operand.actions);
        return "";
    };
    switch (operand.encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: return compare(info.reg_kind, info.reg_use, m_ours.reg);
    case ZYDIS_OPERAND_ENCODING_OPCODE:
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: return compare(info.rm_kind, info.rm_use, m_ours.rm);
    case ZYDIS_OPERAND_ENCODING_NDSNDD: return compare(info.vvvv_kind, info.vvvv_use, m_ours.vvvv);
    default: return "";
    }
}

Registers Comparison::other_registers() const
{
    Registers result;
    for (unsigned n = 0; n < m_other.operand_count; ++n) {
        auto const& operand = m_operands[n];
        auto const add = [&](ZydisRegister name, bool reads, bool writes) {
            if (auto const number = general_register(name); number != 0xff)
                result.add(number, reads, writes);
        };
        if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER)
            add(operand.reg.value, operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ, operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
        if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && (operand.actions & ZYDIS_OPERAND_ACTION_CONDWRITE) && general_register(operand.reg.value) != 0xff)
            result.maybe_written |= 1u << general_register(operand.reg.value);
        if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            add(operand.mem.base, true, false);
            add(operand.mem.index, true, false);
        }
        // A write of 8 or 16 bits keeps the rest of the register.
        if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.size < 32 && (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            add(operand.reg.value, true, true);
    }
    return result;
}

std::string Comparison::registers() const
{
    auto const ours = general_registers(m_ours);
    auto const other = other_registers();
    if (has_incomparable_registers())
        return "";
    if (claims_more_registers())
        return (other.read & ~ours.read) || (other.written & ~ours.written) ? fmt::format("registers: {:x} {:x}", ours.read, other.read) : "";
    if ((other.read & ~ours.read) || (ours.read & ~(other.read | other.maybe_written)))
        return fmt::format("registers read: {:x} {:x}", ours.read, other.read);
    if (ours.written != other.written)
        return fmt::format("registers written: {:x} {:x}", ours.written, other.written);
    return "";
}

std::string Comparison::flags() const
{
    auto const& info = *m_ours.info;
    auto const& other = *m_other.cpu_flags;
    bool const repeats = is_one_of(m_ours.info->operation, { Operation::string_compare, Operation::string_scan });
    auto const changed = (other.modified | other.set_0 | other.set_1 | other.undefined) & arithmetic_flags;
    if (!repeats && (other.tested & arithmetic_flags & ~info.flags_read))
        return fmt::format("flags read: {:x} {:x}", info.flags_read, other.tested & arithmetic_flags);
    if (info.flags_read & ~other.tested)
        return fmt::format("flags read for us only: {:x} {:x}", info.flags_read, other.tested & arithmetic_flags);
    if (changes_more_flags())
        return "";
    if (info.flags_written & ~changed)
        return fmt::format("flags written: {:x} {:x}", info.flags_written, changed);
    if (u32 const all = info.flags_written | info.flags_maybe; changed & ~all || all & ~changed)
        return fmt::format("flags changed: {:x} {:x}", all, changed);
    return "";
}

std::string Comparison::immediates() const
{
    auto const& raw = m_other.raw;
    if (raw.imm[0].size != 0 && m_ours.info->immediate != Immediate::memory_offset && (m_ours.immediate_offset != raw.imm[0].offset || m_ours.immediate_size != (raw.imm[0].size + raw.imm[1].size) / 8))
        return fmt::format("immediate at: {}+{} {}+{}", m_ours.immediate_offset, m_ours.immediate_size, raw.imm[0].offset, (raw.imm[0].size + raw.imm[1].size) / 8);
    if (raw.imm[0].size == 0 && m_ours.immediate_size != 0)
        return "immediate for us only";
    if (m_ours.has_modrm && m_ours.modrm_offset != raw.modrm.offset)
        return "ModRM's place";
    return "";
}

// Collects disagreements by instruction and kind, so that one wrong row is one line.
class Report {
public:
    void add(Comparison& comparison, std::string const& text, CodeSize size)
    {
        auto const kind = text.substr(0, text.find(':'));
        auto& entry = m_entries[comparison.name() + ": " + kind];
        if (entry.count++ == 0)
            entry.example = fmt::format("{}  {}-bit: {}", comparison.bytes(), 16 << static_cast<int>(size), text);
    }

    ~Report()
    {
        for (auto const& [key, entry] : m_entries)
            ADD_FAILURE() << key << " x" << entry.count << "  " << entry.example;
    }

private:
    struct Entry {
        unsigned count = 0;
        std::string example;
    };
    std::map<std::string, Entry> m_entries;
};

constexpr CodeSize code_sizes[] = { CodeSize::bits16, CodeSize::bits32, CodeSize::bits64 };

class DecoderAgainstZydis : public testing::Test {
protected:
    DecoderAgainstZydis()
    {
        u64 const seed = setting("ANYHYVE_DECODER_SEED", static_cast<u64>(std::chrono::steady_clock::now().time_since_epoch().count()));
        fmt::print("seed {}\n", seed);
        m_random.state = seed | 1;
    }

    void compare(u8 const* bytes, unsigned available, CodeSize size)
    {
        Comparison comparison(size, bytes, available);
        if (auto const text = comparison.run(); !text.empty())
            m_report.add(comparison, text, size);
    }

    Random m_random;
    u64 const m_rounds = setting("ANYHYVE_DECODER_ROUNDS", 250'000);
    Report m_report;
};

// Random bytes after prefixes that lead into the larger maps.
TEST_F(DecoderAgainstZydis, RandomBytes)
{
    constexpr u8 starts[][2] = { { 0x0f, 0 }, { 0x0f, 0x38 }, { 0x0f, 0x3a }, { 0xc4, 0 }, { 0xc5, 0 }, { 0x62, 0 }, { 0x66, 0x0f }, { 0xf3, 0x0f }, { 0xf2, 0x0f }, { 0x48, 0 }, { 0xf0, 0 } };
    for (auto const size : code_sizes)
        for (u64 round = 0; round < m_rounds; ++round) {
            u8 bytes[16];
            u64 const words[] = { m_random() << 8 | (m_random() & 255), m_random() << 8 | (m_random() & 255) };
            std::memcpy(bytes, words, sizeof bytes);
            if (auto const choice = m_random() % 24; choice < std::size(starts)) {
                bytes[0] = starts[choice][0];
                if (starts[choice][1])
                    bytes[1] = starts[choice][1];
            }
            compare(bytes, m_random() % 4 == 0 ? static_cast<unsigned>(m_random() % 15) : 15, size);
        }
}

// Every row of the table, in random encodings.
TEST_F(DecoderAgainstZydis, EveryForm)
{
    std::vector<OpcodeForm> forms;
    for_each_opcode_form([&](OpcodeForm const& form) {
        if (!form.follows_another())
            forms.push_back(form);
    });
    EncodingSampler sampler(m_random);
    for (auto const size : code_sizes)
        for (u64 round = 0; round < m_rounds * 2; ++round) {
            auto const& form = forms[m_random() % forms.size()];
            if (!form.exists_in(size))
                continue;
            u8 bytes[16];
            sampler.sample(form, size, bytes);
            compare(bytes, 15, size);
        }
}

} // namespace
} // namespace anyhyve::x86

#endif
