// Guest code to host code, one block at a time: decode, flag liveness, emit.
// The guest's instructions are copied; only their registers R13-R15 and their memory operands are re-encoded, and what the
// host must not run itself (control flow, stack, segments, system) becomes code of ours or a call.
#pragma once

#include "engine/soft/assembler.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/thunks.hpp"

namespace anyhyve::soft {

class Translator {
public:
    Translator(Cpu& cpu, CodeCache& cache, Thunks const& thunks) : m_cpu(cpu), m_cache(cache), m_thunks(thunks) {}

    // The block at cpu.rip under `mode`, whose first byte lies at `physical`. Call with the cache's lock held and room in the cache. `fault`: the
    // bytes cannot be fetched or are too long; cpu.fault is set. `jump`: some lie in a device, which is not to be asked with the lock held:
    // read_device_code(), and try once more.
    Outcome translate(u64 physical, ModeBits mode, Block*& block);
    void read_device_code();
    void forget_device_code() { m_device_code_count = 0; }
    // Are there careful translations of such code at all?
    static bool can_be_hot(ModeBits mode);

private:
    static constexpr unsigned most_instructions = 64;

    enum class FlagsIn : u8 { host, memory };
    // Which three of the guest's registers are in memory, so that the host's of the same names are free. Between blocks, and in all code but the
    // hot one's own, they are R13-R15.
    struct RegisterPlan {
        u16 in_memory = 0xe000;
        HostRegister a = scratch_a, address = address_register, b = scratch_b;
        bool usual() const { return in_memory == 0xe000; }
    };
    // What becomes of the address register when the plan changes.
    enum class AddressRegister : u8 { lost, kept };
    struct Late;
    struct Step {
        x86::Instruction insn;
        i16 offset;          // from the block's start
        bool goes_elsewhere; // a jump that leads to the next step
        u16 live_after;      // arithmetic flags that something after it may read
        i8 group;            // which group its first memory operand belongs to, or of cold code which run of stack accesses; -1: none
    };
    using Emit = void (Translator::*)(Step const&);

    // translate_decode.cpp: the block's instructions
    Outcome decode_block();
    Outcome decode_one(u64 offset, x86::Instruction&, bool& straddles);
    bool fetch_bytes(u64 physical, u8* to, unsigned size);
    u64 lines_translated() const;

    // translation_check.cpp
    void check_translation(Step const&, u8 const* begin, u16 addend_slot, RegisterPlan const&) const;
    bool addend_is_right(u8 const* begin, u16 slot) const;
    bool keeps_registers(Step const&, u8 const* begin) const;

    // hot_paths.cpp: which way hot code goes on
    enum class Heard : u8 { nothing, has_run, hot };
    bool goes_on(Step&, i64& offset) const;
    bool may_go_on_at(i64 offset) const;
    Heard heard_of(i64 offset) const; // of the code there
    void unroll_loop();
    void emit_side_exit(Condition, u64 target);

    // translate_flags.cpp: which flags matter, and where they are
    void find_liveness();
    bool may_reach_block(u64 linear) const;
    bool may_rewrite_block(Step const&) const;
    bool begins_with_clobber() const;
    bool starts_in_memory() const;
    static u16 live_before(Step const&);
    void clobber_flags(u16 live);
    void need_host_flags();
    void before(Step const&); // puts the flags where the copied instruction needs them

    // translator.cpp: the frame
    Outcome try_to_translate(u64 physical, ModeBits);
    void publish_block();
    bool allowed(x86::Instruction const&) const;
    bool device_not_available(x86::Instruction const&) const;
    void emit_block();
    void emit_entry();
    void emit_tail_guard();
    void emit_poll_keeping_flags();
    void emit_step(Step const&);
    bool is_last(Step const& step) const { return &step == &m_steps[m_step_count - 1]; }
    bool polls() const;
    void emit_poll_behind(Step const&);
    void emit_late_code();
    void emit_late(Late const&);
    void emit_steps(unsigned first);
    bool spilled(u8 reg) const { return reg < 16 && (m_plan.in_memory >> reg & 1); }
    void emit_call(Step const&, Execute, bool last);
    void emit_call(Step const&, Execute, bool last, u8* thunk);
    void emit_set_rip(u64 rip);

    // translate_memory.cpp: addresses, look-aside probes, slow ways
    struct MemoryOperand {
        x86::Segment segment;
        u16 size;
        Access access;
        bool reads;           // the old value matters
        u8 alignment = 0;
        bool ends_instruction = true;
        bool stack = false;   // relative to the stack pointer, 64-bit code: tried on the stack's page first
        bool stack_top = false; // a push: when it misses, the stack's page is set to this one
    };
    // An operand that has been looked up. Without a site nothing more can happen to it: whatever is odd has left for the careful copy of the block.
    struct Reference {
        AccessSite* site;
        HostMemory where;
    };
    void emit_effective_address(x86::Instruction const&, i64 extra_displacement = 0);
    void emit_stack_address(i32 displacement); // r14 = stack pointer + displacement, stack address size applied
    // The instruction's ModRM operand, looked up. Clobbers the scratch registers; saves live flags when it must.
    Reference emit_operand(Step const&, MemoryOperand const&);
    // r14 (offset in the segment) -> host pointer. Clobbers the flags and the scratch registers.
    Reference emit_translate(MemoryOperand const&);
    // The code that `body(HostMemory)` emits is position-independent. For writes with a site it stands once more behind the block, where it works
    // on the bounce buffer and ends in the commit thunk.
    template<typename Body>
    void emit_access(Reference const&, Body body);
    void emit_probe(u16 size, Access);
    void emit_page_of(u16 size, u64 mask = page_mask);
    void probe_look_aside(MemoryOperand const&, AccessSite*);
    void probe_stack_page(MemoryOperand const&, AccessSite*);
    void emit_stack_miss(MemoryOperand const&, AccessSite*);

    // translate_hot.cpp: code where time is spent. Its accesses remember a page each, and those to neighbouring addresses share one check.
    struct Group {
        bool writes;
        bool constant;       // the address is known; otherwise relative to a register
        bool checked;        // its check has been emitted
        u8 members;
        u16 root;            // which value the offsets are relative to,
        u16 index_root;      // plus this one times `scale`, unless it is none
        u8 scale;
        u8 region;           // no call of ours between its members
        i64 begin, end;      // offsets from that value that are accessed
        u8 check_at;         // the step before which its check stands: the first member's, or an earlier one where no flags are live
        u8 first_step;       // the first member's
        i64 first_offset;    // from that value, of what is known where the check stands:
        u8 first_base;       // this register,
        u8 first_index;      // plus this one times `scale`
        u16 slot;
        u8 last_step;        // the last member's
    };
    struct Candidate {       // an access whose address is a register, perhaps another one scaled, and a constant
        u8 base;             // 0xff: the address is a constant
        u8 index = 0xff;     // 0xff: none
        u8 scale = 1;
        i64 displacement;
        u16 size;
        bool writes;
    };
    static bool fits32(i64 value) { return value == static_cast<i32>(value); }
    struct Roots;
    void choose_plan();
    bool loops_to_itself() const;
    void enter_plan(RegisterPlan const&, AddressRegister = AddressRegister::lost);
    void leave_plan(AddressRegister = AddressRegister::lost);
    void settle_stack_pointer();
    bool minds_stack_pointer(Step const&) const;
    void find_groups();
    // Does the code in hand rely on the check of the step's group? Not what a hot block's careful copy is made of.
    bool shares_check(Step const& step) const { return step.group >= 0 && (m_hot || !m_block->hot); }
    u32 addend_offset(u16 slot) const;
    bool candidate(Step const&, Candidate&) const;
    void join_group(unsigned step, Candidate const&, Roots const&);
    bool leads_to(Group&, Roots const&) const;
    void place_check(Group&, Roots const* history) const;
    void emit_early_checks();
    Reference emit_group_member(Step const&, Group&, Candidate const&);
    void emit_group_check(Step const&, Group&);
    void emit_site_check(MemoryOperand const&);
    void emit_group_address(Group const&);
    bool rounds_are_alike() const;
    void emit_careful_copy();

    // stack_runs.cpp: accesses relative to the stack pointer, one after the other, share one look at the stack's page
    void find_stack_runs();
    void open_stack_run(unsigned step, i64 begin);
    bool join_stack_run(unsigned step, i64 begin, Candidate const&);
    void close_stack_run();
    bool stack_access(Step const&, Candidate&) const;
    bool follows_stack(Step const&, i64& stack) const;
    void emit_stack_run_check(Group const&);
    static bool adds_constant(x86::Instruction const&, i64& amount);

    // translate_copy.cpp: instructions that the host runs
    static bool may_trap(x86::Instruction const&); // may the host raise an exception of the guest's?
    void emit_copy(Step const&);
    void emit_copy_register_form(Step const&);
    void emit_copy_memory_form(Step const&);
    void emit_copy_body(Step const&, HostMemory);
    HostRegister free_scratch(HostMemory where, HostRegister taken) const;
    void emit_bit_test_memory(Step const&);
    void emit_move_offset(Step const&);
    void emit_exchange_accumulator(Step const&);
    void emit_inc_dec_short(Step const&);
    void emit_lea(Step const&);
    void emit_operation(Step const&);
    u8* string_thunk(x86::Instruction const&) const;

    // translate_system.cpp: system instructions that are worth their own code in ring 0
    bool emit_system(Step const&);
    void emit_swapgs();
    void emit_check_key_instruction();
    void emit_read_key_rights(Step const&);
    void emit_write_key_rights(Step const&);
    void emit_push_flags();
    void emit_base_access(Step const&, Execute);
    void emit_move_from_segment(x86::Instruction const&);
    void emit_sti();
    void emit_time_stamp(Step const&);
    void emit_pause(Step const&);
    void emit_user_access(Step const&, bool allowed);
    void emit_encoded(x86::Instruction const&, u8 reg, u8 vvvv, u8 rm_register, HostMemory const* memory);
    void note_trap_point(Step const&, u8* begin);
    void copy_trap_points(u8 const* begin, u8 const* end);
    void emit_pending_x87_check(Step const&);
    void emit_zero_eight(bool all);

    // translate_control.cpp: near control flow and the stack
    void emit_jump_relative(Step const&);
    void emit_jump_conditional(Step const&);
    void emit_jump_indirect(Step const&);
    void emit_loop(Step const&);
    void emit_call_relative(Step const&);
    void emit_call_indirect(Step const&);
    void emit_return(Step const&);
    void emit_push(Step const&);
    void emit_pop(Step const&);
    void emit_leave(Step const&);
    void emit_push_return(u64 rip, unsigned width);
    void emit_store_return(HostMemory where, u64 rip, unsigned width);
    void emit_stack_adjust(i32 amount);
    void emit_read_target(Step const&); // -> address register
    Reference emit_stack_access(i32 displacement, unsigned width, Access, bool ends_instruction = true);
    void emit_indirect_tail(Step const&, i32 stack_adjustment); // target in r14
    Edge* make_edge(u64 target);
    Edge* emit_edge(u64 target);
    void emit_edge(Edge*, JumpSite from);

    // When a profile is made: generated code counts. Flags stay; the first scratch register does not.
    void count(Counter counter)
    {
        if (m_cpu.profile)
            emit_count(m_asm, counter, m_plan.a);
    }

    u64 rip_of(Step const& step) const { return mask_rip(m_rip + step.offset); }
    u64 rip_behind(Step const& step) const { return mask_rip(m_rip + step.offset + step.insn.length); }
    u64 mask_rip(u64 rip) const;
    bool is64() const { return m_code_size == x86::CodeSize::bits64; }
    u8* here() { return m_cache.executable(m_asm.position()); }
    void jump_to_thunk(u8* thunk) { m_asm.jump(m_cache.writable(thunk)); }

    // Code that is needed rarely goes behind the block.
    struct Late {
        enum class Kind : u8 { access, edge, exit, poll, tail, copy, stack, stack_run, refill, wanderer };
        Kind kind;
        JumpSite from;
        AccessSite* site = nullptr;
        Edge* edge = nullptr;
        StackSite* stack_site = nullptr;
        bool segmented = false;
        u8* body_begin = nullptr; // of a copy: the code in line
        u8* body_end = nullptr;
        MemoryOperand operand {};
        // Of hot code: what to look up again, and where the careful copy of the block goes on when that fails.
        u8* resume = nullptr;
        u16 slot = 0;
        u8 step = 0;
        FlagsIn flags_in = FlagsIn::host;
        i8 group = -1;
        RegisterPlan plan {};
    };

    void note_check(JumpSite from, Late::Kind, Step const&, MemoryOperand const&, u16 slot);
    bool is_relied_on(u16 slot) const;
    u16 take_slot(Step const&, Access);
    u16 take_group_slot(Group const&);
    JumpSite emit_slot_compare(u16 slot, u16 size);

    // hot_misses.cpp: what a check has not found
    void emit_wanderer(Late const&);
    void emit_refill(Late const&);
    void emit_refill_run(Late const&, JumpSite (&impatient)[2], JumpSite& unknown);
    void emit_refill_page(Late const&, JumpSite (&impatient)[2], JumpSite& unknown);
    void emit_refill_constant(Late const&, JumpSite (&impatient)[2], JumpSite& unknown);
    JumpSite emit_patience(u16 slot);
    void emit_resume(Late const&);
    void emit_large_probe(u16 size, Access);
    void emit_fill_run(u16 slot, u32 addend_offset, u32 run_offset);
    void emit_fill_page(u16 slot);
    void emit_call_for_site(HotSite*, u8* thunk);
    void emit_restore_flags_for_copy(Late const&);
    void emit_leave_for_copy(Late const&);

    Cpu& m_cpu;
    CodeCache& m_cache;
    Thunks const& m_thunks;

    // Of one instruction, which may lie in two pages.
    struct DeviceCode {
        u64 physical = 0;
        unsigned size = 0;
        u8 bytes[15] {};
    };
    DeviceCode m_device_code[2];
    unsigned m_device_code_count = 0;
    DeviceCode m_missing_code; // to be read

    // of the block in hand
    u64 m_marked_up_to = 0; // lines of the page that were marked as translated, by offset
    Assembler m_asm;
    Block* m_block = nullptr;
    u64 m_rip = 0;
    u64 m_linear = 0;
    u64 m_physical = 0;
    ModeBits m_mode = 0;
    x86::CodeSize m_code_size = x86::CodeSize::bits16;
    TlbIndex m_tlb = tlb_user;
    Step m_steps[most_instructions];
    unsigned m_step_count = 0;
    unsigned m_room = most_instructions; // so many, and no more
    unsigned m_round_length = 0;         // of a loop that goes round more than once in the block, one round; otherwise all steps
    unsigned m_current = 0;
    FlagsIn m_flags_in = FlagsIn::host;
    u16 m_live_in = 0;
    bool m_ended = false; // the last step left the block
    // An instruction makes two accesses at most, with five entries together, and two in hot code; the block itself two ways out, a poll and a guard.
    static constexpr unsigned most_late = most_instructions * 7 + 8;
    Late m_late[most_late];
    unsigned m_late_count = 0;
    TrapPoint m_traps[most_instructions * 5];
    unsigned m_trap_count = 0;

    // hot code
    bool m_hot = false;       // what is emitted now may rely on slots
    static constexpr unsigned most_groups = 64;
    Group m_groups[most_groups];
    unsigned m_group_count = 0;
    static constexpr u16 no_slot = 0xffff;
    static constexpr u16 stack_slot = 0xfffe; // of groups that are runs of stack accesses: the stack's page
    u16 m_addend_slot = no_slot; // whose addend r15 holds
    RegisterPlan m_plan;         // in force where code is emitted now
    RegisterPlan m_hot_plan;     // of the block's hot code
    u16 m_written = 0;           // registers that the block changes
    int m_run_end = -1;          // up to which step accesses rely on the last look at the stack's page
    i32 m_stack_pending = 0;     // what the stack pointer still has to be moved by
    u8* m_loop_head = nullptr;   // writable view: where a block that jumps to itself goes on, without leaving the plan
    bool m_needs_copy[most_instructions];
    u8* m_copy_label[most_instructions]; // writable view: where the careful copy begins the instruction
    FlagsIn m_copy_flags[most_instructions];
};

template<typename Body>
void Translator::emit_access(Reference const& reference, Body body)
{
    u8* const begin = m_asm.position();
    body(reference.where);
    AccessSite* const site = reference.site;
    if (!site)
        return;
    site->resume_after = here();
    site->flags_in_memory_after = m_flags_in == FlagsIn::memory;
    if (site->access == Access::write)
        m_late[m_late_count++] = { .kind = Late::Kind::copy, .from = {}, .site = site, .body_begin = begin, .body_end = m_asm.position() };
}

} // namespace anyhyve::soft
