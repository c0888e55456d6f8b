// REP MOVS and REP STOS of 64-bit code on pages that the look-aside table knows: see string_thunks.hpp.
// Source: Intel SDM vol. 1 7.3.9 and vol. 2, REP: an element is read before the next one is written, and the registers are behind the last one done
// whenever something comes in between.
#include "engine/soft/string_thunks.hpp"

#include <cstddef>

#include "engine/soft/block.hpp"
#include "engine/soft/thunks.hpp"

// As in thunks.cpp.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace anyhyve::soft {

using x86::rbx;
using x86::rcx;
using x86::rdi;
using x86::rsi;

namespace {

constexpr unsigned direction_flag_bit = 10;
constexpr HostRegister destination_slot = x86::r13, source_slot = x86::r14, site = x86::r15;

// One of them: elements of `width`, by one of the look-aside tables. RBX is a fourth scratch register, its value in the Cpu as long; what is left of
// RCX is there while a piece is done.
class StringThunk {
public:
    StringThunk(Assembler& assembler, StringThunks::Kind kind, unsigned width, TlbIndex table)
        : m_asm(assembler), m_moves(kind == StringThunks::Kind::move), m_width(width), m_tlb(table)
    {
    }
    // `general`: the thunk that asks execute_string_move() and its like. Returns where this one begins; all in the writable view.
    u8* emit(u8* general);

private:
    void emit_room(HostRegister to, HostRegister address);
    void emit_choose_piece(u8 const* slow);
    void emit_probe(HostRegister address, HostRegister slot, u32 tag, u8 const* unknown);
    void emit_host_instruction();
    void jump_if(Condition condition, u8 const* target) { Assembler::patch(m_asm.jump_forward(condition), target); }

    Assembler& m_asm;
    bool m_moves;
    unsigned m_width;
    TlbIndex m_tlb;
};

// Bytes up to the end of the page.
void StringThunk::emit_room(HostRegister to, HostRegister address)
{
    m_asm.lea(true, to, address, Assembler::no_register, 1, 0x1000);
    m_asm.arithmetic_imm(Arithmetic::and_, true, to, -0x1000);
    m_asm.arithmetic(Arithmetic::sub, true, to, address);
}

// RCX = elements that are in one page, of both operands; those behind them are counted in the Cpu.
void StringThunk::emit_choose_piece(u8 const* slow)
{
    emit_room(rbx, rdi);
    if (m_moves) {
        emit_room(source_slot, rsi);
        m_asm.arithmetic(Arithmetic::cmp, true, rbx, source_slot);
        m_asm.move_if(Condition::above, rbx, source_slot);
    }
    if (m_width != 1) {
        m_asm.shr(false, rbx, static_cast<u8>(std::countr_zero(m_width)));
        jump_if(Condition::equal, slow); // the next one lies across the end
    }
    m_asm.arithmetic(Arithmetic::cmp, true, rbx, rcx);
    m_asm.move_if(Condition::above, rbx, rcx);
    m_asm.arithmetic(Arithmetic::sub, true, rcx, rbx);
    m_asm.gs_store(true, gpr_offset(rcx), rcx);
    m_asm.mov(rcx, rbx);
}

void StringThunk::emit_probe(HostRegister address, HostRegister slot, u32 tag, u8 const* unknown)
{
    m_asm.mov32(slot, address);
    m_asm.shr(false, slot, 7);
    m_asm.arithmetic_imm(Arithmetic::and_, false, slot, (tlb_entries - 1) << 5);
    m_asm.mov(rbx, address);
    m_asm.arithmetic_imm(Arithmetic::and_, true, rbx, -0x1000);
    m_asm.gs_arithmetic(Arithmetic::cmp, true, rbx, tag, slot);
    jump_if(Condition::not_equal, unknown);
}

// As wide as the guest's: where the operands overlap it comes out the same.
void StringThunk::emit_host_instruction()
{
    m_asm.byte(0xf3);
    if (m_width == 2)
        m_asm.byte(0x66);
    m_asm.rex(m_width == 8, 0, 0, 0);
    m_asm.byte(static_cast<u8>((m_moves ? 0xa4 : 0xaa) + (m_width == 1 ? 0 : 1)));
}

u8* StringThunk::emit(u8* general)
{
    u32 const addend = tlb_addend_offset(m_tlb);
    u8* const done = m_asm.position();
    m_asm.gs_load(true, rbx, gpr_offset(rbx));
    m_asm.load(8, site, HostMemory(site, HostMemory::no_register, offsetof(OperationSite, resume)));
    m_asm.jump_register(site);
    u8* const unknown = m_asm.position();
    m_asm.gs_arithmetic(Arithmetic::add, true, rcx, gpr_offset(rcx));
    jump_if(Condition::equal, done); // nothing to do, wherever that is
    u8* const slow = m_asm.position();
    m_asm.gs_load(true, rbx, gpr_offset(rbx));
    m_asm.jump(general);

    u8* const start = m_asm.position();
    m_asm.gs_store(true, gpr_offset(rbx), rbx);
    m_asm.gs_test_imm8(rflags_offset() + direction_flag_bit / 8, 1 << direction_flag_bit % 8);
    jump_if(Condition::not_equal, slow);
    u8* const again = m_asm.position();
    emit_choose_piece(slow);
    emit_probe(rdi, destination_slot, tlb_write_tag_offset(m_tlb), unknown);
    if (m_moves) {
        emit_probe(rsi, source_slot, tlb_read_tag_offset(m_tlb), unknown);
        m_asm.gs_arithmetic(Arithmetic::add, true, rsi, addend, source_slot);
    }
    m_asm.gs_arithmetic(Arithmetic::add, true, rdi, addend, destination_slot);
    emit_host_instruction();
    m_asm.gs_arithmetic(Arithmetic::sub, true, rdi, addend, destination_slot);
    if (m_moves)
        m_asm.gs_arithmetic(Arithmetic::sub, true, rsi, addend, source_slot);
    m_asm.gs_arithmetic(Arithmetic::or_, true, rcx, gpr_offset(rcx));
    jump_if(Condition::equal, done);
    m_asm.gs_compare_imm8(false, poll_offset(), 0);
    jump_if(Condition::equal, again);
    m_asm.jump(slow);
    return start;
}

} // namespace

StringThunks StringThunks::generate(CodeCache& cache, u8* general)
{
    constexpr u64 most_code = 8192;
    u8* const begin = cache.code_space(most_code);
    Assembler assembler(begin, begin + most_code);
    StringThunks thunks;
    thunks.m_code = cache.executable(begin);
    for (Kind const kind : { Kind::move, Kind::store }) {
        for (unsigned const width : { 1u, 2u, 4u, 8u }) {
            for (unsigned table = 0; table < tlb_index_count; ++table) {
                u8* const start = StringThunk(assembler, kind, width, static_cast<TlbIndex>(table)).emit(cache.writable(general));
                thunks.m_begin[static_cast<unsigned>(kind)][std::countr_zero(width)][table] = cache.executable(start);
            }
        }
    }
    ASSERT(!assembler.overflowed(), "the string instructions' passages fit their space");
    cache.commit_code(assembler.position());
    return thunks;
}

} // namespace anyhyve::soft
