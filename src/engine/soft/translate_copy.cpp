// Instructions that the host runs itself: copied, with their R13-R15 and memory operands re-encoded.
// Spec: Intel SDM vol. 2 chapter 2 (encodings, REX, VEX, EVEX).
#include <cstring>

#include "engine/soft/mode.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Encoding;
using x86::FieldKind;
using x86::MemoryAccess;
using x86::OpcodeMap;
using x86::Operation;

namespace {

bool is_gpr(FieldKind kind)
{
    return kind == FieldKind::gpr || kind == FieldKind::gpr8;
}

// A general-register field of an instruction: which guest register, and which host register stands for it.
struct Field {
    bool present = false;
    u8 guest = 0;
    u8 host = 0;
    u8 use = 0;
};

struct Fields {
    Field reg, rm, vvvv;
};

// Byte registers 4-7 without REX are AH, CH, DH, BH: they cannot be encoded together with a REX prefix.
bool is_high_byte(x86::Instruction const& insn, FieldKind kind, u8 reg)
{
    return insn.rex == 0 && insn.encoding == Encoding::legacy && kind == FieldKind::gpr8 && reg >= 4 && reg < 8;
}

bool names_high_byte(x86::Instruction const& insn)
{
    return is_high_byte(insn, insn.info->reg_kind, insn.reg);
}

// Those with AH to BH are never in memory.
Fields fields_of(x86::Instruction const& insn)
{
    auto const& info = *insn.info;
    Fields fields;
    if (is_gpr(info.reg_kind) && !names_high_byte(insn))
        fields.reg = { true, insn.reg, insn.reg, info.reg_use };
    if (is_gpr(info.rm_kind) && !insn.has_memory && !is_high_byte(insn, info.rm_kind, insn.rm))
        fields.rm = { true, insn.rm, insn.rm, info.rm_use };
    if (is_gpr(info.vvvv_kind))
        fields.vvvv = { true, insn.vvvv, insn.vvvv, info.vvvv_use };
    return fields;
}

// Is 66 to be written? As part of the opcode, always; as the operand-size prefix, where 64-bit host code needs it for 16 bits.
bool has_prefix_66(x86::Instruction const& insn)
{
    if (insn.info->mandatory_66)
        return true;
    if (insn.info->unit != x86::Unit::integer)
        return insn.operand_size_prefix;
    return insn.operand_size == 2 && !insn.info->byte_operand;
}

// VEX.W and EVEX.W do not widen general operands outside of 64-bit code, nor those that are not named (the lengths of VPCMPESTRI).
bool keeps_w(x86::Instruction const& insn)
{
    return insn.code_size == x86::CodeSize::bits64
        || !(is_gpr(insn.info->reg_kind) || is_gpr(insn.info->rm_kind) || is_gpr(insn.info->vvvv_kind) || insn.info->implicit_read);
}

// VBLENDVPS and its relatives: the immediate names a register, whose top bit counts in 64-bit code only.
bool names_register_by_immediate(x86::Instruction const& insn)
{
    return insn.encoding == Encoding::vex && insn.map == OpcodeMap::map_0f3a && insn.opcode >= 0x4a && insn.opcode <= 0x4c;
}

bool is_zero_all_or_upper(x86::Instruction const& insn)
{
    return insn.encoding == Encoding::vex && insn.map == OpcodeMap::map_0f && insn.opcode == 0x77;
}

} // namespace

// The instruction's bytes with other registers. reg, vvvv: full numbers. `memory`: the operand; without one, rm is a register.
void Translator::emit_encoded(x86::Instruction const& insn, u8 reg, u8 vvvv, u8 rm, HostMemory const* memory)
{
    if (memory)
        rm = memory->base;
    bool const high_index = memory && memory->index != HostMemory::no_register && memory->index >= 8;
    auto const operand = [&](bool scaled) {
        if (memory)
            m_asm.memory_operand(reg, *memory, scaled);
        else
            m_asm.modrm(3, reg, rm);
    };
    u8 const* const bytes = insn.bytes;
    if (insn.encoding == Encoding::legacy) {
        if (has_prefix_66(insn))
            m_asm.byte(0x66);
        if (insn.lock)
            m_asm.byte(0xf0);
        if (insn.repeat == x86::RepeatPrefix::rep)
            m_asm.byte(0xf3);
        else if (insn.repeat == x86::RepeatPrefix::repne)
            m_asm.byte(0xf2);
        u8 rex = insn.rex & 0x48; // presence and W
        if (reg >= 8)
            rex |= 0x44;
        if (rm >= 8)
            rex |= 0x41;
        if (high_index)
            rex |= 0x42;
        bool const low_byte = insn.info->reg_kind == FieldKind::gpr8 && reg >= 4 && reg < 8 && !names_high_byte(insn); // SPL to DIL
        if (rex || insn.rex || low_byte)
            m_asm.byte(rex | 0x40);
        if (insn.map != OpcodeMap::primary)
            m_asm.byte(0x0f);
        if (insn.map == OpcodeMap::map_0f38)
            m_asm.byte(0x38);
        else if (insn.map == OpcodeMap::map_0f3a)
            m_asm.byte(0x3a);
        u8 opcode = insn.opcode;
        if (insn.map == OpcodeMap::primary && opcode == 0x82)
            opcode = 0x80; // an alias that 64-bit mode lacks
        if (insn.info->opcode_register)
            opcode = static_cast<u8>((opcode & ~7) | (rm & 7));
        m_asm.byte(opcode);
        if (insn.has_modrm)
            operand(false);
    } else if (insn.encoding == Encoding::vex) {
        // Always the three-byte form.
        u8 const map = insn.map == OpcodeMap::map_0f ? 1 : insn.map == OpcodeMap::map_0f38 ? 2 : 3;
        m_asm.byte(0xc4);
        m_asm.byte(static_cast<u8>((reg >= 8 ? 0 : 0x80) | (high_index ? 0 : 0x40) | (rm >= 8 ? 0 : 0x20) | map));
        m_asm.byte(static_cast<u8>((insn.vex_w && keeps_w(insn) ? 0x80 : 0) | (~vvvv & 15) << 3 | insn.vector_length << 2 | insn.vex_pp));
        m_asm.byte(insn.opcode);
        if (insn.has_modrm)
            operand(false);
    } else {
        u8 const prefix = static_cast<u8>(insn.opcode_offset - 4);
        u8 p0 = static_cast<u8>(bytes[prefix + 1] & 0x0f); // map and fixed bits
        bool const rm_vector_high = !memory && !(is_gpr(insn.info->rm_kind)) && rm >= 16;
        p0 = static_cast<u8>(p0 | (reg & 8 ? 0 : 0x80) | (rm_vector_high || high_index ? 0 : 0x40) | (rm & 8 ? 0 : 0x20) | (reg & 16 ? 0 : 0x10));
        u8 const p1 = static_cast<u8>((bytes[prefix + 2] & (keeps_w(insn) ? 0x87 : 0x07)) | (~vvvv & 15) << 3);
        u8 const p2 = static_cast<u8>((bytes[prefix + 3] & 0xf7) | (vvvv & 16 ? 0 : 8));
        m_asm.byte(0x62);
        m_asm.byte(p0);
        m_asm.byte(p1);
        m_asm.byte(p2);
        m_asm.byte(insn.opcode);
        operand(true);
    }
    if (insn.code_size != x86::CodeSize::bits64 && names_register_by_immediate(insn))
        m_asm.byte(bytes[insn.immediate_offset] & 0x7f);
    else if (insn.immediate_size)
        m_asm.bytes(bytes + insn.immediate_offset, insn.immediate_size);
}

// VZEROALL and VZEROUPPER outside of 64-bit code: registers 8 and up stay. A VEX.128 instruction clears what is above its operand.
void Translator::emit_zero_eight(bool all)
{
    for (u8 n = 0; n < 8; ++n) {
        u8 const vvvv = all ? n : 0;
        m_asm.byte(0xc5);
        m_asm.byte(static_cast<u8>(0x80 | (~vvvv & 15) << 3 | 1)); // 128 bits, 66
        m_asm.byte(all ? 0xef : 0x6f);                             // VPXOR n, n, n; VMOVDQA n, n
        m_asm.modrm(3, n, n);
    }
}

bool Translator::may_trap(x86::Instruction const& insn)
{
    if (insn.info->unit != x86::Unit::integer || insn.info->alignment != 0)
        return true;
    bool const divide = insn.map == OpcodeMap::primary && (insn.opcode == 0xf6 || insn.opcode == 0xf7) && (insn.modrm >> 3 & 7) >= 6;
    return divide || (insn.map == OpcodeMap::primary && insn.opcode == 0x9b);
}

void Translator::emit_copy(Step const& step)
{
    if (step.insn.has_memory && step.insn.info->memory != MemoryAccess::none)
        emit_copy_memory_form(step);
    else
        emit_copy_register_form(step);
}

// R13-R15 are loaded into the host registers of the same names, which nothing else uses here: the fields stay as they are.
void Translator::emit_copy_register_form(Step const& step)
{
    auto const& insn = step.insn;
    before(step);
    Fields const fields = fields_of(insn);
    for (Field const* field : { &fields.reg, &fields.rm, &fields.vvvv }) {
        if (field->present && spilled(field->guest) && field->guest == m_plan.b)
            m_addend_slot = no_slot;
        if (field->present && spilled(field->guest) && ((field->use & x86::use_read) || insn.operand_size < 4))
            m_asm.gs_load(true, field->guest, gpr_offset(field->guest));
    }
    u8* const begin = here();
    if (is64() && !insn.lock)
        m_asm.bytes(insn.bytes, insn.length);
    else if (is_zero_all_or_upper(insn))
        emit_zero_eight(insn.vector_length == 1);
    else
        emit_encoded(insn, insn.reg, insn.vvvv, insn.rm, nullptr);
    if (may_trap(insn))
        note_trap_point(step, begin);
    for (Field const* field : { &fields.reg, &fields.rm, &fields.vvvv }) {
        if (field->present && spilled(field->guest) && (field->use & x86::use_write))
            m_asm.gs_store(true, gpr_offset(field->guest), field->guest);
    }
}

static unsigned access_size(x86::Instruction const& insn)
{
    return insn.memory_size;
}

// An exception that waits in the x87 unit comes before those of the operand's address.
void Translator::emit_pending_x87_check(Step const& step)
{
    auto const& insn = step.insn;
    bool const x87 = insn.info->unit == x86::Unit::x87, mmx = insn.info->unit == x86::Unit::mmx;
    bool const stores_control_or_status = x87 && (insn.opcode == 0xd9 || insn.opcode == 0xdd) && (insn.modrm >> 3 & 7) == 7;
    bool const converts = mmx && insn.opcode == 0x2a; // CVTPI2PS and CVTPI2PD from memory leave the MMX registers alone
    if ((!x87 && !mmx) || stores_control_or_status || converts)
        return;
    u8* const begin = here();
    m_asm.byte(0x9b);
    note_trap_point(step, begin);
}

void Translator::emit_copy_memory_form(Step const& step)
{
    auto const& insn = step.insn;
    auto const& info = *insn.info;
    emit_pending_x87_check(step);
    bool const writes = info.memory == MemoryAccess::write || info.memory == MemoryAccess::read_write;
    bool const masked = x86::is_masked(insn);
    Reference const reference = emit_operand(step, {
        .segment = insn.segment,
        .size = static_cast<u16>(access_size(insn)),
        .access = writes ? Access::write : Access::read,
        .reads = info.memory != MemoryAccess::write || masked,
        .alignment = masked ? u8 { 0 } : info.alignment, // the host minds it where the mask lets it
        .stack = insn.base == x86::rsp && insn.segment == x86::Segment::ss && insn.address_size == 8,
    });
    if (reference.site) {
        reference.site->masked = masked;
        reference.site->locked = insn.lock || (insn.map == OpcodeMap::primary && (insn.opcode == 0x86 || insn.opcode == 0x87));
    }
    emit_access(reference, [&](HostMemory where) { emit_copy_body(step, where); });
}

// A scratch register that may stand for a guest register beside an operand: none that its address is made of.
HostRegister Translator::free_scratch(HostMemory where, HostRegister taken) const
{
    for (HostRegister reg : { m_plan.a, m_plan.address, m_plan.b }) {
        if (reg != where.base && reg != where.index && reg != taken)
            return reg;
    }
    ASSERT(false, "an operand's address takes one scratch register");
    return m_plan.a;
}

// The instruction on `where`.
void Translator::emit_copy_body(Step const& step, HostMemory where)
{
    auto const& insn = step.insn;
    before(step);
    Fields fields = fields_of(insn);
    bool const folded = where.index != HostMemory::no_register || where.base != m_plan.address || where.displacement != 0;
    // Or when the address takes two scratch registers, and the instruction wants the others.
    bool const two_spilled = fields.reg.present && fields.vvvv.present && spilled(fields.reg.guest) && spilled(fields.vvvv.guest);
    bool const cramped = where.base == m_plan.address && where.index == m_plan.b && two_spilled;
    if (folded && (names_high_byte(insn) || cramped)) {
        m_asm.lea(m_plan.address, where);
        where = m_plan.address;
    }
    HostRegister taken = HostMemory::no_register;
    for (Field* field : { &fields.reg, &fields.vvvv }) {
        if (!field->present || !spilled(field->guest))
            continue;
        bool const same = field == &fields.vvvv && fields.reg.present && fields.reg.guest == field->guest; // MULX with one destination
        field->host = same ? fields.reg.host : free_scratch(where, taken);
        taken = field->host;
        if (field->host == m_plan.b)
            m_addend_slot = no_slot;
        if ((field->use & x86::use_read) || insn.operand_size < 4)
            m_asm.gs_load(true, field->host, gpr_offset(field->guest));
    }
    u8 const reg = fields.reg.present ? fields.reg.host : insn.reg;
    u8 const vvvv = fields.vvvv.present ? fields.vvvv.host : insn.vvvv;
    bool const high_byte = names_high_byte(insn);
    if (high_byte) {
        m_asm.xchg(x86::rsi, m_plan.address);
        where = x86::rsi;
    }
    u8* const begin = here();
    emit_encoded(insn, reg, vvvv, 0, &where);
    if (may_trap(insn))
        note_trap_point(step, begin);
    if (high_byte)
        m_asm.xchg(x86::rsi, m_plan.address);
    for (Field const* field : { &fields.reg, &fields.vvvv }) {
        if (field->present && spilled(field->guest) && (field->use & x86::use_write))
            m_asm.gs_store(true, gpr_offset(field->guest), field->host);
    }
}

// --- forms with operands that ModRM does not tell ---

// BT, BTS, BTR, BTC m, r: the register is a signed bit offset from the operand's address (SDM vol. 2 table 3-2).
void Translator::emit_bit_test_memory(Step const& step)
{
    auto const& insn = step.insn;
    clobber_flags(live_before(step));
    emit_effective_address(insn);
    HostRegister offset = insn.reg;
    if (spilled(offset)) {
        m_asm.gs_load(true, m_plan.a, gpr_offset(offset));
        offset = m_plan.a;
    }
    // What is left of the offset within the operand waits for the look-up to be done.
    m_asm.mov32(m_plan.b, offset);
    m_asm.arithmetic_imm(Arithmetic::and_, false, m_plan.b, insn.operand_size * 8 - 1);
    m_asm.gs_store(true, scratch_offset(1), m_plan.b);
    // r13 = floor(offset / width), times bytes.
    unsigned const shift = insn.operand_size == 8 ? 6 : insn.operand_size == 4 ? 5 : 4;
    if (insn.operand_size == 8)
        m_asm.mov(m_plan.a, offset);
    else if (insn.operand_size == 4) {
        m_asm.rex(true, m_plan.a, 0, offset);
        m_asm.byte(0x63); // MOVSXD
        m_asm.modrm(3, m_plan.a, offset);
    } else {
        m_asm.rex(true, m_plan.a, 0, offset);
        m_asm.byte(0x0f);
        m_asm.byte(0xbf); // MOVSX from 16 bits
        m_asm.modrm(3, m_plan.a, offset);
    }
    m_asm.sar(true, m_plan.a, static_cast<u8>(shift));
    m_asm.lea(insn.address_size == 8, m_plan.address, m_plan.address, m_plan.a, insn.operand_size, 0);
    if (insn.address_size == 2)
        m_asm.movzx16(m_plan.address, m_plan.address);
    bool const writes = insn.info->memory != MemoryAccess::read;
    Reference const reference = emit_translate({ .segment = insn.segment, .size = insn.operand_size, .access = writes ? Access::write : Access::read, .reads = true });
    if (reference.site)
        reference.site->locked = insn.lock;
    emit_access(reference, [&](HostMemory where) {
        before(step);
        m_asm.gs_load(true, m_plan.a, scratch_offset(1));
        emit_encoded(insn, m_plan.a, insn.vvvv, 0, &where);
    });
}

void Translator::emit_move_offset(Step const& step)
{
    auto const& insn = step.insn;
    emit_effective_address(insn);
    clobber_flags(step.live_after);
    unsigned const width = insn.info->byte_operand ? 1 : insn.operand_size;
    bool const store = (insn.opcode & 2) != 0;
    Reference const reference = emit_translate({ .segment = insn.segment, .size = static_cast<u16>(width), .access = store ? Access::write : Access::read, .reads = !store });
    emit_access(reference, [&](HostMemory where) {
        store ? m_asm.store(width, where, x86::rax) : m_asm.load(width, x86::rax, where);
    });
}

// XCHG rAX, r: in 64-bit host code 90h with R8 and R13-R15 needs REX, and plain 90h would be NOP.
// 64-bit code has REX prefixes in their place: the two-byte form.
void Translator::emit_inc_dec_short(Step const& step)
{
    before(step);
    if (step.insn.operand_size == 2)
        m_asm.byte(0x66);
    m_asm.byte(0xff);
    m_asm.modrm(3, step.insn.opcode & 8 ? 1 : 0, step.insn.opcode & 7);
}

void Translator::emit_exchange_accumulator(Step const& step)
{
    auto const& insn = step.insn;
    HostRegister reg = insn.rm;
    bool const in_memory = spilled(reg);
    if (in_memory)
        m_asm.gs_load(true, reg, gpr_offset(reg));
    if (insn.operand_size == 2)
        m_asm.byte(0x66);
    m_asm.rex(insn.operand_size == 8, reg, 0, x86::rax);
    m_asm.byte(0x87);
    m_asm.modrm(3, reg, x86::rax);
    if (in_memory)
        m_asm.gs_store(true, gpr_offset(reg), reg);
}

void Translator::emit_lea(Step const& step)
{
    auto const& insn = step.insn;
    if (is64() && !spilled(insn.reg) && !spilled(insn.base) && !spilled(insn.index) && !insn.rip_relative && !insn.lock)
        return m_asm.bytes(insn.bytes, insn.length);
    emit_effective_address(insn);
    HostRegister to = insn.reg;
    bool const in_memory = spilled(to);
    if (in_memory) {
        to = m_plan.a;
        if (insn.operand_size == 2)
            m_asm.gs_load(true, to, gpr_offset(insn.reg));
    }
    if (insn.operand_size == 8)
        m_asm.mov(to, m_plan.address);
    else if (insn.operand_size == 4)
        m_asm.mov32(to, m_plan.address);
    else
        m_asm.mov16(to, m_plan.address);
    if (in_memory)
        m_asm.gs_store(true, gpr_offset(insn.reg), to);
}

} // namespace anyhyve::soft
