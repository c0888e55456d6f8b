// Which of the guest's registers a hot block keeps in memory, and when the stack pointer is where the guest has it.
// Outside of hot blocks R13-R15 are in memory, always (thunks.hpp).
#include "engine/soft/operations.hpp"
#include "engine/soft/translator.hpp"

namespace anyhyve::soft {

using x86::Operation;

// Registers that must stay in the host's: those that the encoding does not name, and AH to BH.
static u16 pinned_registers(x86::Instruction const& insn)
{
    u16 pinned = insn.info->implicit_read | insn.info->implicit_write;
    switch (insn.info->operation) {
    case Operation::leave:
        pinned |= 1 << x86::rbp;
        break;
    case Operation::exchange_accumulator:
    case Operation::move_offset:
        pinned |= 1 << x86::rax;
        break;
    default:
        break;
    }
    auto const high_byte = [&](x86::FieldKind kind, u8 reg) {
        if (kind == x86::FieldKind::gpr8 && insn.rex == 0 && insn.encoding == x86::Encoding::legacy && reg >= 4 && reg < 8)
            pinned |= static_cast<u16>(1 << (reg - 4));
    };
    high_byte(insn.info->reg_kind, insn.reg);
    if (!insn.has_memory)
        high_byte(insn.info->rm_kind, insn.rm);
    return pinned;
}

// Where the block's last instruction jumps back to its first.
bool Translator::loops_to_itself() const
{
    Step const& last = m_steps[m_step_count - 1];
    auto const operation = last.insn.info->operation;
    return (operation == Operation::jump_conditional || operation == Operation::jump_relative) && mask_rip(rip_behind(last) + last.insn.immediate) == m_rip && !starts_in_memory();
}

// R13-R15 change places with registers that the block hardly uses. Going in and out costs a move for each, but for a block that loops to itself.
void Translator::choose_plan()
{
    if (!m_hot || !is64())
        return;
    unsigned uses[16] {};
    u16 pinned = 1 << x86::rsp;
    m_written = 0;
    for (unsigned i = 0; i < m_step_count; ++i) {
        auto const& insn = m_steps[i].insn;
        if (!has(insn, stays_in_code))
            return;
        pinned |= pinned_registers(insn);
        auto const used = x86::general_registers(insn);
        m_written |= used.written;
        for (unsigned reg = 0; reg < 16; ++reg)
            uses[reg] += (used.read >> reg & 1u) + (used.written >> reg & 1u);
    }
    unsigned const worth = loops_to_itself() || m_cache.heat() == CodeCache::Heat::always ? 1 : 5; // tests want to see it
    u16 in_memory = 0xe000;
    for (u16 spilled_register = 13; spilled_register < 16; ++spilled_register) {
        int best = -1;
        for (int reg = 12; reg >= 0; --reg) {
            if (!((pinned | in_memory) >> reg & 1) && (best < 0 || uses[reg] < uses[best]))
                best = reg;
        }
        if (best >= 0 && uses[spilled_register] >= uses[best] + worth)
            in_memory = static_cast<u16>((in_memory & ~(1 << spilled_register)) | 1 << best);
    }
    HostRegister free[3] {};
    unsigned count = 0;
    for (HostRegister reg = 16; reg-- > 0;) {
        if (in_memory >> reg & 1)
            free[count++] = reg;
    }
    m_hot_plan = { .in_memory = in_memory, .a = free[2], .address = free[1], .b = free[0] };
    if (m_hot_plan.usual())
        m_hot_plan = {};
}

// From the usual plan. `kept`: r14's value goes to the new address register.
void Translator::enter_plan(RegisterPlan const& plan, AddressRegister address)
{
    ASSERT(m_plan.usual(), "plans are entered from the usual one");
    m_plan = plan;
    if (plan.usual())
        return;
    for (HostRegister reg = 0; reg < first_spilled; ++reg) {
        if (plan.in_memory >> reg & 1)
            m_asm.gs_store(true, gpr_offset(reg), reg);
    }
    if (address == AddressRegister::kept && plan.address != address_register)
        m_asm.mov(plan.address, address_register);
    for (HostRegister reg = first_spilled; reg < 16; ++reg) {
        if (!(plan.in_memory >> reg & 1))
            m_asm.gs_load(true, reg, gpr_offset(reg));
    }
}

// Back to the usual plan; flags stay. `kept`: the address register's value goes to r14.
void Translator::leave_plan(AddressRegister address)
{
    ASSERT(m_stack_pending == 0, "the stack pointer is right where a block ends");
    RegisterPlan const plan = m_plan;
    m_plan = {};
    m_addend_slot = no_slot;
    if (plan.usual())
        return;
    for (HostRegister reg = first_spilled; reg < 16; ++reg) {
        if (!(plan.in_memory >> reg & 1) && (m_written >> reg & 1))
            m_asm.gs_store(true, gpr_offset(reg), reg);
    }
    if (address == AddressRegister::kept && plan.address != address_register)
        m_asm.mov(address_register, plan.address);
    for (HostRegister reg = 0; reg < first_spilled; ++reg) {
        if (plan.in_memory >> reg & 1)
            m_asm.gs_load(true, reg, gpr_offset(reg));
    }
}

// --- the stack pointer ---

// Pushes and pops next to each other move it once, at the end.
void Translator::settle_stack_pointer()
{
    if (m_stack_pending == 0)
        return;
    m_asm.lea(true, x86::rsp, x86::rsp, Assembler::no_register, 1, m_stack_pending);
    m_stack_pending = 0;
}

// Does this step need to find the stack pointer in its place?
bool Translator::minds_stack_pointer(Step const& step) const
{
    auto const& insn = step.insn;
    switch (insn.info->operation) {
    case Operation::push:
    case Operation::pop:
        return !shares_check(step) || insn.has_memory || insn.rm == x86::rsp;
    case Operation::push_immediate:
    case Operation::call_relative:
    case Operation::return_near:
        return !shares_check(step);
    case Operation::nop:
        return false;
    case Operation::copy:
        if (insn.has_memory)
            return true;
        return may_trap(insn) || ((x86::general_registers(insn).read | x86::general_registers(insn).written) >> x86::rsp & 1);
    default:
        return true;
    }
}

} // namespace anyhyve::soft
