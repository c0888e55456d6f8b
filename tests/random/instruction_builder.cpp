// Random encodings and operand addresses: see instruction_builder.hpp.
#include "instruction_builder.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace anyhyve::random_test {

using namespace x86;

bool unfit_for_host(Instruction const& insn)
{
    switch (insn.info->operation) {
    // System calls and far transfers: the host kernel's, or its descriptor tables'.
    case Operation::jump_far: case Operation::call_far: case Operation::return_far: case Operation::interrupt: case Operation::interrupt_return:
    case Operation::syscall: case Operation::sysret: case Operation::sysenter: case Operation::sysexit:
    case Operation::move_to_segment: case Operation::pop_segment: case Operation::load_far_pointer:
    case Operation::load_access_rights: case Operation::load_segment_limit: case Operation::verify_read: case Operation::verify_write:
    // What the kernel emulates when the CPU has UMIP.
    case Operation::sgdt: case Operation::sidt: case Operation::sldt: case Operation::str: case Operation::smsw:
    // Clocks and identity.
    case Operation::cpuid: case Operation::rdtsc: case Operation::rdtscp: case Operation::rdpid: case Operation::rdpmc: case Operation::xgetbv:
    case Operation::rdpkru: case Operation::wrpkru: case Operation::read_fs_base: case Operation::write_fs_base: case Operation::write_gs_base:
    case Operation::monitor: case Operation::mwait:
    case Operation::interrupt1: // hypervisors intercept it, not all of them well
    // Images with host addresses, or of more components than a guest has.
    case Operation::fxsave: case Operation::fxrstor: case Operation::xsave: case Operation::xsavec: case Operation::xsaveopt: case Operation::xsaves:
    case Operation::xrstor: case Operation::xrstors: case Operation::fnsave: case Operation::frstor: case Operation::fnstenv: case Operation::fldenv:
        return true;
    default:
        break;
    }
    // The C library's FS stays as it is; segments without a descriptor behave as their maker likes.
    if (insn.segment_override == Segment::fs || (insn.segment_override == Segment::gs && insn.code_size != CodeSize::bits64))
        return true;
    // VMMCALL, RDPRU, CLZERO and more, which a hypervisor or the CPU may take although the table does not know them.
    if (insn.map == OpcodeMap::map_0f && insn.opcode == 0x01 && insn.mod == 3 && insn.info->operation == Operation::undefined)
        return true;
    // AMD lets 66 shorten near branches in 64-bit code, Intel ignores it there, and so do we.
    if (insn.code_size == CodeSize::bits64 && insn.info->size_rule == OperandSize::force64 && insn.operand_size_prefix && !(insn.rex & 8))
        return true;
    // AMD lets F3 make LOOPE of LOOPNE.
    if (insn.info->operation == Operation::loop && insn.repeat != RepeatPrefix::none)
        return true;
    // LOCK MOV CR0 is MOV CR8 on AMD.
    if (insn.map == OpcodeMap::map_0f && (insn.opcode & 0xfc) == 0x20 && insn.encoding == Encoding::legacy && insn.lock)
        return true;
    // AMD reads the operand of 0F 00 /6 and /7 before LOCK makes them #UD.
    if (insn.map == OpcodeMap::map_0f && insn.opcode == 0x00 && insn.encoding == Encoding::legacy && insn.lock)
        return true;
    // UD0 and UD1 have a ModRM byte on Intel only.
    if (insn.map == OpcodeMap::map_0f && (insn.opcode == 0xff || insn.opcode == 0xb9) && insn.encoding == Encoding::legacy)
        return true;
    // PREFETCH of a register: #UD on AMD, nothing on Intel.
    if (insn.map == OpcodeMap::map_0f && insn.opcode == 0x0d && insn.mod == 3)
        return true;
    // AMD takes EVEX.b in register forms without rounding or SAE for nothing, Intel for #UD (SDM vol. 2A 2.7.5), and so do we.
    if (insn.encoding == Encoding::evex && insn.evex_b && insn.mod == 3 && insn.info->operation == Operation::undefined)
        return true;
    // Zen 4 reads another register than it says for rSP with EVEX.X, which means nothing there: without what PUSH and CALL have done to it.
    if (insn.encoding == Encoding::evex && insn.code_size == CodeSize::bits64 && insn.info->rm_kind == FieldKind::gpr && insn.mod == 3 && (insn.rex & 2))
        return true;
    return insn.info->feature == Feature::rdrand || insn.info->feature == Feature::rdseed;
}

InstructionBuilder::InstructionBuilder(Random& random, soft::Cpuid const& cpuid, std::string const& filter) : m_random(random), m_cpuid(cpuid)
{
    for_each_opcode_form([&](OpcodeForm const& form) {
        if (std::string_view(form.info().name).find(filter) == std::string_view::npos || form.follows_another())
            return;
        bool const common = form.info().unit == Unit::integer && form.info().operation == Operation::copy && form.info().feature == Feature::base;
        for (auto size : { CodeSize::bits64, CodeSize::bits32 }) {
            if (!form.exists_in(size))
                continue;
            bool const is64 = size == CodeSize::bits64;
            (is64 ? m_forms64 : m_forms32).push_back(form);
            if (common)
                (is64 ? m_common64 : m_common32).push_back(form);
        }
    });
}

Kind InstructionBuilder::kind(Instruction const& insn)
{
    switch (insn.info->operation) {
    case Operation::undefined:
        return Kind::undefined;
    case Operation::copy: {
        bool const divide = insn.map == OpcodeMap::primary && (insn.opcode == 0xf6 || insn.opcode == 0xf7) && (insn.modrm >> 3 & 7) >= 6;
        return divide ? Kind::divide : Kind::ordinary;
    }
    case Operation::nop: case Operation::lea: case Operation::move_offset: case Operation::bit_test_memory: case Operation::xlat: case Operation::mask_move:
    case Operation::gather_scatter: case Operation::exchange_accumulator: case Operation::string_move: case Operation::string_compare:
    case Operation::string_store: case Operation::string_load: case Operation::string_scan: case Operation::cld: case Operation::std:
    case Operation::move_from_segment: case Operation::adjust_rpl: case Operation::pause: case Operation::read_gs_base: case Operation::aaa:
    case Operation::aas: case Operation::aad: case Operation::daa: case Operation::das: case Operation::salc: case Operation::inc_dec_short:
    case Operation::bound:
        return Kind::ordinary;
    case Operation::aam:
        return Kind::divide;
    case Operation::push: case Operation::pop: case Operation::push_immediate: case Operation::push_segment: case Operation::push_flags:
    case Operation::pop_flags: case Operation::push_all: case Operation::pop_all: case Operation::enter: case Operation::leave:
        return Kind::stack;
    case Operation::jump_conditional: case Operation::jump_relative: case Operation::jump_indirect: case Operation::call_relative:
    case Operation::call_indirect: case Operation::return_near: case Operation::loop: case Operation::jump_cx_zero: case Operation::interrupt3: case Operation::interrupt_overflow:
        return Kind::branch;
    default:
        return Kind::privileged;
    }
}

void InstructionBuilder::decode(Encoded& encoded, CodeSize size)
{
    if (x86::decode(encoded.bytes.data(), 16, size, encoded.insn) != DecodeStatus::ok)
        encoded.insn.length = 0;
}

bool InstructionBuilder::fit_to_run(Instruction const& insn) const
{
    if (insn.length == 0 || unfit_for_host(insn))
        return false;
    if (insn.info->operation != Operation::undefined && !m_cpuid.has(insn.info->feature))
        return false; // hidden from guests, yet the host runs it
    return true;
}

Encoded InstructionBuilder::sample_from(std::vector<OpcodeForm> const& from, CodeSize size)
{
    EncodingSampler<Random> sampler(m_random);
    for (;;) {
        auto const& form = from[m_random.below(from.size())];
        u8 bytes[16];
        sampler.sample(form, size, bytes);
        for (auto& byte : bytes) {
            bool const is_prefix = byte == 0x66 || byte == 0x67 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3 || (byte & 0xe7) == 0x26 || byte == 0x64 || byte == 0x65;
            if (!is_prefix)
                break;
            if (byte == 0x64 || (byte == 0x65 && size != CodeSize::bits64))
                byte = size == CodeSize::bits64 ? 0x65 : 0x3e;
            if (byte == 0x67 && size != CodeSize::bits64 && !m_random.one_in(8))
                byte = 0x3e; // 16-bit addresses are never mapped
        }
        Encoded encoded;
        std::copy(std::begin(bytes), std::end(bytes), encoded.bytes.begin());
        decode(encoded, size);
        if (fit_to_run(encoded.insn))
            return encoded;
    }
}

Encoded InstructionBuilder::sample(CodeSize size)
{
    return sample_from(forms(size), size);
}

Encoded InstructionBuilder::sample_common(CodeSize size)
{
    auto const& common = size == CodeSize::bits64 ? m_common64 : m_common32;
    return sample_from(common.empty() ? forms(size) : common, size);
}

u64 InstructionBuilder::tame_target(unsigned size)
{
    constexpr u64 pages[] = { 0, 1, 4, 6 };
    if (m_random.one_in(8))
        return layout::data + layout::page - m_random.below(size + 1); // two pages, both fine
    u64 const room = layout::page - size;
    u64 const alignment = m_random.one_in(4) ? 1 : m_random.one_in(3) ? 8 : 64;
    return layout::data + pages[m_random.below(4)] * layout::page + (m_random.below(room + 1) & ~(alignment - 1));
}

u64 InstructionBuilder::wild_target(unsigned size, CodeSize code_size)
{
    u64 const choice = m_random.below(100);
    if (choice < 62)
        return tame_target(size);
    if (choice < 78) // across the edge of any page
        return layout::data + m_random.below(8) * layout::page - m_random.below(size + 1);
    if (choice < 86)
        return layout::data + m_random.below(layout::data_size);
    if (choice < 90)
        return layout::code + m_random.below(layout::code_size);
    if (choice < 94 || code_size != CodeSize::bits64)
        return m_random() & (code_size == CodeSize::bits64 ? 0x00007fffffffffff : 0xffffffff);
    if (choice < 97)
        return (m_random.one_in(2) ? 0x0000800000000000 : 0xffff800000000000) - m_random.below(size * 2 + 1) + m_random.below(3);
    return m_random();
}

void InstructionBuilder::set_displacement(Encoded& encoded, i64 displacement)
{
    auto& insn = encoded.insn;
    unsigned at = insn.modrm_offset + 1u + insn.has_sib, size = insn.mod == 1 ? 1 : insn.address_size == 2 ? 2 : 4;
    if (insn.modrm_offset == 0) {
        at = insn.opcode_offset + 1u; // MOV moffs
        size = insn.address_size;
    } else if (insn.mod == 0 && !(insn.base == 0xff && (insn.modrm & 7) >= 4))
        return;
    std::memcpy(&encoded.bytes[at], &displacement, size);
}

u64 InstructionBuilder::address(Instruction const& insn, std::array<u64, 16> const& gpr, u64 next_rip)
{
    u64 value = static_cast<u64>(insn.displacement) + (insn.rip_relative ? next_rip : 0);
    if (insn.base < 16)
        value += gpr[insn.base];
    if (insn.index < 16 && !insn.info->vsib)
        value += gpr[insn.index] * insn.scale;
    return insn.address_size == 8 ? value : value & (insn.address_size == 4 ? 0xffffffff : 0xffff);
}

} // namespace anyhyve::random_test
